// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stream I/O by io_uring.  A send goes on in the kernel while its thread copies or hashes the next
 * slab; a receive, its wake-up and its deadline are one wait.
 *
 * A request in flight points into somebody's memory.  So every call that gives up waiting cancels
 * its request and waits for the kernel's word that it is gone, before it returns.
 */
#include "mcd/wire/stream-io.h"

#include "common/clock.h"

#include <assert.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

/* One request of each kind at most, so that its kind is its name. */
enum op { OP_SEND, OP_RECV, OP_POLL, OP_CANCEL, OP_MAX };
#define BIT(op) (1u << (op))

#define RING_ENTRIES 16 /* of which an enter never uses more than a handful */

struct uring {
	struct stream_io io;
	struct io_uring ring;
	int fd;
	unsigned flying; /* BIT(op): submitted, no result yet */
	int result[OP_MAX];
};

static struct uring *uring(struct stream_io *io)
{
	return (struct uring *)io;
}

static struct io_uring_sqe *prepare(struct uring *u, enum op op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	assert(sqe && !(u->flying & BIT(op) & ~BIT(OP_CANCEL)));
	u->flying |= BIT(op) & ~BIT(OP_CANCEL);
	return sqe;
}

/* Takes the results that are there; returns whether any was. */
static bool reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	bool any = false;
	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		uint64_t op = cqe->user_data;
		assert(op < OP_MAX);
		u->result[op] = cqe->res;
		u->flying &= ~BIT(op);
		io_uring_cqe_seen(&u->ring, cqe);
		any = true;
	}
	return any;
}

static int submit(struct uring *u)
{
	for (;;) {
		int r = io_uring_submit(&u->ring);
		if (r >= 0)
			return 0;
		/* EAGAIN and EBUSY: short of kernel memory or completion space, both pass. */
		if (r != -EINTR && r != -EAGAIN && r != -EBUSY)
			return r;
		reap(u);
	}
}

/*
 * Waits until one of the requests in `ops` has its result.  Not io_uring_submit_and_wait_timeout:
 * when it submits something, the kernel reports that instead of the expired time, and liburing
 * waits for the same time again.
 */
static int wait_for(struct uring *u, unsigned ops, uint64_t deadline)
{
	for (;;) {
		reap(u);
		if ((u->flying & ops) != ops)
			return 0;
		uint64_t now = mc_now(), left = deadline > now ? deadline - now : 0;
		struct __kernel_timespec ts = {
			.tv_sec = (int64_t)(left / MC_SEC),
			.tv_nsec = (long long)(left % MC_SEC),
		};
		struct io_uring_cqe *cqe;
		int r = io_uring_wait_cqe_timeout(&u->ring, &cqe, &ts);
		if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN)
			return r;
		if (!left && !reap(u))
			return -ETIMEDOUT;
	}
}

/* Until the kernel has let go of these requests: prompt, as sockets and polls are cancellable. */
static void cancel(struct uring *u, unsigned ops)
{
	if (!(u->flying & ops))
		return;
	for (unsigned op = 0; op < OP_CANCEL; op++)
		if (u->flying & ops & BIT(op)) {
			struct io_uring_sqe *sqe = prepare(u, OP_CANCEL);
			io_uring_prep_cancel64(sqe, op, 0);
			io_uring_sqe_set_data64(sqe, OP_CANCEL);
		}
	int r = submit(u);
	for (unsigned op = 0; op < OP_CANCEL; op++)
		while (u->flying & ops & BIT(op)) {
			if (r < 0 && r != -ETIMEDOUT)
				abort(); /* a broken ring that may still write to the caller's memory */
			r = wait_for(u, BIT(op), mc_now() + MC_SEC);
		}
}

static int uring_send_start(struct stream_io *io, struct msghdr *msg)
{
	struct uring *u = uring(io);
	struct io_uring_sqe *sqe = prepare(u, OP_SEND);
	io_uring_prep_sendmsg(sqe, u->fd, msg, MSG_NOSIGNAL | MSG_WAITALL);
	io_uring_sqe_set_data64(sqe, OP_SEND);
	return submit(u);
}

static ssize_t uring_send_finish(struct stream_io *io, uint64_t deadline)
{
	struct uring *u = uring(io);
	int r = wait_for(u, BIT(OP_SEND), deadline);
	if (r == 0)
		r = u->result[OP_SEND];
	else if (r == -ETIMEDOUT)
		return r;
	/* A signal that came in between has sent nothing: the caller just sends the rest. */
	return r == -EINTR || r == -EAGAIN ? 0 : r < 0 ? stream_io_error(r) : r;
}

static ssize_t uring_recv(struct stream_io *io, void *buf, size_t len, bool all, uint64_t deadline,
	int wake_fd)
{
	struct uring *u = uring(io);
	for (;;) {
		struct io_uring_sqe *sqe = prepare(u, OP_RECV);
		io_uring_prep_recv(sqe, u->fd, buf, len, all ? MSG_WAITALL : 0);
		io_uring_sqe_set_data64(sqe, OP_RECV);
		if (wake_fd >= 0) {
			sqe = prepare(u, OP_POLL);
			io_uring_prep_poll_add(sqe, wake_fd, POLLIN);
			io_uring_sqe_set_data64(sqe, OP_POLL);
		}
		int r = submit(u);
		if (r == 0)
			r = wait_for(u, u->flying & (BIT(OP_RECV) | BIT(OP_POLL)), deadline);
		io->woken = wake_fd >= 0 && !(u->flying & BIT(OP_POLL));
		cancel(u, BIT(OP_RECV) | BIT(OP_POLL));
		/* What was received before the cancellation counts, whatever ended the wait. */
		int got = u->result[OP_RECV];
		if (got >= 0)
			return got;
		if (got != -ECANCELED && got != -EINTR && got != -EAGAIN)
			return stream_io_error(got);
		if (r < 0)
			return r;
		if (io->woken)
			return -EINTR;
	}
}

static void uring_send_cancel(struct stream_io *io)
{
	cancel(uring(io), BIT(OP_SEND));
}

static void uring_free(struct stream_io *io)
{
	struct uring *u = uring(io);
	io_uring_queue_exit(&u->ring);
	close(u->fd);
	free(u);
}

static const struct stream_io_ops uring_ops = {
	.name = "io_uring",
	.send_start = uring_send_start,
	.send_finish = uring_send_finish,
	.recv = uring_recv,
	.send_cancel = uring_send_cancel,
	.free = uring_free,
};

int tcp_io_uring_new(int fd, struct stream_io **ret)
{
	struct uring *u = calloc(1, sizeof *u);
	if (!u)
		return -ENOMEM;
	/* Completions need no interrupt of a thread that is copying a slab. */
	struct io_uring_params p = { .flags = IORING_SETUP_COOP_TASKRUN };
	int r = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &p);
	if (r == -EINVAL) {
		p = (struct io_uring_params){ 0 };
		r = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &p);
	}
	if (r < 0) {
		free(u);
		return r;
	}
	const unsigned need = IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG;
	if ((p.features & need) != need) {
		io_uring_queue_exit(&u->ring);
		free(u);
		return -ENOSYS;
	}
	io_uring_ring_dontfork(&u->ring);
	u->io.ops = &uring_ops;
	u->fd = fd;
	*ret = &u->io;
	return 0;
}
