/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/control/client.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int control_client_new(int fd, pid_t pid, uint64_t id, struct control_client **ret)
{
	struct control_client *cl = malloc(sizeof *cl);
	if (!cl) {
		close(fd);
		return -ENOMEM;
	}
	/* Not cleared as a whole: the input buffer's pages stay untouched until they are used. */
	memset(cl, 0, offsetof(struct control_client, in));
	cl->out = NULL;
	cl->out_begin = cl->out_end = cl->out_size = 0;
	cl->fd = fd;
	cl->pid = pid;
	cl->id = id;
	*ret = cl;
	return 0;
}

void control_client_free(struct control_client *cl)
{
	if (!cl)
		return;
	sd_event_source_disable_unref(cl->io);
	close(cl->fd);
	free(cl->out);
	free(cl);
}

void control_client_read(struct control_client *cl)
{
	assert(cl->in_begin <= cl->in_end && cl->in_end <= sizeof cl->in);
	if (cl->in_begin > 0) {
		memmove(cl->in, cl->in + cl->in_begin, cl->in_end - cl->in_begin);
		cl->in_end -= cl->in_begin;
		cl->in_begin = 0;
	}
	while (!cl->eof && cl->in_end < sizeof cl->in) {
		ssize_t n =
			recv(cl->fd, cl->in + cl->in_end, sizeof cl->in - cl->in_end, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			cl->dead = "its connection broke";
		if (n <= 0) {
			cl->eof = true;
			return;
		}
		cl->in_end += (size_t)n;
	}
}

char *control_client_line(struct control_client *cl, size_t *ret_len, int *ret_error)
{
	char *line = cl->in + cl->in_begin;
	size_t len = cl->in_end - cl->in_begin;
	char *newline = memchr(line, '\n', len);
	if (!newline) {
		if (len > CONTROL_LINE_MAX)
			*ret_error = -EMSGSIZE;
		return NULL;
	}
	*ret_len = (size_t)(newline - line);
	cl->in_begin += *ret_len + 1;
	return line;
}

/* Makes room for len more bytes behind out_end. */
static int reserve(struct control_client *cl, size_t len)
{
	size_t pending = cl->out_end - cl->out_begin;
	if (cl->out_begin > 0) {
		memmove(cl->out, cl->out + cl->out_begin, pending);
		cl->out_begin = 0;
		cl->out_end = pending;
	}
	if (cl->out_size - pending >= len)
		return 0;
	size_t size = cl->out_size ? cl->out_size : 4096;
	while (size - pending < len)
		size *= 2;
	char *out = realloc(cl->out, size);
	if (!out)
		return -ENOMEM;
	cl->out = out;
	cl->out_size = size;
	return 0;
}

void control_client_send(struct control_client *cl, const char *data, size_t len)
{
	if (cl->dead || len == 0)
		return;
	/* The length of what waits is judged, not the sum: a long answer to a client that reads is
	 * always possible. */
	if (cl->out_end - cl->out_begin > CONTROL_BACKLOG_MAX) {
		cl->dead = "it does not read what it asked for";
		return;
	}
	if (reserve(cl, len) < 0) {
		cl->dead = "there is no memory for its answer";
		return;
	}
	assert(cl->out_end + len <= cl->out_size);
	memcpy(cl->out + cl->out_end, data, len);
	cl->out_end += len;
	control_client_flush(cl);
}

void control_client_flush(struct control_client *cl)
{
	while (!cl->dead && cl->out_begin < cl->out_end) {
		ssize_t n = send(cl->fd, cl->out + cl->out_begin, cl->out_end - cl->out_begin,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			cl->dead = "its connection broke";
			return;
		}
		cl->out_begin += (size_t)n;
	}
	assert(cl->out_begin <= cl->out_end);
	if (cl->out_begin < cl->out_end)
		return;
	/* A long answer's buffer is not kept for the life of an idle subscriber. */
	free(cl->out);
	cl->out = NULL;
	cl->out_begin = cl->out_end = cl->out_size = 0;
}

bool control_client_done(const struct control_client *cl)
{
	if (cl->dead)
		return true;
	bool written = cl->out_begin == cl->out_end;
	if (cl->closing)
		return written;
	return cl->eof && written && cl->in_flight == 0 && !cl->subscriber;
}

uint32_t control_client_interest(const struct control_client *cl)
{
	uint32_t mask = 0;
	if (!cl->eof && !cl->closing && cl->in_flight < CONTROL_IN_FLIGHT_MAX)
		mask |= EPOLLIN;
	if (cl->out_begin < cl->out_end)
		mask |= EPOLLOUT;
	return mask;
}
