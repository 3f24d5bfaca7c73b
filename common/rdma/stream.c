/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of a stream. */
#include "common/rdma/stream-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

int rd_stream_new(struct rd_conn *c, struct rd_stream **ret, struct mc_error *err)
{
	struct rd_stream *s = calloc(1, sizeof *s);
	if (!s) {
		rd_close(c);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a connection");
	}
	s->c = c;
	s->posted = s->told_posted = RD_SLOTS;
	s->allowed = c->peer.slots;
	pthread_mutex_init(&s->lock, NULL);
	s->poke[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->poke[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->poke[0] < 0 || s->poke[1] < 0) {
		int r = mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "no eventfd: %s", strerror(errno));
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

void rd_stream_shutdown(struct rd_stream *s)
{
	pthread_mutex_lock(&s->lock);
	rd_conn_lose(
		s->c, -ECONNRESET, MC_ECLASS_UNREACHABLE, "the RDMA connection was ended here");
	shutdown(s->c->socket, SHUT_RDWR); /* the peer is told */
	stream_poke(s);
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
