/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which ranges an epoch wrote to: whether a digest taken while the guest ran still holds. */
#include "diskmirror/mirror-private.h"

#include <stdlib.h>

void mirror_extents_add(struct mirror_extents *x, const struct disk_header *h)
{
	if (!x || x->all)
		return;
	if (x->n && x->v[x->n - 1].disk == h->disk &&
		x->v[x->n - 1].offset + x->v[x->n - 1].length == h->offset) {
		x->v[x->n - 1].length += h->length; /* of a sequential writer */
	} else if (x->n == MIRROR_EXTENTS_MAX) {
		x->all = true;
	} else {
		x->v[x->n].disk = h->disk;
		x->v[x->n].offset = h->offset;
		x->v[x->n++].length = h->length;
	}
}

void mirror_watch(struct mirror *m, bool on)
{
	struct mirror_extents *a = on ? calloc(1, sizeof *a) : NULL;
	struct mirror_extents *b = on ? calloc(1, sizeof *b) : NULL;
	bool both = a && b;
	if (both) /* of the epoch that runs already nobody knows the beginning */
		a->all = b->all = true;
	pthread_mutex_lock(&m->lock);
	struct mirror_extents *old_a = m->running, *old_b = m->closed;
	m->running = both ? a : NULL;
	m->closed = both ? b : NULL;
	pthread_mutex_unlock(&m->lock);
	if (!both) { /* for lack of memory everything counts as touched */
		free(a);
		free(b);
	}
	free(old_a);
	free(old_b);
}

bool mirror_touched(struct mirror *m, size_t disk, uint64_t offset, uint64_t length)
{
	pthread_mutex_lock(&m->lock);
	const struct mirror_extents *x = m->closed;
	bool touched = !x || x->all;
	for (size_t i = 0; !touched && i < x->n; i++)
		touched = x->v[i].disk == disk && x->v[i].offset < offset + length &&
			  offset < x->v[i].offset + x->v[i].length;
	pthread_mutex_unlock(&m->lock);
	return touched;
}
