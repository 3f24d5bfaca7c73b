/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes in and out of one stream, for stream.c: tcp-uring.c does it with io_uring, tcp-plain.c with
 * ordinary system calls where io_uring is switched off, rdma.c over an RDMA connection.  At most one
 * send is under way.
 */
#pragma once
#include "mcd/wire/transport.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct stream_io;

struct stream_io_ops {
	const char *name;
	/* Starts to send; msg and all that it points to must stay until send_finish gave the result. */
	int (*send_start)(struct stream_io *io, struct msghdr *msg);
	/* The bytes that were sent, possibly fewer than asked.  -ETIMEDOUT: still under way at the
	 * deadline (0 = just look). */
	ssize_t (*send_finish)(struct stream_io *io, uint64_t deadline);
	/* At least one byte, or all of len if `all`, but fewer at the deadline or the end of the
	 * stream; 0 there.  -ETIMEDOUT at the deadline and -EINTR when wake_fd (or -1) is readable,
	 * both with nothing taken.  Nothing points to buf any more on return.  Sets woken when
	 * wake_fd was readable and bytes came all the same. */
	ssize_t (*recv)(struct stream_io *io, void *buf, size_t len, bool all, uint64_t deadline,
		int wake_fd);
	/* Gives up a send that is under way, if any; then nothing points to its bytes any more. */
	void (*send_cancel)(struct stream_io *io);
	void (*free)(struct stream_io *io); /* after send_cancel; closes the connection */
	bool rdma;
	/* Of an engine with rdma only.  The sentence for an error of it, and its code.  Memory: as in
	 * transport_ops. */
	int (*why)(struct stream_io *io, struct mc_error *err);
	int (*memory)(struct stream_io *io, void *mem, size_t len, bool now, struct mc_error *err);
	void (*forget)(struct stream_io *io, void *mem);
};

struct stream_io {
	const struct stream_io_ops *ops;
	bool woken;
};

/* Both take over fd on success only. */
int tcp_io_uring_new(int fd, struct stream_io **ret);
int tcp_io_plain_new(int fd, struct stream_io **ret);

/* transport_tcp_new over a given engine, for tests and benchmarks; takes over io also on failure. */
int transport_stream_new(struct stream_io *io, struct transport **ret, struct mc_error *err);

/* -ETIMEDOUT is the caller's deadline and -EINTR its wake_fd: the same numbers as the socket's own
 * errors (TCP gave up retransmitting) get other names, or a caller would wait forever. */
static inline int stream_io_error(int e)
{
	switch (e) {
	case -ETIMEDOUT:
		return -EHOSTUNREACH;
	case -EPIPE:
		return -ECONNRESET;
	default:
		return e;
	}
}
