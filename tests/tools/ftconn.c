/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftconn.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull

uint64_t ftconn_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool ftconn_address(struct ftconn *c, const char *host, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&c->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&c->addr;

	memset(&c->addr, 0, sizeof(c->addr));
	c->fd = -1;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		c->addr_len = sizeof(*v4);
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	c->addr_len = sizeof(*v6);
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static bool fail(struct ftconn *c, const char *what, int code)
{
	snprintf(c->why, sizeof(c->why), "%s: %s", what,
		code ? strerror(code) : "closed by the guest");
	ftconn_close(c);
	return false;
}

static bool connect_once(struct ftconn *c, uint64_t timeout_ns)
{
	struct pollfd p;
	socklen_t len = sizeof(int);
	int one = 1, code = 0;

	c->fd = socket(c->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return fail(c, "socket", errno);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&c->addr, c->addr_len) && errno != EINPROGRESS)
		return fail(c, "connect", errno);
	p = (struct pollfd){.fd = c->fd, .events = POLLOUT};
	if (poll(&p, 1, (int)(timeout_ns / MS)) <= 0)
		return fail(c, "connect", ETIMEDOUT);
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &code, &len) || code)
		return fail(c, "connect", code);
	c->in_at = c->in_len = c->out_len = 0;
	return true;
}

bool ftconn_open(struct ftconn *c, uint64_t deadline, const volatile bool *give_up)
{
	while (!connect_once(c, 1000 * MS)) {
		if (*give_up || ftconn_now() >= deadline)
			return false;
		poll(NULL, 0, 20); /* a refused connection is refused at once */
	}
	return true;
}

void ftconn_close(struct ftconn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

bool ftconn_put(struct ftconn *c, const char *fmt, ...)
{
	size_t room = sizeof(c->out) - c->out_len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(c->out + c->out_len, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		return false;
	c->out_len += (size_t)n;
	return true;
}

static bool flush(struct ftconn *c)
{
	ssize_t n;

	if (!c->out_len)
		return true;
	n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? true : fail(c, "send", errno);
	memmove(c->out, c->out + n, c->out_len - (size_t)n);
	c->out_len -= (size_t)n;
	return true;
}

bool ftconn_turn(struct ftconn *c, uint64_t timeout_ns)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};
	struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
	ssize_t n;

	if (!flush(c))
		return false;
	if (c->out_len)
		p.events |= POLLOUT;
	if (ppoll(&p, 1, &t, NULL) <= 0)
		return true;
	if (!(p.revents & ~POLLOUT))
		return flush(c);
	memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
	c->in_len -= c->in_at;
	c->in_at = 0;
	if (c->in_len == sizeof(c->in))
		return fail(c, "receive", EMSGSIZE);
	n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? true : fail(c, "receive", errno);
	if (n == 0)
		return fail(c, "receive", 0);
	c->in_len += (size_t)n;
	return true;
}

char *ftconn_line(struct ftconn *c)
{
	char *line = c->in + c->in_at, *end = memchr(line, '\n', c->in_len - c->in_at);

	if (!end)
		return NULL;
	*end = '\0';
	c->in_at = (size_t)(end - c->in) + 1;
	return line;
}
