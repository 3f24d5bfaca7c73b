/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk stream on a connected stream socket (TCP between hosts, a socketpair in tests). */
#include "diskmirror/disklink.h"

#include "common/clock.h"
#include "common/iov.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct socket_link {
	struct disklink link;
	int fd;
	int send_error; /* the sending thread's: part of a message is out, nothing can follow it */
};

#define IOV_AT_ONCE 64

static struct socket_link *of(struct disklink *l)
{
	return (struct socket_link *)l;
}

/* 1 = ready, 0 = the deadline passed, negative errno. */
static int wait_ready(int fd, short events, uint64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int left = mc_ms_left(deadline);
		int r = poll(&p, 1, left);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			return 1;
		if (r == 0 && left == 0)
			return 0;
	}
}

/* All of v[0..n), which is changed on the way. */
static int send_some(int fd, struct iovec *v, size_t n, uint64_t deadline)
{
	size_t at = 0;
	while (at < n) {
		struct msghdr m = {.msg_iov = v + at, .msg_iovlen = n - at};
		ssize_t put = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put >= 0) {
			at += mc_iov_advance(v + at, n - at, (size_t)put);
			/* A peer that takes a byte at a time must not stretch the deadline. */
			if (at < n && mc_now() >= deadline)
				return -ETIMEDOUT;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EPIPE)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		int r = wait_ready(fd, POLLOUT, deadline);
		if (r <= 0)
			return r ? r : -ETIMEDOUT;
	}
	return 0;
}

static int socket_send(struct disklink *l, const struct iovec *iov, size_t n, uint64_t deadline)
{
	struct socket_link *s = of(l);
	for (size_t at = 0; at < n && !s->send_error; at += IOV_AT_ONCE) {
		struct iovec v[IOV_AT_ONCE];
		size_t k = n - at < IOV_AT_ONCE ? n - at : IOV_AT_ONCE;
		memcpy(v, iov + at, k * sizeof *v);
		/* No shutdown here: the other thread would report that, and not the cause. */
		s->send_error = send_some(s->fd, v, k, deadline);
	}
	return s->send_error;
}

/* A message that has begun gets as long as its bytes keep coming. */
static uint64_t grace(uint64_t deadline)
{
	uint64_t least = mc_now() + DISKLINK_GRACE;
	return deadline > least ? deadline : least;
}

static int socket_recv(struct disklink *l, void *buf, size_t len, uint64_t deadline)
{
	int fd = of(l)->fd;
	size_t got = 0;
	while (got < len) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, MSG_DONTWAIT);
		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		if (n == 0)
			return got ? -ECONNRESET : -ENODATA;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		int r = wait_ready(fd, POLLIN, got ? grace(deadline) : deadline);
		if (r < 0)
			return r;
		if (r == 0)
			return got ? -ECONNRESET : -ETIMEDOUT;
	}
	return 0;
}

static void socket_shutdown(struct disklink *l)
{
	shutdown(of(l)->fd, SHUT_RDWR);
}

static void socket_close(struct disklink *l)
{
	close(of(l)->fd);
	free(l);
}

static const struct disklink_ops socket_ops = {
	.send = socket_send,
	.recv = socket_recv,
	.shutdown = socket_shutdown,
	.close = socket_close,
};

int disklink_socket_new(int fd, struct disklink **ret, struct mc_error *err)
{
	struct socket_link *s = malloc(sizeof *s);
	if (!s) {
		close(fd);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to mirror disks; free some on this host");
	}
	*s = (struct socket_link){.link = {&socket_ops}, .fd = fd};
	*ret = &s->link;
	return 0;
}
