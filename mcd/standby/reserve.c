/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/reserve.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/vm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int reserve_descriptors(struct standby *s, struct mc_error *err)
{
	while (s->n_spare < STANDBY_SPARE) {
		int fd = fcntl(s->vm->wake, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return mc_error_set(err, -errno, MC_ECLASS_FAILED,
				"no descriptors are left for a takeover of %s (%s): raise "
				"LimitNOFILE= of mcd",
				s->vm->name, strerror(errno));
		s->spare[s->n_spare++] = fd;
	}
	return 0;
}

int reserve_room(struct standby *s, size_t devices_len, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	char dir[300];
	vm_run_dir(s->vm, dir, sizeof dir);
	int r = takeover_file_reserve(dir, devices_len, &s->room, &why);
	if (r == 0)
		return 0;
	if (s->committed) { /* it only matters should mcd die within a takeover */
		log_warn("%s: %s", s->vm->name, why.msg);
		return 0;
	}
	if (err)
		*err = why;
	return r;
}

void reserve_release(struct standby *s)
{
	while (s->n_spare)
		close(s->spare[--s->n_spare]);
}
