/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The standby's receiving thread.  A message is taken in this order: header, checked; whether its
 * place in the stream and its range are allowed; payload, whose digest must match; only then it is
 * held, or in epoch 0 applied.
 *
 * The sequence: epoch 0 (any number of writes), then epochs that follow each other without a gap,
 * each closed by its END.  Epoch n may begin once n - AHEAD_MAX is committed: a primary pauses the
 * guest for n + 1 only after the ACK of n, so at most one epoch is closed and not committed.
 */
#include "diskmirror/replica-private.h"

#include "common/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <xxhash.h>

#define IDLE     MC_SEC        /* between looks at whether it is over */
#define WRITEOUT (64ull << 20) /* of the synchronisation; what is left to flush at its end */

#define refuse(err, fmt, ...)                                                                      \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		fmt "; the disk stream is closed (damaged on the way, or a broken peer)",          \
		##__VA_ARGS__)

static int recv_error(int n, struct mc_error *err)
{
	if (n == -ENODATA)
		return mc_error_set(
			err, n, MC_ECLASS_UNREACHABLE, "the primary closed the disk stream");
	return mc_error_set(err, n, MC_ECLASS_UNREACHABLE,
		"the disk stream from the primary broke: %s", strerror(-n));
}

static int recv_payload(
	struct replica *r, const struct disk_header *h, void *buf, struct mc_error *err)
{
	int n = r->link->ops->recv(r->link, buf, h->length, mc_now() + MESSAGE_TIME);
	if (n < 0)
		return recv_error(n == -ENODATA ? -ECONNRESET : n, err);
	if (XXH3_64bits(buf, h->length) != h->digest)
		return refuse(err, "the payload of a disk message has a wrong digest");
	pthread_mutex_lock(&r->lock);
	r->stats.received_bytes += h->length;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static int check_range(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	if (h->disk >= r->hello.n_disks)
		return refuse(
			err, "a disk message names disk %u of %zu", h->disk, r->hello.n_disks);
	uint64_t size = r->files_[h->disk].size;
	if (h->offset > size || h->length > size - h->offset)
		return refuse(err, "a disk message is for bytes behind the end of disk %s",
			r->hello.disks[h->disk].id);
	return 0;
}

static struct held_epoch *newest(struct replica *r)
{
	struct held_epoch *e = r->epochs;
	while (e && e->next)
		e = e->next;
	return e;
}

/* The running epoch, which must be number n; begun if the one before has ended. */
static int running_epoch(
	struct replica *r, uint64_t n, struct held_epoch **ret, struct mc_error *err)
{
	struct held_epoch *e = newest(r);
	if (e && !e->ended) {
		if (e->n != n)
			return refuse(err, "a disk write of epoch %llu came within epoch %llu",
				(unsigned long long)n, (unsigned long long)e->n);
		*ret = e;
		return 0;
	}
	if (!r->numbered) {
		r->committed = r->ended = n - 1;
		r->numbered = true;
	}
	if (n != r->ended + 1)
		return refuse(err, "epoch %llu of the disk writes came when %llu was expected",
			(unsigned long long)n, (unsigned long long)r->ended + 1);
	if (n - r->committed > AHEAD_MAX)
		return refuse(err, "epoch %llu of the disk writes came when %llu was not committed",
			(unsigned long long)n, (unsigned long long)n - AHEAD_MAX);
	assert(r->committed <= r->ended && (!e || e->n == r->ended));
	struct held_epoch *new = held_new(r->hello.generation, n);
	if (!new)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to hold disk writes; free some on this host");
	if (e)
		e->next = new;
	else
		r->epochs = new;
	*ret = new;
	return 0;
}

/* Where the write of epoch n may go: *ret NULL for the files themselves. */
static int place_of(struct replica *r, uint64_t n, struct held_epoch **ret, struct mc_error *err)
{
	int x = 0;
	pthread_mutex_lock(&r->lock);
	if (n)
		x = running_epoch(r, n, ret, err);
	else if (r->numbered)
		x = refuse(err, "a disk write of the synchronisation came after it");
	else
		*ret = NULL;
	pthread_mutex_unlock(&r->lock);
	return x;
}

static int apply_now(struct replica *r, const struct held_record *rec, struct mc_error *err)
{
	struct diskfile *f = &r->files_[rec->h.disk];
	pthread_mutex_lock(&r->files);
	int n = diskio_op(r->sync_io, f, rec->h.type, rec->h.offset, rec->h.length, rec->data, err);
	pthread_mutex_unlock(&r->files);
	pthread_mutex_lock(&r->lock);
	assert(!r->numbered); /* from the first epoch on nothing goes into the files uncommitted */
	r->unhardened = true;
	r->disk_failed |= n < 0;
	uint64_t before = r->stats.applied_bytes;
	if (n == 0 && rec->h.type == DISK_WRITE)
		r->stats.applied_bytes += rec->h.length;
	uint64_t after = r->stats.applied_bytes;
	pthread_mutex_unlock(&r->lock);
	/* So that little is left to flush when the first epoch has to be durable. */
	if (r->c.durability != DISK_DURABILITY_NONE && before / WRITEOUT != after / WRITEOUT)
		sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	return n;
}

static int hold(
	struct replica *r, struct held_epoch *e, struct held_record **rec, struct mc_error *err)
{
	const struct disk_header *h = &(*rec)->h;
	uint64_t cost = held_cost(h), len = h->type == DISK_WRITE ? h->length : 0;
	uint8_t head[DISK_HEADER_SIZE];
	assert(h->epoch == e->n && !e->ended);
	disk_put_header(head, h);
	/* Once an epoch has something in the file, all that follows goes there: that is its
	 * order. */
	pthread_mutex_lock(&r->lock);
	assert(e->n > r->committed);
	bool keep = e->spill_fd < 0 && r->stats.held_bytes + cost <= r->c.budget;
	if (keep) {
		held_keep(e, mc_steal_ptr(*rec));
		r->stats.held_bytes += cost;
		assert(r->stats.held_bytes <= r->c.budget);
		if (r->stats.held_peak < r->stats.held_bytes)
			r->stats.held_peak = r->stats.held_bytes;
	} else {
		r->stats.spilled_bytes += len;
	}
	pthread_mutex_unlock(&r->lock);
	int n = keep ? 0 : held_spill(e, r->c.spill_dir, *rec, err);
	e->sum.writes++;
	e->sum.bytes += len;
	disk_digest_add(&e->digest, head);
	return n;
}

static int take_write(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	struct held_epoch *e = NULL;
	int n = check_range(r, h, err);
	if (n == 0)
		n = place_of(r, h->epoch, &e, err);
	if (n < 0)
		return n;
	_cleanup_free_ struct held_record *rec = held_record_new(h);
	if (!rec)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left for disk writes; free some on this host");
	if (disk_has_payload(h->type))
		n = recv_payload(r, h, rec->data, err);
	if (n < 0)
		return n;
	return e ? hold(r, e, &rec, err) : apply_now(r, rec, err);
}

static int take_end(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	uint8_t buf[64];
	struct disk_epoch_sum sum;
	struct held_epoch *e;
	assert(h->length <= sizeof buf); /* disk_get_header has seen to that */
	int n = recv_payload(r, h, buf, err);
	if (n == 0)
		n = disk_get_sum(buf, h->length, &sum, err);
	if (n == 0)
		n = place_of(r, h->epoch, &e, err);
	if (n < 0)
		return n;
	pthread_mutex_lock(&r->lock);
	assert(e && !e->ended && e->n == r->ended + 1 && e->n > r->committed);
	e->sum.digest = e->digest.h;
	if (memcmp(&e->sum, &sum, sizeof sum)) {
		n = refuse(err, "the disk writes of epoch %llu are not those that its end tells of",
			(unsigned long long)e->n);
	} else {
		e->flushed = h->flags & DISK_FLUSHED;
		e->ended = true;
		r->ended = e->n;
	}
	pthread_mutex_unlock(&r->lock);
	eventfd_write(r->kick, 1);
	return n;
}

static int take_error(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	uint8_t buf[DISK_TEXT_MAX];
	char text[DISK_TEXT_MAX + 1];
	int n = recv_payload(r, h, buf, err);
	if (n < 0)
		return n;
	disk_get_text(buf, h->length, text);
	return mc_error_set(
		err, -EREMOTEIO, MC_ECLASS_FAILED, "the primary ended the disk stream: %s", text);
}

static int take(struct replica *r, const struct disk_header *h, struct mc_error *err)
{
	int n;
	switch (h->type) {
	case DISK_WRITE:
	case DISK_ZERO:
	case DISK_TRIM:
		return take_write(r, h, err);
	case DISK_END:
		return take_end(r, h, err);
	case DISK_READ:
		n = check_range(r, h, err);
		return n < 0 ? n : replica_read(r, h, err);
	case DISK_ERROR:
		return take_error(r, h, err);
	default:
		return refuse(err, "a disk message of type %u is not for a standby that is running",
			h->type);
	}
}

static int receive_one(struct replica *r, struct mc_error *err)
{
	uint8_t head[DISK_HEADER_SIZE];
	struct disk_header h;
	int n = r->link->ops->recv(r->link, head, sizeof head, mc_now() + IDLE);
	if (n == -ETIMEDOUT) /* the checkpoint link watches over a silent primary */
		return 0;
	if (n < 0)
		return recv_error(n, err);
	n = disk_get_header(head, &h, err);
	return n < 0 ? n : take(r, &h, err);
}

void *replica_receiver(void *replica)
{
	struct replica *r = replica;
	struct mc_error err = MC_ERROR_INIT;
	bool over = false, ring = false;
	while (!over) {
		int n = receive_one(r, &err);
		if (n < 0) /* a lost link or the peer's own word need not be told */
			replica_break(
				r, &err, strcmp(err.cls, MC_ECLASS_UNREACHABLE) && n != -EREMOTEIO);
		pthread_mutex_lock(&r->lock);
		over = r->stop || r->error.code;
		ring = !r->stop && !r->told_broken;
		r->told_broken = over;
		pthread_mutex_unlock(&r->lock);
	}
	if (ring && r->c.broken)
		r->c.broken(r->c.ctx);
	return NULL;
}
