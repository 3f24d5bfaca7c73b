/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the disk stream travels on: an authenticated socket or RDMA, behind one ops struct.
 * One thread sends and another receives; shutdown may come from any thread and ends both.
 */
#pragma once
#include "common/error.h"
#include "common/rdma/rdma.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct disklink;

#define DISKLINK_GRACE (10ull * 1000 * 1000 * 1000) /* ns */

struct disklink_ops {
	/* All of it, or an error; -ETIMEDOUT at the deadline (the link is broken then: every
	 * later send fails, and the caller should shut it). */
	int (*send)(struct disklink *l, const struct iovec *iov, size_t n, uint64_t deadline);
	/* Exactly len bytes. -ENODATA: the peer closed before the first; -ECONNRESET; -ETIMEDOUT
	 * with nothing consumed if not even the first byte came by the deadline.  Once the first
	 * came the deadline does not cut the rest off as long as bytes keep coming within
	 * DISKLINK_GRACE; else -ECONNRESET. */
	int (*recv)(struct disklink *l, void *buf, size_t len, uint64_t deadline);
	void (*shutdown)(struct disklink *l);
	void (*close)(struct disklink *l); /* once both threads have ended */
};

struct disklink {
	const struct disklink_ops *ops;
};

/* Takes over the connected, authenticated stream socket (closed by close, and on failure). */
int disklink_socket_new(int fd, struct disklink **ret, struct mc_error *err);
/* The same over an RDMA connection that was made with disklink_rdma_wants. */
int disklink_rdma_new(struct rd_conn *c, struct disklink **ret, struct mc_error *err);
extern const struct rd_wants disklink_rdma_wants;
/* Whichever of the two came of the agreement. */
int disklink_new(struct rd_link *l, struct disklink **ret, struct mc_error *err);
