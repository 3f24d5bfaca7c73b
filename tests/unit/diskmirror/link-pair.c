/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/diskmirror/link-pair.h"

#include "common/clock.h"
#include "common/rdma/stream.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECE 65536

static const struct link_key key = {32, "a key for the tests, of 32 bytes"};

struct bridge {
	struct rd_stream *s;
	int fd;
	_Atomic int left; /* threads that still run */
};

static void leave(struct bridge *b)
{
	if (--b->left)
		return;
	rd_stream_close(b->s);
	close(b->fd);
	free(b);
}

/* The far end of the disklink -> the test. */
static void *outwards(void *arg)
{
	struct bridge *b = arg;
	char buf[PIECE];
	ssize_t n;
	while ((n = rd_stream_recv(b->s, buf, sizeof buf, false, UINT64_MAX, -1)) > 0)
		for (ssize_t at = 0, r; at < n; at += r)
			if ((r = send(b->fd, buf + at, (size_t)(n - at), MSG_NOSIGNAL)) <= 0) {
				rd_stream_shutdown(b->s);
				n = 0;
				break;
			}
	shutdown(b->fd, n == -ENODATA ? SHUT_WR : SHUT_RDWR);
	leave(b);
	return NULL;
}

/* The test -> the far end. */
static void *inwards(void *arg)
{
	struct bridge *b = arg;
	char buf[PIECE];
	ssize_t n;
	while ((n = recv(b->fd, buf, sizeof buf, 0)) > 0)
		if (rd_stream_send(b->s, &(struct iovec){buf, (size_t)n}, 1, UINT64_MAX) < 0 ||
			rd_stream_drain(b->s, UINT64_MAX) < 0)
			break;
	rd_stream_shutdown(b->s);
	leave(b);
	return NULL;
}

struct accepting {
	int listener;
	struct rd_link link;
};

static void *accept_one(void *arg)
{
	struct accepting *a = arg;
	struct mc_error err = MC_ERROR_INIT;
	struct link_peer peer;
	struct pollfd p = {a->listener, POLLIN, 0};
	assert_int_equal(poll(&p, 1, 10000), 1);
	int fd = accept4(a->listener, NULL, NULL, SOCK_CLOEXEC);
	struct link_self self = {"far", &key, 2, NULL};
	if (link_accept(fd, &self, mc_now() + 5 * MC_SEC, &peer, &err) < 0 ||
		rd_welcome(RD_RDMA, &disklink_rdma_wants, fd, &peer, mc_now() + RD_AGREE_TIME,
			&a->link, &err) < 0)
		fail_msg("%s", err.msg);
	return NULL;
}

static struct disklink *over_rdma(const char *address, int link_fd)
{
	struct accepting a = {.listener = -1};
	struct mc_error err = MC_ERROR_INIT;
	struct rd_link near;
	struct disklink *l;
	pthread_t t, in, out;
	uint16_t port = 0;
	for (port = 20000; a.listener < 0 && port < 20100; port++)
		a.listener = link_listen(address, port, &err);
	port--;
	if (a.listener < 0)
		fail_msg("%s", err.msg);
	pthread_create(&t, NULL, accept_one, &a);
	struct link_self self = {"near", &key, 1, address};
	struct link_target to = {"far", address, port, LINK_DISK, "vm1"};
	if (rd_dial(RD_RDMA, &disklink_rdma_wants, &self, &to, mc_now() + RD_AGREE_TIME, &near,
		    &err) < 0)
		fail_msg("%s", err.msg);
	pthread_join(t, NULL);
	close(a.listener);
	struct bridge *b = calloc(1, sizeof *b);
	b->left = 2;
	b->fd = link_fd;
	if (rd_stream_new(a.link.rdma, &b->s, &err) < 0 || disklink_new(&near, &l, &err) < 0)
		fail_msg("%s", err.msg);
	pthread_create(&in, NULL, inwards, b);
	pthread_create(&out, NULL, outwards, b);
	pthread_detach(in);
	pthread_detach(out);
	return l;
}

struct disklink *test_disklink(int link_fd)
{
	const char *address = getenv("MCD_TEST_RDMA");
	struct disklink *l;
	if (address && *address)
		return over_rdma(address, link_fd);
	assert_int_equal(disklink_socket_new(link_fd, &l, NULL), 0);
	return l;
}
