/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes of an epoch into the replica.  Up to FLIGHT of them are in the kernel at once, and it may
 * do them in any order; so one that touches the bytes of another in flight waits for all of them.
 */
#include "diskmirror/replica-io.h"

#include "diskmirror/seam.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#define FLIGHT      64
#define SUBMIT_EACH 16
#define ZEROES      (256u << 10)

struct op {
	struct diskfile *f; /* NULL: free */
	uint64_t off, len;
	const uint8_t *data;
};

struct diskio {
	bool uring;
	struct io_uring ring;
	struct op ops[FLIGHT];
	unsigned flying, unsubmitted;
	struct mc_error failed; /* the first one since the last drain */
};

static const uint8_t zeroes[ZEROES];

int diskio_new(bool uring, struct diskio **ret, struct mc_error *err)
{
	struct diskio *io = calloc(1, sizeof *io);
	if (!io)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to write a VM's disks; free some on this host");
	/* Without io_uring (sysctl kernel.io_uring_disabled, seccomp) plain writes do as well. */
	io->uring = uring && io_uring_queue_init(FLIGHT, &io->ring, 0) == 0;
	if (io->uring)
		io_uring_ring_dontfork(&io->ring);
	*ret = io;
	return 0;
}

void diskio_free(struct diskio *io)
{
	if (!io)
		return;
	assert(!io->flying);
	if (io->uring)
		io_uring_queue_exit(&io->ring);
	free(io);
}

static void fail(struct diskio *io, struct diskfile *f, int r)
{
	if (!io->failed.code)
		mc_error_set(&io->failed, r, MC_ECLASS_FAILED,
			"cannot write %s, this host's copy of disk %s: %s; %s", f->path, f->id,
			strerror(-r),
			r == -ENOSPC || r == -EDQUOT || r == -EFBIG
				? "free some space there and protect the VM again"
				: "look for errors of the device in the kernel's log");
}

static void finish(struct diskio *io, struct op *op, int res)
{
	/* Interrupted or short: the rest by hand, which also tells why (ENOSPC). */
	if (res == -EINTR || res == -EAGAIN)
		res = 0;
	if (res >= 0 && (uint64_t)res < op->len)
		res = seam_pwrite(op->f->fd, op->data + res, op->len - (uint64_t)res,
			op->off + (uint64_t)res);
	if (res < 0)
		fail(io, op->f, res);
	assert(io->flying && op->f);
	op->f = NULL;
	io->flying--;
}

static void submit(struct diskio *io, unsigned wait)
{
	for (;;) {
		int r = io_uring_submit_and_wait(&io->ring, wait);
		if (r >= 0)
			break;
		/* A broken ring would go on reading memory that its owner frees, into the disk. */
		if (r != -EINTR && r != -EAGAIN && r != -EBUSY)
			abort();
		if (r != -EINTR) /* short of kernel memory: take results, that frees some */
			break;
	}
	io->unsubmitted = io_uring_sq_ready(&io->ring);
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&io->ring, &cqe) == 0) {
		struct op *op = io_uring_cqe_get_data(cqe);
		finish(io, op, cqe->res);
		io_uring_cqe_seen(&io->ring, cqe);
	}
}

static void settle(struct diskio *io)
{
	while (io->flying)
		submit(io, 1);
}

static bool overlaps_flying(struct diskio *io, struct diskfile *f, uint64_t off, uint64_t len)
{
	for (struct op *op = io->ops; io->flying && op < io->ops + FLIGHT; op++)
		if (op->f == f && op->off < off + len && off < op->off + op->len)
			return true;
	return false;
}

static int start_write(
	struct diskio *io, struct diskfile *f, uint64_t off, uint64_t len, const void *data)
{
	if (!io->uring)
		return seam_pwrite(f->fd, data, len, off);
	int r = seam_before_write(f->fd, off, len);
	if (r < 0)
		return r;
	while (io->flying == FLIGHT)
		submit(io, 1);
	struct op *op = io->ops;
	while (op->f)
		op++;
	assert(op < io->ops + FLIGHT);
	*op = (struct op){f, off, len, data};
	io->flying++;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
	assert(sqe); /* never more in the ring than in flight */
	io_uring_prep_write(sqe, f->fd, data, (unsigned)len, off);
	io_uring_sqe_set_data(sqe, op);
	if (++io->unsubmitted >= SUBMIT_EACH)
		submit(io, 0);
	return 0;
}

static int write_zeroes(struct diskfile *f, uint64_t off, uint64_t len)
{
	int r = 0;
	for (uint64_t n; r == 0 && len; off += n, len -= n) {
		n = len < ZEROES ? len : ZEROES;
		r = seam_pwrite(f->fd, zeroes, n, off);
	}
	return r;
}

/* Both ways of asking the file system leave zeroes; they differ in what becomes of the space.  Any
 * failure of it (not supported, not aligned to a device's sectors) is answered by writing. */
static int make_zero(struct diskfile *f, uint64_t off, uint64_t len, bool trim)
{
	static const int modes[2] = {FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	int r = seam_before_write(f->fd, off, len);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		int mode = modes[trim ? 1 - i : i];
		while ((r = fallocate(f->fd, mode, (off_t)off, (off_t)len)) < 0 && errno == EINTR)
			;
		if (r == 0)
			return 0;
	}
	return write_zeroes(f, off, len);
}

int diskio_op(struct diskio *io, struct diskfile *f, uint16_t type, uint64_t off, uint64_t len,
	const void *data, struct mc_error *err)
{
	assert(len && off <= f->size && len <= f->size - off);
	if (overlaps_flying(io, f, off, len))
		settle(io);
	int r = 0;
	if (!io->failed.code) {
		if (type == DISK_WRITE)
			r = start_write(io, f, off, len, data);
		else
			r = make_zero(f, off, len, type == DISK_TRIM);
	}
	/* After the write: before it, another thread's sync could take the mark and miss the
	 * bytes. */
	atomic_store(&f->dirty, true);
	if (r < 0)
		fail(io, f, r);
	if (!io->failed.code)
		return 0;
	if (err)
		*err = io->failed;
	return io->failed.code;
}

int diskio_drain(struct diskio *io, struct mc_error *err)
{
	settle(io);
	assert(!io->flying); /* the data may go away now */
	int r = io->failed.code;
	if (r < 0 && err)
		*err = io->failed;
	io->failed = (struct mc_error){0};
	return r;
}
