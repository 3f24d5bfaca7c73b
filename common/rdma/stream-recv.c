/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The receiving direction of a stream. */
#include "common/rdma/stream-private.h"

#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

/* Copies from the first item, unlocked: only this thread takes items away. */
static size_t copy(struct rd_stream *s, uint8_t *buf, size_t len)
{
	struct item it = s->items[s->first];
	size_t n = it.length - it.at < len ? it.length - it.at : len;
	size_t ring = s->c->region_size, at = s->freed % ring;
	pthread_mutex_unlock(&s->lock);
	if (it.placed) {
		size_t end = ring - at < n ? ring - at : n;
		memcpy(buf, s->c->region + at, end);
		memcpy(buf + end, s->c->region, n - end);
	} else {
		memcpy(buf, recv_slot(s, it.slot) + RD_CONTROL_SIZE + it.at, n);
	}
	pthread_mutex_lock(&s->lock);
	return n;
}

static size_t take(struct rd_stream *s, uint8_t *buf, size_t len)
{
	size_t n = copy(s, buf, len);
	struct item *it = &s->items[s->first]; /* it may have grown meanwhile */
	assert(s->n_items && n <= it->length - it->at);
	if (it->placed) {
		s->freed += n;
		assert(s->freed <= s->landed);
		it->length -= n;
	} else {
		it->at += (uint32_t)n;
	}
	if (it->at == it->length) {
		if (!it->placed)
			stream_repost(s, it->slot);
		s->first = (s->first + 1) % ITEMS;
		s->n_items--;
	}
	stream_credit(s);
	return n;
}

static bool readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return fd >= 0 && poll(&p, 1, 0) > 0;
}

ssize_t rd_stream_recv(
	struct rd_stream *s, void *buf, size_t len, bool all, uint64_t deadline, int wake_fd)
{
	size_t got = 0;
	int r = readable(wake_fd) ? -EINTR : 0;
	pthread_mutex_lock(&s->lock);
	while (r == 0 && got < len) {
		stream_progress(s);
		if (s->n_items)
			got += take(s, (uint8_t *)buf + got, len - got);
		else if (got && (!all || mc_now() >= deadline)) /* also if bytes drip in */
			break;
		else if (s->c->broken.code)
			r = s->c->broken.code;
		else
			r = stream_sleep(s, RECEIVING, deadline, got ? -1 : wake_fd);
	}
	pthread_mutex_unlock(&s->lock);
	return got ? (ssize_t)got : r;
}
