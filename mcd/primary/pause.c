/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/pause.h"

#include "common/clock.h"

#include <errno.h>

/* It stood already, and not by us.  Asked each time: an event may still be on its way. */
static int why_stopped(struct session *s, struct mc_error *err)
{
	enum guest_event why;
	int r = guest_why_stopped(s->vm->guest, s->timing.command, &why, err);
	if (r == 0)
		s->e.guest_state = why == GUEST_EVENT_SHUTDOWN   ? WIRE_GUEST_OFF
				   : why == GUEST_EVENT_PANICKED ? WIRE_GUEST_PANICKED
								 : WIRE_GUEST_STOPPED;
	return r;
}

int session_pause(struct session *s, struct mc_error *err)
{
	struct guest *g = s->vm->guest;
	if (!guest_paused_by_us(g)) /* not since the last epoch, because its output piled up */
		s->pause_began = mc_now();
	int r = guest_pause(g, s->timing.command, err);
	/* QEMU drains disk I/O that waits for us, who knows why */
	if (r == -ETIMEDOUT && s->disks.mirror)
		guest_mirror_yank(g, s->vm->cfg, MC_SEC, NULL);
	/* A guest that its administrator stopped is checkpointed like any other, and stays
	 * stopped. */
	return r < 0 || guest_paused_by_us(g) ? r : why_stopped(s, err);
}
