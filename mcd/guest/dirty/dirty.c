/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The choice of a backend, and what is the same for both. */
#include "mcd/guest/dirty/private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct dirty_ops *ops_of(enum dirty_backend b)
{
	return b == DIRTY_SOFT_DIRTY ? &dirty_softdirty_ops : &dirty_pagescan_ops;
}

int dirty_probe(enum dirty_backend want, enum dirty_backend *ret_backend, struct mc_error *err)
{
	enum dirty_backend got = want == DIRTY_AUTO ? DIRTY_PAGEMAP_SCAN : want;
	struct mc_error first = MC_ERROR_INIT, second = MC_ERROR_INIT;
	int r = ops_of(got)->probe(&first);
	if (r < 0 && want == DIRTY_AUTO) {
		got = DIRTY_SOFT_DIRTY;
		if (ops_of(got)->probe(&second) < 0)
			/* The better backend's reason and cure, then the other's. */
			return mc_error_set(
				err, r, first.cls, "%.370s; %.370s", first.msg, second.msg);
	} else if (r < 0) {
		return mc_error_set(err, r, first.cls, "%s", first.msg);
	}
	if (ret_backend)
		*ret_backend = got;
	return 0;
}

static int check_regions(const struct dirty_region *regions, size_t n, struct mc_error *err)
{
	uint64_t page = (uint64_t)getpagesize();
	bool bad = !n || n > UINT32_MAX;
	for (size_t i = 0; !bad && i < n; i++)
		bad = regions[i].addr % page || regions[i].len % page || !regions[i].len ||
		      regions[i].addr + regions[i].len < regions[i].addr;
	if (bad)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"a region of guest memory is empty or not aligned to pages");
	return 0;
}

int dirty_open(pid_t pid, const struct dirty_region *regions, size_t n, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err)
{
	int r = check_regions(regions, n, err);
	if (r < 0)
		return r;
	enum dirty_backend got;
	r = dirty_probe(want, &got, err);
	if (r < 0)
		return r;
	struct dirty *d = calloc(1, sizeof *d);
	if (d)
		d->region = malloc(n * sizeof *regions);
	if (!d || !d->region) {
		free(d);
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to track dirty pages");
	}
	memcpy(d->region, regions, n * sizeof *regions);
	d->ops = ops_of(got);
	d->pid = pid;
	d->n = n;
	d->uffd = -1;
	d->fresh = true;

	char path[64];
	snprintf(path, sizeof path, "/proc/%d/pagemap", (int)pid);
	d->pagemap_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (d->pagemap_fd < 0)
		r = errno == ENOENT || errno == ESRCH
			    ? mc_error_set(err, -ESRCH, MC_ECLASS_QMP,
				      "QEMU (process %d) has ended", (int)pid)
			    : mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
				      "%s cannot be opened (%s); run mcd as root or with "
				      "CAP_SYS_PTRACE",
				      path, strerror(errno));
	if (!r)
		r = dirty_check_alive(d, err);
	if (!r)
		r = d->ops->arm(d, err);
	if (r < 0) {
		dirty_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

/* Sorted, merged, disjoint, within the regions, and with the right sum: whoever copies the pages,
 * and the standby that puts them in place, relies on it. */
static bool well_formed(const struct dirty *d, const struct dirty_list *list)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < list->n; i++) {
		const struct dirty_range *r = &list->v[i], *last = i ? r - 1 : NULL;
		bool behind = !last || last->region < r->region ||
			      (last->region == r->region && last->off + last->len < r->off);
		if (!behind || !r->len || r->region >= d->n || r->off > d->region[r->region].len ||
			r->len > d->region[r->region].len - r->off)
			return false;
		bytes += r->len;
	}
	return bytes == list->bytes;
}

int dirty_collect(struct dirty *d, struct dirty_list *list, struct mc_error *err)
{
	assert(list->n <= list->cap);
	list->n = 0;
	list->bytes = 0;
	int r = d->ops->collect(d, list, err);
	assert(r < 0 || well_formed(d, list));
	return r;
}

int dirty_peek(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err)
{
	return d->ops->peek(d, ret_bytes, err);
}

void dirty_close(struct dirty *d)
{
	if (!d)
		return;
	d->ops->disarm(d);
	if (d->pagemap_fd >= 0)
		close(d->pagemap_fd);
	free(d->peek.v);
	free(d->region);
	free(d);
}
