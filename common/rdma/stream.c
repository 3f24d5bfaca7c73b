// SPDX-License-Identifier: GPL-2.0-or-later
/* What both directions of a stream share: collecting completions, waiting for them, the end. */
#include "common/rdma/stream-private.h"

#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static void poke(struct rd_stream *s)
{
	for (int i = 0; i < 2; i++)
		if (s->waiting[i])
			eventfd_write(s->poke[i], 1);
}

bool stream_progress(struct rd_stream *s)
{
	struct ibv_wc wc;
	bool any = false;
	int was = s->c->broken.code;
	while (rd_conn_complete(s->c, &wc)) {
		uint32_t n = (uint32_t)wc.wr_id;
		any = true;
		if (wc.wr_id >> 32 == RD_WR_RECV) {
			stream_take(s, n, wc.byte_len);
		} else if (wc.wr_id >> 32 == RD_WR_SEND) {
			/* With it all that was posted before it. */
			s->done = n + 1;
			s->bounce_free = s->slot_bounce[n % RD_SLOTS];
		}
	}
	if (any)
		stream_credit(s);
	if (s->c->broken.code != was)
		any = true;
	if (any)
		poke(s);
	return any;
}

int stream_sleep(struct rd_stream *s, int who, uint64_t deadline, int wake_fd)
{
	struct rd_conn *c = s->c;
	/* In this order: a completion between the last look and the arming would not be heard. */
	if (!c->armed) {
		rd_conn_arm(c);
		if (stream_progress(s))
			return 0;
	}
	struct pollfd p[] = {
		{.fd = s->poke[who], .events = POLLIN},
		{.fd = c->channel->fd, .events = POLLIN},
		{.fd = c->events->fd, .events = POLLIN},
		{.fd = c->socket, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};
	int left = mc_ms_left(deadline);
	s->waiting[who] = true;
	pthread_mutex_unlock(&s->lock);
	int r = poll(p, wake_fd >= 0 ? 5 : 4, left);
	pthread_mutex_lock(&s->lock);
	s->waiting[who] = false;
	if (r < 0 && errno != EINTR)
		return -errno;
	if (r == 0 && !left)
		return -ETIMEDOUT;
	if (r <= 0)
		return 0;
	eventfd_t n;
	if (p[0].revents)
		eventfd_read(s->poke[who], &n);
	if (p[1].revents) {
		rd_conn_channel(c);
		/* Armed again at once: the other thread may sleep already, trusting that it is. */
		rd_conn_arm(c);
	}
	stream_progress(s); /* what came before the end that may be next */
	if (p[2].revents)
		rd_conn_events(c);
	if (p[3].revents)
		rd_conn_socket(c);
	if (c->broken.code)
		poke(s);
	return wake_fd >= 0 && p[4].revents ? -EINTR : 0;
}

int rd_stream_new(struct rd_conn *c, struct rd_stream **ret, struct mc_error *err)
{
	struct rd_stream *s = calloc(1, sizeof *s);
	if (!s) {
		rd_close(c);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "No memory for a connection");
	}
	s->c = c;
	s->posted = s->told_posted = RD_SLOTS;
	s->allowed = c->peer.slots;
	pthread_mutex_init(&s->lock, NULL);
	s->poke[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->poke[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->poke[0] < 0 || s->poke[1] < 0) {
		int r = mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "No eventfd: %s", strerror(errno));
		rd_stream_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void rd_stream_close(struct rd_stream *s)
{
	if (!s)
		return;
	rd_conn_stop(s->c);
	memory_forget_all(s);
	rd_close(s->c);
	for (int i = 0; i < 2; i++)
		if (s->poke[i] >= 0)
			close(s->poke[i]);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void rd_stream_cut(struct rd_stream *s)
{
	pthread_mutex_lock(&s->lock);
	stream_progress(s);
	rd_conn_lose(s->c, -ECONNRESET, MC_ECLASS_UNREACHABLE,
		"The RDMA connection was given up here: the peer did not take what was sent in "
		"time");
	rd_conn_stop(s->c);
	poke(s);
	pthread_mutex_unlock(&s->lock);
}

void rd_stream_shutdown(struct rd_stream *s)
{
	pthread_mutex_lock(&s->lock);
	rd_conn_lose(
		s->c, -ECONNRESET, MC_ECLASS_UNREACHABLE, "The RDMA connection was ended here");
	shutdown(s->c->socket, SHUT_RDWR); /* the peer is told */
	poke(s);
	pthread_mutex_unlock(&s->lock);
}

int rd_stream_why(struct rd_stream *s, struct mc_error *err)
{
	pthread_mutex_lock(&s->lock);
	int r = s->c->broken.code;
	if (r && err)
		*err = s->c->broken;
	pthread_mutex_unlock(&s->lock);
	return r ? r : -EINVAL;
}

const char *rd_stream_device(const struct rd_stream *s)
{
	return rd_device_name(s->c);
}
