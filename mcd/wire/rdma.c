/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint stream over RDMA.  Payloads go by RDMA WRITE from the slabs into a ring at the
 * standby, which copies them out while it computes their digest; headers and short payloads go in
 * the control messages.  The ring is all the memory this takes there, whatever the size of an
 * epoch.
 */
#include "common/iov.h"
#include "common/rdma/stream.h"
#include "mcd/wire/stream-io.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Of the receiver of slabs: enough to keep the link busy while a slab is looked at and applied.  Of
 * their sender, who gets answers of at most WIRE_CONTROL_MAX. */
#define RING_SLABS   (4u << 20)
#define RING_ANSWERS (256u << 10)
_Static_assert(RING_ANSWERS >= WIRE_HEADER_SIZE + WIRE_CONTROL_MAX, "an answer fits");

struct rdma_io {
	struct stream_io io;
	struct rd_stream *s;
	/* The send under way: what is still to be posted of it, and its length. */
	struct iovec iov[STREAM_IOV_MAX];
	size_t first, n, length;
};

static struct rdma_io *rdma(struct stream_io *io)
{
	return (struct rdma_io *)io;
}

static int rdma_send_start(struct stream_io *io, struct msghdr *msg)
{
	struct rdma_io *r = rdma(io);
	assert(!r->length && msg->msg_iovlen <= STREAM_IOV_MAX);
	memcpy(r->iov, msg->msg_iov, msg->msg_iovlen * sizeof *r->iov);
	r->first = 0;
	r->n = msg->msg_iovlen;
	r->length = 0;
	for (size_t i = 0; i < r->n; i++)
		r->length += r->iov[i].iov_len;
	return 0;
}

/* All of it or nothing: that it is posted does not mean yet that its memory may be reused. */
static ssize_t rdma_send_finish(struct stream_io *io, uint64_t deadline)
{
	struct rdma_io *r = rdma(io);
	while (r->first < r->n) {
		ssize_t n = rd_stream_post(r->s, r->iov + r->first, r->n - r->first, deadline);
		if (n < 0)
			return n == -ENODATA ? -ECONNRESET : n;
		r->first += mc_iov_advance(r->iov + r->first, r->n - r->first, (size_t)n);
	}
	assert(r->first == r->n);
	int e = rd_stream_drain(r->s, deadline);
	if (e < 0)
		return e == -ENODATA ? -ECONNRESET : e;
	size_t length = r->length;
	r->length = 0;
	return (ssize_t)length;
}

static ssize_t rdma_recv(
	struct stream_io *io, void *buf, size_t len, bool all, uint64_t deadline, int wake_fd)
{
	ssize_t n = rd_stream_recv(rdma(io)->s, buf, len, all, deadline, wake_fd);
	return n == -ENODATA ? 0 : n;
}

static void rdma_send_cancel(struct stream_io *io)
{
	struct rdma_io *r = rdma(io);
	if (r->length) /* some of it may be under way */
		rd_stream_cut(r->s);
	r->length = 0;
	r->first = r->n = 0;
}

static int rdma_why(struct stream_io *io, struct mc_error *err)
{
	return rd_stream_why(rdma(io)->s, err);
}

static int rdma_memory(struct stream_io *io, void *mem, size_t len, bool now, struct mc_error *err)
{
	return rd_stream_memory(rdma(io)->s, mem, len, now, err);
}

static void rdma_forget(struct stream_io *io, void *mem)
{
	rd_stream_forget(rdma(io)->s, mem);
}

static void rdma_free(struct stream_io *io)
{
	rd_stream_close(rdma(io)->s);
	free(io);
}

static const struct stream_io_ops rdma_io_ops = {
	.name = "rdma",
	.rdma = true,
	.send_start = rdma_send_start,
	.send_finish = rdma_send_finish,
	.recv = rdma_recv,
	.send_cancel = rdma_send_cancel,
	.free = rdma_free,
	.why = rdma_why,
	.memory = rdma_memory,
	.forget = rdma_forget,
};

void transport_rdma_wants(bool sender, uint64_t buffer, struct rd_wants *ret)
{
	*ret = (struct rd_wants){
		.stream = true,
		.region = sender ? RING_ANSWERS : RING_SLABS,
		.pinned = sender ? buffer : 0,
	};
}

static int rdma_new(struct rd_conn *c, struct transport **ret, struct mc_error *err)
{
	struct rdma_io *r = calloc(1, sizeof *r);
	if (!r) {
		rd_close(c);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a connection");
	}
	r->io.ops = &rdma_io_ops;
	int e = rd_stream_new(c, &r->s, err);
	if (e < 0) {
		free(r);
		return e;
	}
	return transport_stream_new(&r->io, ret, err);
}

int transport_new(struct rd_link *l, struct transport **ret, struct mc_error *err)
{
	struct rd_link own = *l;
	*l = (struct rd_link){.fd = -1};
	return own.rdma ? rdma_new(own.rdma, ret, err) : transport_tcp_new(own.fd, ret, err);
}
