/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole-buffer socket I/O, each call bounded by a deadline. */
#include "common/link.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Waits for the events; 1 = ready, 0 = deadline passed, negative errno.  With wake_fd >= 0 also
 * -EINTR as soon as that is readable, which wins over data: whoever wakes us wants us gone. */
static int wait_ready(int fd, short events, uint64_t deadline, int wake_fd)
{
	for (;;) {
		struct pollfd p[2] = {
			{.fd = fd, .events = events},
			{.fd = wake_fd, .events = POLLIN},
		};
		int left = mc_ms_left(deadline);
		int r = poll(p, wake_fd >= 0 ? 2 : 1, left);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			return wake_fd >= 0 && p[1].revents ? -EINTR : 1;
		if (r == 0 && left == 0)
			return 0;
	}
}

int link_read(int fd, void *buf, size_t len, uint64_t deadline, int wake_fd)
{
	size_t got = 0;
	while (got < len) {
		/* Never blocks in recv, whatever the descriptor's own mode: only poll waits. */
		bool check_wake = wake_fd >= 0 && got == 0;
		ssize_t n = -1;
		if (check_wake) {
			int r = wait_ready(fd, POLLIN, deadline, wake_fd);
			if (r <= 0)
				return r ? r : -ETIMEDOUT;
		}
		n = recv(fd, (char *)buf + got, len - got, MSG_DONTWAIT);
		if (n > 0) {
			got += (size_t)n;
			/* A peer that dribbles bytes must not stretch the deadline. */
			if (got < len && mc_now() >= deadline)
				return -ETIMEDOUT;
			continue;
		}
		if (n == 0)
			return got ? -ECONNRESET : -ENODATA;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		if (!check_wake) {
			int r = wait_ready(fd, POLLIN, deadline, -1);
			if (r <= 0)
				return r ? r : -ETIMEDOUT;
		}
	}
	return 0;
}

int link_write(int fd, const void *buf, size_t len, uint64_t deadline)
{
	size_t put = 0;
	while (put < len) {
		ssize_t n =
			send(fd, (const char *)buf + put, len - put, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			put += (size_t)n;
			if (put < len && mc_now() >= deadline)
				return -ETIMEDOUT;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EPIPE)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return -errno;
		int r = wait_ready(fd, POLLOUT, deadline, -1);
		if (r <= 0)
			return r ? r : -ETIMEDOUT;
	}
	return 0;
}
