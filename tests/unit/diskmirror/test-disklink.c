/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the disk stream may rely on, on a socket. */
#include "tests/unit/diskmirror/link-pair.h"

#include "common/clock.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SOON  (mc_now() + 50 * MC_MSEC)
#define LATER (mc_now() + 10 * MC_SEC)

struct pair {
	struct disklink *l;
	int fd; /* the peer's */
};

static struct pair connect_pair(void)
{
	struct pair p;
	int fd[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	p.l = test_disklink(fd[0]);
	p.fd = fd[1];
	return p;
}

static void end_pair(struct pair *p)
{
	p->l->ops->close(p->l);
	close(p->fd);
}

static void test_a_timeout_before_the_first_byte_consumes_nothing(void **state)
{
	struct pair p = connect_pair();
	char buf[4];
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, SOON), -ETIMEDOUT);
	assert_int_equal(write(p.fd, "abcd", 4), 4);
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, LATER), 0);
	assert_memory_equal(buf, "abcd", 4);
	end_pair(&p);
}

static void *write_late(void *arg)
{
	struct timespec t = {0, 200000000};
	nanosleep(&t, NULL);
	assert_int_equal(write(*(int *)arg, "cd", 2), 2);
	return NULL;
}

static void test_a_deadline_in_the_middle_of_a_message_does_not_cut_it(void **state)
{
	struct pair p = connect_pair();
	pthread_t t;
	char buf[4];
	assert_int_equal(write(p.fd, "ab", 2), 2);
	pthread_create(&t, NULL, write_late, &p.fd);
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, SOON), 0);
	assert_memory_equal(buf, "abcd", 4);
	pthread_join(t, NULL);
	end_pair(&p);
}

static void test_an_end_before_a_message_differs_from_one_within(void **state)
{
	struct pair p = connect_pair();
	char buf[4];
	assert_int_equal(write(p.fd, "abcde", 5), 5);
	shutdown(p.fd, SHUT_WR);
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, LATER), 0);
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, LATER), -ECONNRESET);
	end_pair(&p);
	p = connect_pair();
	shutdown(p.fd, SHUT_WR);
	assert_int_equal(p.l->ops->recv(p.l, buf, 4, LATER), -ENODATA);
	end_pair(&p);
}

static void *read_all(void *arg)
{
	char *all = malloc(2 << 20);
	size_t n = 0;
	for (ssize_t r; n < 2 << 20 && (r = read(*(int *)arg, all + n, (2 << 20) - n)) > 0;)
		n += (size_t)r;
	return all;
}

static void test_many_pieces_arrive_in_order(void **state)
{
	struct pair p = connect_pair();
	pthread_t t;
	void *got;
	struct iovec v[300];
	char *all = malloc(2 << 20);
	size_t at = 0;
	for (size_t i = 0; i < 2 << 20; i++)
		all[i] = (char)(i * 7 + i / 1000);
	for (size_t i = 0; i < 300; i++) {
		size_t len = i == 299 ? (2 << 20) - at : i * 20; /* the first is empty */
		v[i] = (struct iovec){all + at, len};
		at += len;
	}
	pthread_create(&t, NULL, read_all, &p.fd);
	assert_int_equal(p.l->ops->send(p.l, v, 300, LATER), 0);
	pthread_join(t, &got);
	assert_memory_equal(got, all, 2 << 20);
	free(got);
	free(all);
	end_pair(&p);
}

static void test_after_a_send_that_failed_none_succeeds(void **state)
{
	struct pair p = connect_pair();
	char *big = calloc(1, 8 << 20);
	struct iovec v = {big, 8 << 20};
	assert_int_equal(p.l->ops->send(p.l, &v, 1, SOON), -ETIMEDOUT);
	/* There is room now, but a message is cut in two. */
	while (recv(p.fd, big, 8 << 20, MSG_DONTWAIT) > 0)
		;
	v.iov_len = 1;
	assert_true(p.l->ops->send(p.l, &v, 1, LATER) < 0);
	free(big);
	end_pair(&p);
}

static void *wait_forever(void *arg)
{
	struct disklink *l = arg;
	char c;
	return (void *)(intptr_t)l->ops->recv(l, &c, 1, UINT64_MAX);
}

static void test_shutdown_ends_a_wait_of_another_thread(void **state)
{
	struct pair p = connect_pair();
	pthread_t t;
	void *r;
	pthread_create(&t, NULL, wait_forever, p.l);
	p.l->ops->shutdown(p.l);
	pthread_join(t, &r);
	assert_true((intptr_t)r < 0);
	struct iovec v = {(char[]){"x"}, 1};
	assert_int_equal(p.l->ops->send(p.l, &v, 1, LATER), -ECONNRESET);
	end_pair(&p);
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_timeout_before_the_first_byte_consumes_nothing),
		T(a_deadline_in_the_middle_of_a_message_does_not_cut_it),
		T(an_end_before_a_message_differs_from_one_within),
		T(many_pieces_arrive_in_order),
		T(after_a_send_that_failed_none_succeeds),
		T(shutdown_ends_a_wait_of_another_thread),
	};
	return cmocka_run_group_tests_name("disklink", tests, NULL, NULL);
}
