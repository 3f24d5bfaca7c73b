/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The checkpoint stream over a socket or an RDMA connection: its beginning and end. */
#include "mcd/wire/stream-private.h"

#include "common/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

static void stream_stats(struct transport *tr, struct transport_stats *ret)
{
	*ret = stream(tr)->stats;
}

static void stream_close(struct transport *tr)
{
	struct stream *t = stream(tr);
	t->io->ops->send_cancel(t->io);
	t->io->ops->free(t->io);
	XXH3_freeState(t->hash);
	free(t->queue);
	free(t);
}

static int stream_memory(
	struct transport *tr, void *mem, size_t len, bool now, struct mc_error *err)
{
	struct stream_io *io = stream(tr)->io;
	return io->ops->memory ? io->ops->memory(io, mem, len, now, err) : 0;
}

static void stream_forget(struct transport *tr, void *mem)
{
	struct stream_io *io = stream(tr)->io;
	if (io->ops->memory)
		io->ops->forget(io, mem);
}

#define OPS(carrier)                                                                               \
	{                                                                                          \
		.name = carrier, .post = stream_post, .flush = stream_flush, .push = stream_push,  \
		.recv = stream_recv, .recv_payload = stream_recv_payload, .stats = stream_stats,   \
		.memory = stream_memory, .forget = stream_forget, .close = stream_close,           \
	}

static const struct transport_ops tcp_ops = OPS("tcp"), rdma_ops = OPS("rdma");

int transport_stream_new(struct stream_io *io, struct transport **ret, struct mc_error *err)
{
	struct stream *t = calloc(1, sizeof *t);
	XXH3_state_t *hash = XXH3_createState();
	if (!t || !hash) {
		free(t);
		XXH3_freeState(hash);
		io->ops->free(io);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a connection");
	}
	t->t.ops = io->ops->rdma ? &rdma_ops : &tcp_ops;
	t->io = io;
	t->hash = hash;
	*ret = &t->t;
	return 0;
}

int transport_tcp_new(int fd, struct transport **ret, struct mc_error *err)
{
	_cleanup_close_ int own = fd;
	/* Else the last, short segment of a checkpoint waits for an ACK.  Not of a socketpair. */
	int one = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0 && errno != EOPNOTSUPP)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"a connection cannot be used: %s", strerror(errno));

	struct stream_io *io;
	int r = tcp_io_new(fd, &io);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_MEMORY, "no memory for a connection");
	mc_steal_fd(&own);
	return transport_stream_new(io, ret, err);
}
