/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes in and out of one stream, for stream.c: over a socket (tcp.c) or an RDMA connection
 * (rdma.c).  At most one send is under way.
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
	/* Starts to send, if no send is under way; msg, of at most STREAM_IOV_MAX pieces, and all
	 * that it points to must stay until send_finish gave the result. */
	int (*send_start)(struct stream_io *io, struct msghdr *msg);
	/* The bytes that were sent, possibly fewer than asked.  -ETIMEDOUT: still under way at the
	 * deadline (0 = just look). */
	ssize_t (*send_finish)(struct stream_io *io, uint64_t deadline);
	/* At least one byte, or all of len if `all`, but fewer at the deadline or the end of the
	 * stream; 0 there.  -ETIMEDOUT at the deadline and -EINTR when wake_fd (or -1) is readable,
	 * both with nothing taken.  A readable wake_fd wins over bytes that are there.  Nothing
	 * points to buf any more on return. */
	ssize_t (*recv)(struct stream_io *io, void *buf, size_t len, bool all, uint64_t deadline,
		int wake_fd);
	/* Gives up a send that is under way, if any; then nothing points to its bytes any more. */
	void (*send_cancel)(struct stream_io *io);
	void (*free)(struct stream_io *io); /* after send_cancel; closes the connection */
	bool rdma;
	/* Of an engine with rdma only.  The sentence for an error of it, and its code.  Memory:
	 * as in transport_ops. */
	int (*why)(struct stream_io *io, struct mc_error *err);
	int (*memory)(struct stream_io *io, void *mem, size_t len, bool now, struct mc_error *err);
	void (*forget)(struct stream_io *io, void *mem);
};

#define STREAM_IOV_MAX 128 /* pieces of one send */

struct stream_io {
	const struct stream_io_ops *ops;
};

/* Takes over fd on success only. */
int tcp_io_new(int fd, struct stream_io **ret);

/* Takes over io, also on failure. */
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
