/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's requests do.  Runs in the NBD connections' threads.
 *
 * While the disks are being synchronised QEMU writes every block once, and most are on the standby
 * already when it has been one before.  Whole blocks whose digest is the one in the standby's table
 * are not sent.  The digest is computed without the lock; whether the entry is still good is asked
 * again under it, together with entering the queue, or a write to the same block could slip in
 * between and the standby would keep that one instead of ours.
 */
#include "diskmirror/mirror-private.h"

#include "common/clock.h"
#include "common/cleanup.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BLOCKS_MAX (DISK_DATA_MAX / DISK_BLOCK + 1) /* that a WRITE can touch */
#define ZERO_PIECE (64ull << 20) /* of a WRITE_ZEROES under one hold of the lock */

/* A range of one disk, seen as blocks: the i-th covers [start(i), end(i)) of the range. */
struct range {
	struct mirror *m;
	uint16_t disk;
	uint64_t offset, length;
};

struct plan {
	bool skip[BLOCKS_MAX];
	bool any;
	uint64_t skipped;
};

static uint64_t first_block(const struct range *r)
{
	return r->offset / DISK_BLOCK;
}

static uint64_t n_blocks(const struct range *r)
{
	return (r->offset + r->length - 1) / DISK_BLOCK - first_block(r) + 1;
}

static uint64_t block_start(const struct range *r, uint64_t i)
{
	uint64_t at = (first_block(r) + i) * DISK_BLOCK;
	return at > r->offset ? at : r->offset;
}

static uint64_t block_end(const struct range *r, uint64_t i)
{
	uint64_t at = (first_block(r) + i + 1) * DISK_BLOCK, end = r->offset + r->length;
	return at < end ? at : end;
}

/* All of the block, which at the end of the disk may be less than others, is in the range. */
static bool block_whole(const struct range *r, uint64_t i)
{
	uint64_t start = (first_block(r) + i) * DISK_BLOCK;
	uint64_t size = r->m->hello.disks[r->disk].size;
	uint64_t end = start + DISK_BLOCK < size ? start + DISK_BLOCK : size;
	return block_start(r, i) == start && block_end(r, i) == end;
}

static int no_memory(struct mirror *m)
{
	mirror_fail(m, -ENOMEM, MC_ECLASS_MEMORY,
		"there is no memory left on this host to mirror the VM's disks; free some, and "
		"protect the VM again");
	return -ESHUTDOWN;
}

static bool over(const struct mirror *m)
{
	return m->broken || m->closing;
}

/* Fills p for a WRITE: which blocks the standby has. */
static int make_plan(const struct range *r, const uint8_t *data, struct plan *p)
{
	struct mirror *m = r->m;
	uint8_t wanted[BLOCKS_MAX][DISK_DIGEST_SIZE];
	uint64_t n = n_blocks(r);

	*p = (struct plan){0};
	pthread_mutex_lock(&m->lock);
	const struct mirror_table *t = m->tables[r->disk];
	for (uint64_t i = 0; t && i < n; i++) {
		const uint8_t *d =
			block_whole(r, i) ? mirror_table_get(t, first_block(r) + i) : NULL;
		if (!d)
			continue;
		memcpy(wanted[i], d, DISK_DIGEST_SIZE);
		p->skip[i] = p->any = true;
	}
	bool end = over(m);
	pthread_mutex_unlock(&m->lock);

	for (uint64_t i = 0; p->any && i < n; i++) {
		if (!p->skip[i])
			continue;
		uint8_t have[DISK_DIGEST_SIZE];
		uint64_t at = block_start(r, i), len = block_end(r, i) - at;
		disk_hash_block(m->hash, data + (at - r->offset), (size_t)len, have);
		p->skip[i] = !memcmp(have, wanted[i], DISK_DIGEST_SIZE);
		p->skipped += p->skip[i] ? len : 0;
	}
	return end ? -ESHUTDOWN : 0;
}

/* Under the lock: nothing was sent meanwhile to any block that would be skipped. */
static bool plan_holds(const struct range *r, const struct plan *p)
{
	if (!p->skipped)
		return true;
	const struct mirror_table *t = r->m->tables[r->disk];
	for (uint64_t i = 0; i < n_blocks(r); i++)
		if (p->skip[i] && !(t && mirror_table_get(t, first_block(r) + i)))
			return false;
	return true;
}

