/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the stream share.  stream.c opens and closes it, stream-send.c and
 * stream-recv.c are its two directions, stream-lose.c its end.
 *
 * Everything that leaves the stream at an unknown place (an error, a deadline in the middle of a
 * message, a wrong digest) breaks the transport for good: nothing after it can be trusted, and the
 * first reason is repeated to whoever asks again.
 */
#pragma once
#include "mcd/wire/stream-io.h"
#include "mcd/wire/transport.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <xxhash.h>

/* One sendmsg carries up to this many messages, header and payload each. */
#define BATCH (STREAM_IOV_MAX / 2)

/* Read-ahead: 64 small messages a system call, and little of a slab is copied twice. */
#define READ_AHEAD 4096
_Static_assert(READ_AHEAD >= WIRE_HEADER_SIZE, "a header is read ahead whole");

struct message { /* posted, not yet handed to the kernel */
	uint8_t header[WIRE_HEADER_SIZE];
	const void *payload;
	size_t length;
};

struct stream {
	struct transport t;
	struct stream_io *io;
	struct transport_stats stats;
	struct mc_error broken; /* code 0: not broken */
	XXH3_state_t *hash;

	struct message *queue; /* [first, last) */
	size_t first, last, cap;

	/* The sendmsg under way; points into `flying`, as the queue may move meanwhile. */
	bool sending;
	struct msghdr msg;
	struct iovec iov[STREAM_IOV_MAX];
	struct message flying[BATCH];
	size_t n_flying;

	uint8_t ahead[READ_AHEAD]; /* received and not yet asked for: [ahead_at, ahead_end) */
	size_t ahead_at, ahead_end;
	struct wire_header current; /* its payload is still to be read */
	size_t payload_done;        /* as much of it is in the caller's buffer, and hashed */
};

static inline struct stream *stream(struct transport *t)
{
	return (struct stream *)t;
}

/* Breaks the transport; `doing` completes "the connection to the peer ... while".  Returns code. */
int stream_lose(struct stream *t, int code, const char *doing, struct mc_error *err);
/* 0, or why it is broken. */
int stream_still_broken(struct stream *t, struct mc_error *err);

/* stream-send.c: as in transport_ops. */
int stream_post(struct transport *tr, const struct wire_header *h, const void *payload,
	struct mc_error *err);
int stream_flush(struct transport *tr, uint64_t deadline, struct mc_error *err);
int stream_push(struct transport *tr, uint64_t deadline, struct mc_error *err);

/* stream-recv.c: as in transport_ops. */
int stream_recv(struct transport *tr, struct wire_header *ret, uint64_t deadline, int wake_fd,
	struct mc_error *err);
int stream_recv_payload(struct transport *tr, void *buf, uint64_t deadline, struct mc_error *err);
/* Whether a WIRE_ERROR is here, without waiting for it: fills ret with what it says. */
bool stream_last_words(struct stream *t, struct mc_error *ret);
