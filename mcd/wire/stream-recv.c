/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The receiving direction of a stream: a small read-ahead for headers, payloads straight into the
 * caller's buffer. */
#include "mcd/wire/stream-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A payload is hashed in pieces of this size as they arrive, while they are in the cache. */
#define PIECE (256u << 10)

/* Reads ahead until a whole header is there. */
static int fill(struct stream *t, uint64_t deadline, int wake_fd)
{
	assert(t->ahead_at <= t->ahead_end && t->ahead_end <= READ_AHEAD);
	while (t->ahead_end - t->ahead_at < WIRE_HEADER_SIZE) {
		size_t have = t->ahead_end - t->ahead_at;
		memmove(t->ahead, t->ahead + t->ahead_at, have);
		t->ahead_at = 0;
		t->ahead_end = have;
		ssize_t n = t->io->ops->recv(
			t->io, t->ahead + have, READ_AHEAD - have, false, deadline, wake_fd);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return have ? -ECONNRESET : -ENODATA;
		t->ahead_end += (size_t)n;
		assert(t->ahead_end <= READ_AHEAD);
	}
	return 0;
}

int stream_recv(struct transport *tr, struct wire_header *ret, uint64_t deadline, int wake_fd,
	struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = stream_still_broken(t, err);
	if (r < 0)
		return r;
	/* given up in the middle of a payload: what follows is not a header */
	if (t->current.length)
		return stream_lose(t, -EPROTO, "a message was left half read", err);
	r = fill(t, deadline, wake_fd);
	if (r == -EINTR)
		return mc_error_set(err, -EINTR, MC_ECLASS_FAILED, "woken up");
	if (r == -ETIMEDOUT)
		return mc_error_set(
			err, r, MC_ECLASS_TIMEOUT, "nothing came from the peer in time");
	if (r < 0)
		return stream_lose(t, r, "waiting for a message", err);

	struct wire_header h;
	r = wire_get_header(t->ahead + t->ahead_at, &h, &t->broken);
	if (r < 0)
		return stream_still_broken(t, err);
	t->ahead_at += WIRE_HEADER_SIZE;
	t->stats.received_messages++;
	t->stats.received_bytes += WIRE_HEADER_SIZE + h.length;
	assert(!t->payload_done);
	t->current = h;
	*ret = h;
	return 0;
}

int stream_recv_payload(struct transport *tr, void *buf, uint64_t deadline, struct mc_error *err)
{
	struct stream *t = stream(tr);
	int r = stream_still_broken(t, err);
	if (r < 0)
		return r;
	size_t len = t->current.length;
	if (!len)
		return 0; /* its digest is the header's business */
	if (!t->payload_done) {
		size_t have = t->ahead_end - t->ahead_at;
		t->payload_done = have < len ? have : len;
		memcpy(buf, t->ahead + t->ahead_at, t->payload_done);
		t->ahead_at += t->payload_done;
		XXH3_64bits_reset(t->hash);
		XXH3_64bits_update(t->hash, buf, t->payload_done);
	}
	assert(t->payload_done <= len);
	while (t->payload_done < len) {
		size_t want = len - t->payload_done < PIECE ? len - t->payload_done : PIECE;
		uint8_t *at = (uint8_t *)buf + t->payload_done;
		ssize_t n = t->io->ops->recv(t->io, at, want, true, deadline, -1);
		if (n > 0) {
			assert((size_t)n <= want);
			XXH3_64bits_update(t->hash, at, (size_t)n);
			t->payload_done += (size_t)n;
		}
		/* Less than asked for: the deadline, or the end, which is told next time. */
		if (n == -ETIMEDOUT || (n > 0 && (size_t)n < want && mc_now() >= deadline))
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"only %zu of %zu bytes of a message came from the peer in time",
				t->payload_done, len);
		if (n <= 0)
			return stream_lose(t, n ? (int)n : -ECONNRESET, "receiving a message", err);
	}
	t->current.length = 0;
	t->payload_done = 0;
	if (XXH3_64bits_digest(t->hash) != t->current.digest) {
		mc_error_set(&t->broken, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the %zu bytes of a message of type %u do not match their digest; they "
			"were damaged on the way, the connection is closed",
			len, t->current.type);
		return stream_still_broken(t, err);
	}
	return 0;
}

bool stream_last_words(struct stream *t, struct mc_error *ret)
{
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	struct wire_header h;
	if (!buf || t->current.length || fill(t, mc_now(), -1) < 0 ||
		wire_get_header(t->ahead + t->ahead_at, &h, NULL) < 0 || h.type != WIRE_ERROR)
		return false;
	t->ahead_at += WIRE_HEADER_SIZE;
	size_t have = t->ahead_end - t->ahead_at;
	if (have > h.length)
		have = h.length;
	memcpy(buf, t->ahead + t->ahead_at, have);
	ssize_t n = 0;
	if (have < h.length)
		n = t->io->ops->recv(t->io, buf + have, h.length - have, true, mc_now(), -1);
	return n >= 0 && have + (size_t)n == h.length && XXH3_64bits(buf, h.length) == h.digest &&
	       wire_get_error(buf, h.length, ret, NULL) == 0;
}