/* One message for each run of blocks that are not skipped. */
static int make_items(const struct range *r, const struct plan *p, const uint8_t *data,
	struct mirror_item **ret, struct mirror_item **ret_last)
{
	struct mirror_item *first = NULL, *last = NULL;
	for (uint64_t i = 0, k, n = n_blocks(r); i < n; i = k) {
		for (k = i + 1; k < n && p->skip[k] == p->skip[i];)
			k++;
		if (p->skip[i])
			continue;
		uint64_t at = block_start(r, i);
		struct disk_header h = {.type = DISK_WRITE,
			.disk = r->disk,
			.offset = at,
			.length = block_end(r, k - 1) - at};
		struct mirror_item *item = mirror_item_new(&h, data + (at - r->offset));
		if (!item) {
			mirror_items_free(first);
			return -ENOMEM;
		}
		if (last)
			last->next = item;
		else
			first = item;
		last = item;
	}
	*ret = first;
	*ret_last = last;
	return 0;
}

/* Under the lock: into the queue with all of them, and the blocks' entries are void. */
static uint64_t add_items(const struct range *r, struct mirror_item *i)
{
	struct mirror *m = r->m;
	uint64_t position = 0;
	while (i) {
		struct mirror_item *next = i->next;
		if (m->tables[r->disk])
			mirror_table_void(m->tables[r->disk], i->h.offset, i->h.length);
		position = mirror_queue_add(m, i);
		i = next;
	}
	return position;
}

static int finish(struct mirror *m, uint64_t position, bool pressed)
{
	if (pressed && m->pressure_fn)
		m->pressure_fn(m->ctx);
	return mirror_queue_wait(m, position);
}

/* 0 and added (or nothing to add); -EAGAIN: the plan was overtaken. */
static int try_write(const struct range *r, const struct plan *p, void **data,
	uint64_t *ret_position, bool *ret_pressed)
{
	struct mirror *m = r->m;
	struct mirror_item *first, *last;
	if (make_items(r, p, *data, &first, &last) < 0)
		return -ENOMEM;

	pthread_mutex_lock(&m->lock);
	int e = over(m) ? -ESHUTDOWN : plan_holds(r, p) ? 0 : -EAGAIN;
	if (e == 0) {
		/* Once an epoch runs everything is sent: only a synchronisation skips. */
		assert(last || (p->skipped == r->length && !m->epoch));
		if (last) {
			last->owned = mc_steal_ptr(*data);
			last->cost += r->length;
		}
		*ret_position = add_items(r, first);
		*ret_pressed = mirror_queue_presses(m);
		m->stats.skipped_bytes += p->skipped;
		m->stats.requests++;
		m->stats.written_bytes += r->length;
		first = NULL;
	}
	pthread_mutex_unlock(&m->lock);
	mirror_items_free(first);
	return e;
}

static int do_write(void *ctx, unsigned disk, uint64_t offset, uint32_t length, void *d)
{
	struct mirror *m = ctx;
	_cleanup_free_ void *data = d;
	struct range r = {m, (uint16_t)disk, offset, length};
	uint64_t position = 0;
	bool pressed = false;
	int e;
	/* Ends: a block that stopped a plan is void, and never planned again. */
	do {
		struct plan p;
		e = make_plan(&r, data, &p);
		if (e == 0)
			e = try_write(&r, &p, &data, &position, &pressed);
	} while (e == -EAGAIN);
	if (e == -ENOMEM)
		return no_memory(m);
	return e < 0 ? e : finish(m, position, pressed);
}

/* Under the lock. */
static bool has_zeroes(const struct range *r, uint64_t i)
{
	const struct mirror_table *t = r->m->tables[r->disk];
	uint64_t block = first_block(r) + i;
	const uint8_t *d = t && block_whole(r, i) ? mirror_table_get(t, block) : NULL;
	return d && !memcmp(d, mirror_table_zero(t, block), DISK_DIGEST_SIZE);
}

