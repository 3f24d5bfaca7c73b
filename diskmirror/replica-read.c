/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the replica would hold if everything received so far were applied: its files, and over them
 * the held writes in the order they came. */
#include "diskmirror/replica-private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void overlay_one(struct answer *a, const struct disk_header *h, const void *data)
{
	uint64_t from = h->offset > a->h.offset ? h->offset : a->h.offset;
	uint64_t end = h->offset + h->length, want = a->h.offset + a->h.length;
	if (want < end)
		end = want;
	if (h->disk != a->h.disk || from >= end)
		return;
	uint8_t *to = a->data + (from - a->h.offset);
	if (data)
		memcpy(to, (const uint8_t *)data + (from - h->offset), end - from);
	else
		memset(to, 0, end - from);
}

static int overlay(struct replica *r, struct answer *a, struct mc_error *err)
{
	int n = 0;
	pthread_mutex_lock(&r->lock);
	const struct held_epoch *e = r->epochs;
	pthread_mutex_unlock(&r->lock);
	/* Epochs are removed under `files`, which we have, and added by this thread. */
	for (; n >= 0 && e; e = e->next) {
		struct held_cursor c;
		held_start(&c, e);
		while ((n = held_next(&c, err)) > 0)
			overlay_one(a, &c.h, c.data);
		held_done(&c);
	}
	return n;
}

/* The primary may ask faster than it takes the answers: then it waits. */
static int queue(struct replica *r, struct answer *a, struct mc_error *err)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += MESSAGE_TIME / MC_SEC;
	int w = 0;
	pthread_mutex_lock(&r->lock);
	while (w == 0 && !r->stop && !r->error.code && r->answers &&
		r->answers_bytes + a->h.length > ANSWERS_MAX)
		w = pthread_cond_timedwait(&r->changed, &r->lock, &until);
	bool gone = w != 0 || r->stop || r->error.code;
	if (!gone) {
		*r->answers_tail = a;
		r->answers_tail = &a->next;
		r->answers_bytes += a->h.length;
		assert(r->answers_bytes <= ANSWERS_MAX);
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	return !gone ? 0
		     : mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
			       "the primary reads from the disk stream but does not take the "
			       "answers");
}

int replica_read(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	struct answer *a = malloc(sizeof *a + h->length);
	if (!a)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to read this host's copy of a disk; free some");
	a->next = NULL;
	a->h = (struct disk_header){
		.type = DISK_DATA, .disk = h->disk, .offset = h->offset, .length = h->length};
	pthread_mutex_lock(&r->files);
	int n = diskfile_read(&r->files_[h->disk], a->data, h->offset, h->length, err);
	if (n == 0)
		n = overlay(r, a, err);
	pthread_mutex_unlock(&r->files);
	if (n == 0)
		n = queue(r, a, err);
	if (n < 0)
		free(a);
	return n;
}
