/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A byte stream over an RDMA connection, as a socket would be one.
 *
 * Large pieces go by RDMA WRITE straight from the sender's memory into a ring of the receiver's
 * (its region), small ones in the SEND that announces them; the receiver copies out of the ring.
 * Credits keep the sender from running over the ring or the posted receives: a receiver that does
 * not read stops the sender, nothing is ever dropped or retried (layout: format.c).
 *
 * One thread may send while another receives; shutdown may come from any.  Errors as rd_check,
 * with the sentence from rd_stream_why.
 */
#pragma once
#include "common/rdma/rdma.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct rd_stream;

/* Takes over c, which was made with rd_wants.stream; also on failure. */
int rd_stream_new(struct rd_conn *c, struct rd_stream **ret, struct mc_error *err);
/* once no thread uses it; what was not drained may be lost */
void rd_stream_close(struct rd_stream *s);

/* Memory that will be sent from, often, in large pieces: it is written to the peer from where it
 * is, anything else is copied first.  Registered with the device now, or when first used (a
 * failure then only means a copy).  It must be forgotten before it is unmapped; nothing of it may
 * be under way. */
int rd_stream_memory(struct rd_stream *s, void *mem, size_t len, bool now, struct mc_error *err);
void rd_stream_forget(struct rd_stream *s, void *mem);

/* All of it: 0, then the memory may be reused.  -ETIMEDOUT at the deadline: the stream is of no use
 * any more, but nothing points to the memory. */
int rd_stream_send(struct rd_stream *s, const struct iovec *iov, size_t n, uint64_t deadline);

/* The two halves of it, for who has something else to do meanwhile.  post: as many bytes as there
 * is room for, at least one if any comes by the deadline (-ETIMEDOUT: none); declared memory
 * must stay untouched until drain returned 0, or after rd_stream_cut. */
ssize_t rd_stream_post(struct rd_stream *s, const struct iovec *iov, size_t n, uint64_t deadline);
int rd_stream_drain(struct rd_stream *s, uint64_t deadline);
/* Gives up sending for good; then nothing points to declared memory any more.  What was received
 * can still be read. */
void rd_stream_cut(struct rd_stream *s);

/* At least one byte, or all of len if `all`, but fewer at the deadline or at the end of the
 * stream. With nothing taken: -ETIMEDOUT at the deadline, -EINTR when wake_fd (or -1) is
 * readable, which wins over data; then the errors of rd_check. */
ssize_t rd_stream_recv(
	struct rd_stream *s, void *buf, size_t len, bool all, uint64_t deadline, int wake_fd);

void rd_stream_shutdown(struct rd_stream *s); /* ends what other threads wait for: -ECONNRESET */
/* Why the stream is over; -EINVAL and nothing filled if it is not. */
int rd_stream_why(struct rd_stream *s, struct mc_error *err);
