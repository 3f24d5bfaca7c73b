/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets for link.c: numeric addresses, bounded connect(2). */
#include "common/link-tcp.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* Numeric only: no name service may delay a takeover. */
static int resolve(const char *address, uint16_t port, struct sockaddr_storage *ret,
	socklen_t *ret_len, struct mc_error *err)
{
	struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *ai = NULL;
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	int r = getaddrinfo(address, service, &hints, &ai);
	if (r)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'%s' is not a numeric IPv4 or IPv6 address: %s", address, gai_strerror(r));
	memcpy(ret, ai->ai_addr, ai->ai_addrlen);
	*ret_len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;
}

int link_tcp_listen(const char *address, uint16_t port, struct mc_error *err)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int one = 1, r = resolve(address, port, &ss, &len, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd =
		socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* "Exactly this address": [::] must not take the IPv4 port as well. */
	if (ss.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 64) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot listen on %s port %u: %s; check [host] address and port, and that "
			"no other mcd runs",
			address, port, strerror(errno));
	return mc_steal_fd(&fd);
}

static int connect_error(struct mc_error *err, int e, const char *address, uint16_t port)
{
	return mc_error_set(err, -e, MC_ECLASS_UNREACHABLE,
		"cannot connect to %s port %u: %s; is mcd running there and the port open?",
		address, port, strerror(e));
}

int link_tcp_connect(const char *local, const char *address, uint16_t port, uint64_t deadline,
	struct mc_error *err)
{
	struct sockaddr_storage to, from;
	socklen_t to_len, from_len;
	int one = 1, r = resolve(address, port, &to, &to_len, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd =
		socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot make a socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (local) {
		r = resolve(local, 0, &from, &from_len, err);
		if (r < 0)
			return r;
		setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
		if (bind(fd, (struct sockaddr *)&from, from_len) < 0)
			return mc_error_set(err, -errno, MC_ECLASS_FAILED,
				"cannot connect from address %s: %s; does this host have it?",
				local, strerror(errno));
	}
	if (connect(fd, (struct sockaddr *)&to, to_len) < 0 && errno != EINPROGRESS)
		return connect_error(err, errno, address, port);
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		int left = mc_ms_left(deadline);
		r = poll(&p, 1, left);
		if (r > 0)
			break;
		if (r < 0 && errno != EINTR)
			return connect_error(err, errno, address, port);
		if (r == 0 && left == 0)
			return connect_error(err, ETIMEDOUT, address, port);
	}
	int e = 0;
	socklen_t e_len = sizeof e;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &e_len) < 0)
		e = errno;
	if (e)
		return connect_error(err, e, address, port);
	return mc_steal_fd(&fd);
}
