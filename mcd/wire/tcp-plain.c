// SPDX-License-Identifier: GPL-2.0-or-later
/* Stream I/O by poll, sendmsg and recv, for kernels where io_uring is switched off. */
#include "mcd/wire/stream-io.h"

#include "common/clock.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

struct plain {
	struct stream_io io;
	int fd;
	struct msghdr *msg; /* to be sent, NULL = no send under way */
};

static struct plain *plain(struct stream_io *io)
{
	return (struct plain *)io;
}

/* 1 = ready, else -ETIMEDOUT, -EINTR (wake_fd, which wins) or another error. */
static int wait_ready(int fd, short events, uint64_t deadline, int wake_fd)
{
	struct pollfd p[2] = { { fd, events, 0 }, { wake_fd, POLLIN, 0 } };
	for (;;) {
		int left = mc_ms_left(deadline);
		int r = poll(p, wake_fd >= 0 ? 2 : 1, left);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			return wake_fd >= 0 && p[1].revents ? -EINTR : 1;
		if (r == 0 && !left)
			return -ETIMEDOUT;
	}
}

static int plain_send_start(struct stream_io *io, struct msghdr *msg)
{
	plain(io)->msg = msg;
	return 0;
}

static ssize_t plain_send_finish(struct stream_io *io, uint64_t deadline)
{
	struct plain *p = plain(io);
	for (;;) {
		ssize_t n = sendmsg(p->fd, p->msg, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n >= 0 || errno != EAGAIN) {
			p->msg = NULL;
			return n >= 0 ? n : stream_io_error(-errno);
		}
		int r = wait_ready(p->fd, POLLOUT, deadline, -1);
		if (r < 0)
			return r;
	}
}

static ssize_t plain_recv(struct stream_io *io, void *buf, size_t len, bool all, uint64_t deadline,
	int wake_fd)
{
	struct plain *p = plain(io);
	size_t got = 0;
	while (got < len) {
		int r = 1;
		if (wake_fd >= 0 && !got)
			r = wait_ready(p->fd, POLLIN, deadline, wake_fd);
		if (r < 0)
			return r;
		ssize_t n = recv(p->fd, (char *)buf + got, len - got, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			r = wait_ready(p->fd, POLLIN, deadline, got ? -1 : wake_fd);
			if (r < 0)
				return got ? (ssize_t)got : r;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return stream_io_error(-errno);
		got += (size_t)n;
		if (!n || !all)
			break;
	}
	return (ssize_t)got;
}

static void plain_send_cancel(struct stream_io *io)
{
	plain(io)->msg = NULL;
}

static void plain_free(struct stream_io *io)
{
	close(plain(io)->fd);
	free(io);
}

static const struct stream_io_ops plain_ops = {
	.name = "plain",
	.send_start = plain_send_start,
	.send_finish = plain_send_finish,
	.recv = plain_recv,
	.send_cancel = plain_send_cancel,
	.free = plain_free,
};

int tcp_io_plain_new(int fd, struct stream_io **ret)
{
	struct plain *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->io.ops = &plain_ops;
	p->fd = fd;
	*ret = &p->io;
	return 0;
}
