/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One protection of a VM on its standby: greeting, message after message, and what follows their
 * end. */
#include "mcd/standby/standby.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/standby/ends.h"
#include "mcd/standby/epoch.h"
#include "mcd/standby/greet.h"
#include "mcd/standby/listen.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/receive.h"
#include "mcd/vm/machine.h"

#include <errno.h>

static void not_taken(struct standby *s, const struct link_peer *peer, const struct mc_error *err)
{
	struct vm *vm = s->vm;
	log_warn("%s: not taken as a standby of %s: %s", vm->name, peer->name, err->msg);
	ends_breach(s, err);
	standby_send_error(s, err);
	standby_free(s);
	vm_teardown(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "not taken as a standby: %s", err->msg);
}

/* One message, or what came instead of one. False: the standby's life is over. */
static bool go_on(struct standby *s)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = standby_receive(s, &err);
	if (r == 0)
		return true;
	if (r == -EINTR || r == -ETIMEDOUT) {
		bool look = standby_listen(s) || r == -ETIMEDOUT;
		r = s->disks ? replica_error(s->disks, &err) : 0;
		if (r == 0)
			return !look || ends_look(s, "the keep-alives of the primary stopped");
	}
	if (r == -ECANCELED)
		mc_error_set(&err, r, MC_ECLASS_STATE,
			s->discard ? "the primary ended the protection"
				   : "the primary handed it over");
	ends_link(s, &err);
	return ends_look(s, err.msg);
}

void standby_run(struct vm *vm, int fd, const struct link_peer *peer)
{
	struct mc_error err = MC_ERROR_INIT;
	struct standby s = {.vm = vm, .room.fd = -1};
	s.staged_tail = &s.staged;
	if (standby_greet(&s, fd, peer, &err) < 0) {
		not_taken(&s, peer, &err);
		return;
	}
	while (!vm->quit && go_on(&s))
		;
	epoch_drop_staged(&s);
	standby_free(&s);
	/* A waiting QEMU is of no use without us; but with the device state that was kept for a
	 * takeover it may be the only copy, and the next mcd finds it (restart.c). */
	if (vm->quit && vm_get_state(vm) != VM_UNPROTECTED && !s.kept && !s.won)
		vm_teardown(vm);
}
