/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moves messages of the checkpoint stream, over TCP or RDMA: stream.c.  Unit tests have another
 * backend, in process (tests/fakes/transport-fake.h).  A transport belongs to one thread.
 */
#pragma once
#include "common/error.h"
#include "common/rdma/rdma.h"
#include "mcd/wire/protocol.h"
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct transport;

struct transport_stats {
	uint64_t sent_messages, sent_bytes, received_messages, received_bytes;
};

struct transport_ops {
	const char *name;
	/* Queues a message (-EMSGSIZE if it is longer than its type allows).  Its payload must stay
	 * untouched until the next flush returns.  May send already, but only flush promises it:
	 * flush before you wait for an answer. */
	int (*post)(struct transport *t, const struct wire_header *h, const void *payload,
		struct mc_error *err);
	/* Until everything posted is handed to the kernel / the peer's memory.  On failure, also
	 * at the deadline (-ETIMEDOUT), the transport is broken: part of a message may have been
	 * sent.  -EREMOTEIO, of post too: the peer closed it with a WIRE_ERROR, whose class and
	 * words err has. */
	int (*flush)(struct transport *t, uint64_t deadline, struct mc_error *err);
	/* As flush, but only as far as it goes until the deadline; then -ETIMEDOUT, nothing is
	 * broken and the payloads still must stay. */
	int (*push)(struct transport *t, uint64_t deadline, struct mc_error *err);
	/* Waits for the next header (validated). -ETIMEDOUT at the deadline, -EINTR when wake_fd
	 * (or -1) is readable, both with nothing consumed; -ECONNRESET/-ENODATA when the peer is
	 * gone. */
	int (*recv)(struct transport *t, struct wire_header *ret, uint64_t deadline, int wake_fd,
		struct mc_error *err);
	/* The payload of the message last received, all of it; checks its digest (-EBADMSG).
	 * Must be called before the next recv unless the length is 0.  -ETIMEDOUT: not all of it
	 * came by the deadline; calling again with the same buffer goes on.  Any other failure
	 * breaks the transport. */
	int (*recv_payload)(
		struct transport *t, void *buf, uint64_t deadline, struct mc_error *err);
	void (*stats)(struct transport *t, struct transport_stats *ret);
	/* Optional.  Memory that large payloads will be posted from: RDMA registers it with the
	 * device, now or when it is first used, and sends from where it is.  To be forgotten
	 * before it is unmapped. */
	int (*memory)(struct transport *t, void *mem, size_t len, bool now, struct mc_error *err);
	void (*forget)(struct transport *t, void *mem);
	void (*close)(struct transport *t); /* what was not flushed may be lost */
};

struct transport {
	const struct transport_ops *ops;
};

/* Takes over the authenticated socket (closed by transport_close, and on failure). */
int transport_tcp_new(int fd, struct transport **ret, struct mc_error *err);

/* What an end of the stream needs of RDMA.  buffer: bytes of memory that payloads are sent from. */
void transport_rdma_wants(bool sender, uint64_t buffer, struct rd_wants *ret);
/* Over whatever the two ends agreed on; takes it over, also on failure. */
int transport_new(struct rd_link *l, struct transport **ret, struct mc_error *err);

static inline bool transport_is_rdma(const struct transport *t)
{
	return !strcmp(t->ops->name, "rdma");
}

static inline int transport_post(
	struct transport *t, const struct wire_header *h, const void *p, struct mc_error *e)
{
	if (h->length > wire_length_max(h->type))
		return mc_error_set(e, -EMSGSIZE, MC_ECLASS_FAILED,
			"a message of type %u would have %" PRIu64 " bytes, more than the %" PRIu64
			" a peer accepts",
			h->type, h->length, wire_length_max(h->type));
	return t->ops->post(t, h, p, e);
}
static inline int transport_flush(struct transport *t, uint64_t deadline, struct mc_error *e)
{
	return t->ops->flush(t, deadline, e);
}
static inline int transport_push(struct transport *t, uint64_t deadline, struct mc_error *e)
{
	return t->ops->push(t, deadline, e);
}
static inline int transport_recv(struct transport *t, struct wire_header *ret, uint64_t deadline,
	int wake_fd, struct mc_error *e)
{
	return t->ops->recv(t, ret, deadline, wake_fd, e);
}
static inline int transport_recv_payload(
	struct transport *t, void *buf, uint64_t deadline, struct mc_error *e)
{
	return t->ops->recv_payload(t, buf, deadline, e);
}
static inline void transport_get_stats(struct transport *t, struct transport_stats *ret)
{
	t->ops->stats(t, ret);
}
static inline int transport_memory(
	struct transport *t, void *mem, size_t len, bool now, struct mc_error *e)
{
	return t && t->ops->memory ? t->ops->memory(t, mem, len, now, e) : 0;
}
static inline void transport_forget(struct transport *t, void *mem)
{
	if (t && t->ops->forget)
		t->ops->forget(t, mem);
}
static inline void transport_close(struct transport *t)
{
	if (t)
		t->ops->close(t);
}