/* Under the lock. */
static int zero_piece(const struct range *r, uint16_t type, uint64_t *position)
{
	struct mirror *m = r->m;
	/* Without a table the blocks do not matter, and after the synchronisation there is none. */
	uint64_t n = m->tables[r->disk] ? n_blocks(r) : 1;
	for (uint64_t i = 0, k; i < n; i = k) {
		bool skip = has_zeroes(r, i);
		for (k = i + 1; k < n && has_zeroes(r, k) == skip;)
			k++;
		uint64_t at = block_start(r, i);
		uint64_t end = k == n ? r->offset + r->length : block_end(r, k - 1);
		if (skip) {
			m->stats.skipped_bytes += end - at;
			continue;
		}
		struct disk_header h = {
			.type = type, .disk = r->disk, .offset = at, .length = end - at};
		struct mirror_item *item = mirror_item_new(&h, NULL);
		if (!item)
			return -ENOMEM;
		*position = add_items(r, item);
	}
	return 0;
}

static int do_zero(void *ctx, unsigned disk, uint64_t offset, uint32_t length, bool trim)
{
	struct mirror *m = ctx;
	uint64_t position = 0, end = offset + length;
	bool pressed = false;
	int e = 0;
	while (e == 0 && offset < end) {
		uint64_t stop = (offset / ZERO_PIECE + 1) * ZERO_PIECE;
		pthread_mutex_lock(&m->lock);
		struct range r = {m, (uint16_t)disk, offset,
			(stop < end && m->tables[disk] ? stop : end) - offset};
		e = over(m) ? -ESHUTDOWN : zero_piece(&r, trim ? DISK_TRIM : DISK_ZERO, &position);
		pressed |= mirror_queue_presses(m);
		m->stats.requests += offset + r.length == end;
		m->stats.written_bytes += r.length;
		pthread_mutex_unlock(&m->lock);
		offset += r.length;
	}
	if (e == -ENOMEM)
		return no_memory(m);
	return e < 0 ? e : finish(m, position, pressed);
}

/* Under the lock, which is dropped meanwhile.  True: answered. */
static bool wait_read(struct mirror *m, struct mirror_read *q)
{
	struct timespec until = mc_timespec(mc_now() + m->stall_after);
	bool late = false;
	while (q->state != MIRROR_READ_DONE && !over(m) && !late)
		late = pthread_cond_timedwait(&m->done, &m->lock, &until) == ETIMEDOUT;
	if (q->state == MIRROR_READ_DONE)
		return true;
	if (!over(m)) {
		pthread_mutex_unlock(&m->lock);
		mirror_fail(m, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
			"the standby has not said within %.1f s what its copy of a disk holds, so "
			"the disks are not mirrored any more; is the network between the hosts in "
			"order?",
			(double)m->stall_after / MC_SEC);
		pthread_mutex_lock(&m->lock);
	}
	/* The receiver may be writing into our buffer; the link is shut, so not for long. */
	while (q->state == MIRROR_READ_FILLING)
		pthread_cond_wait(&m->done, &m->lock);
	for (struct mirror_read **p = &m->reads; *p; p = &(*p)->next) {
		if (*p != q)
			continue;
		*p = q->next;
		if (!*p)
			m->reads_tail = p;
		break;
	}
	return q->state == MIRROR_READ_DONE;
}

static int do_read(void *ctx, unsigned disk, uint64_t offset, uint32_t length, void *buf)
{
	struct mirror *m = ctx;
	struct mirror_read q = {.buf = buf,
		.h = {.type = DISK_READ,
			.disk = (uint16_t)disk,
			.offset = offset,
			.length = length}};
	struct mirror_item *item = mirror_item_new(&q.h, NULL);
	if (!item)
		return no_memory(m);
	pthread_mutex_lock(&m->lock);
	m->stats.requests++;
	bool answered = false;
	if (!over(m)) {
		/* In the order of the queue, so that answers are matched to the right one. */
		mirror_queue_add(m, mc_steal_ptr(item));
		*m->reads_tail = &q;
		m->reads_tail = &q.next;
		answered = wait_read(m, &q);
	}
	pthread_mutex_unlock(&m->lock);
	free(item);
	return answered ? 0 : -ESHUTDOWN;
}

static void lost(void *ctx, unsigned disk)
{
	struct mirror *m = ctx;
	mirror_fail(m, -ECONNRESET, MC_ECLASS_QMP,
		"QEMU's connection for disk %s ended, or a write of it failed, and the standby's "
		"copy may lack something; protect the VM again",
		m->hello.disks[disk].id);
}

const struct nbd_ops mirror_nbd_ops = {
	.write = do_write,
	.zero = do_zero,
	.read = do_read,
	.lost = lost,
};
