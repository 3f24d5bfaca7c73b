/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk stream on an RDMA connection, as a byte stream (common/rdma/stream.h): what the peer
 * does not take waits with the sender, as with a socket, and the sender's deadline is what ends
 * that.
 *
 * Payloads are not registered with the device: they are as many as the guest's writes, each in
 * memory of its own, and to register one costs more than to copy it.
 */
#include "diskmirror/disklink.h"

#include "common/clock.h"
#include "common/iov.h"
#include "common/rdma/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RING                                                                                       \
	(1u << 20) /* what the peer may have sent that was not read yet: four pieces of the        \
		      sender's */

const struct rd_wants disklink_rdma_wants = {
	.stream = true,
	.region = RING,
	.pinned = RD_STREAM_FIXED,
};

struct rdma_link {
	struct disklink link;
	struct rd_stream *stream;
	int send_error; /* the sending thread's: part of a message is out, nothing can follow it */
};

#define IOV_AT_ONCE 64

static struct rd_stream *of(struct disklink *l)
{
	return ((struct rdma_link *)l)->stream;
}

/* All of v[0..n), which is changed on the way. */
static int post_all(struct rd_stream *s, struct iovec *v, size_t n, uint64_t deadline)
{
	size_t at = mc_iov_advance(v, n, 0);
	while (at < n) {
		ssize_t put = rd_stream_post(s, v + at, n - at, deadline);
		if (put < 0)
			return (int)put;
		at += mc_iov_advance(v + at, n - at, (size_t)put);
		/* A peer that takes a byte at a time must not stretch the deadline. */
		if (at < n && mc_now() >= deadline)
			return -ETIMEDOUT;
	}
	return 0;
}

/* Not rd_stream_send: when that fails it ends the whole stream, and the receiving thread would
 * report that, and not the cause.  Nor would it wait for what it has copied; but what was sent
 * before a shutdown must arrive, as on a socket, or nobody would ever read why a standby gave up.
 */
static int rdma_send(struct disklink *l, const struct iovec *iov, size_t n, uint64_t deadline)
{
	struct rdma_link *r = (struct rdma_link *)l;
	for (size_t at = 0; at < n && !r->send_error; at += IOV_AT_ONCE) {
		struct iovec v[IOV_AT_ONCE];
		size_t k = n - at < IOV_AT_ONCE ? n - at : IOV_AT_ONCE;
		memcpy(v, iov + at, k * sizeof *v);
		r->send_error = post_all(r->stream, v, k, deadline);
	}
	if (!r->send_error)
		r->send_error = rd_stream_drain(r->stream, deadline);
	return r->send_error;
}

static int rdma_recv(struct disklink *l, void *buf, size_t len, uint64_t deadline)
{
	size_t got = 0;
	while (got < len) {
		/* Until the first byte came nothing but that is waited for, by the caller's
		 * deadline; afterwards for all the rest, as long as anything comes within the
		 * grace. */
		uint64_t until = got ? mc_now() + DISKLINK_GRACE : deadline;
		ssize_t n = rd_stream_recv(of(l), (char *)buf + got, len - got, got, until, -1);
		if (n < 0)
			return got ? -ECONNRESET : (int)n;
		if (n == 0)
			return -ECONNRESET;
		got += (size_t)n;
	}
	return 0;
}

static void rdma_shutdown(struct disklink *l)
{
	rd_stream_shutdown(of(l));
}

static void rdma_close(struct disklink *l)
{
	rd_stream_close(of(l));
	free(l);
}

static const struct disklink_ops rdma_ops = {
	.send = rdma_send,
	.recv = rdma_recv,
	.shutdown = rdma_shutdown,
	.close = rdma_close,
};

int disklink_rdma_new(struct rd_conn *c, struct disklink **ret, struct mc_error *err)
{
	struct rdma_link *l = malloc(sizeof *l);
	if (!l) {
		rd_close(c);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to mirror disks; free some on this host");
	}
	*l = (struct rdma_link){.link = {&rdma_ops}};
	int r = rd_stream_new(c, &l->stream, err);
	if (r < 0) {
		free(l);
		return r;
	}
	*ret = &l->link;
	return 0;
}

int disklink_new(struct rd_link *l, struct disklink **ret, struct mc_error *err)
{
	return l->rdma ? disklink_rdma_new(l->rdma, ret, err)
		       : disklink_socket_new(l->fd, ret, err);
}
