/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backend's answer stands on: the list that it grows, and that there was a process to look
 * at. */
#include "mcd/guest/dirty/private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void dirty_list_free(struct dirty_list *l)
{
	free(l->v);
	*l = (struct dirty_list){0};
}

int dirty_list_add(
	struct dirty_list *l, uint32_t region, uint64_t off, uint64_t len, struct mc_error *err)
{
	assert(len && off % 4096 == 0 && len % 4096 == 0 && len <= UINT64_MAX - off);
	assert(!l->n || l->v[l->n - 1].region <= region);
	if (l->n && l->v[l->n - 1].region == region) {
		struct dirty_range *last = &l->v[l->n - 1];
		assert(last->off <= off);
		uint64_t end = last->off + last->len;
		if (off <= end) {
			if (off + len > end) {
				l->bytes += off + len - end;
				last->len = off + len - last->off;
			}
			return 0;
		}
	}
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 1024;
		struct dirty_range *v = realloc(l->v, cap * sizeof *v);
		if (!v)
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
				"no memory for a list of %zu dirty ranges", cap);
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = (struct dirty_range){region, off, len};
	l->bytes += len;
	return 0;
}

int dirty_check_alive(const struct dirty *d, struct mc_error *err)
{
	uint64_t entry;
	off_t at = (off_t)(d->region[0].addr / (uint64_t)getpagesize() * sizeof entry);
	/* Reads nothing once the last user of the address space is gone. */
	if (pread(d->pagemap_fd, &entry, sizeof entry, at) != sizeof entry)
		return mc_error_set(err, -ESRCH, MC_ECLASS_QMP,
			"QEMU (process %d) ended while its dirty pages were read", (int)d->pid);
	return 0;
}
