/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/clock.h"
#include "common/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>

struct seen {
	char name[16];
	sigset_t mask;
	sem_t done;
};

static void *look(void *arg)
{
	struct seen *s = arg;
	pthread_getname_np(pthread_self(), s->name, sizeof s->name);
	pthread_sigmask(SIG_SETMASK, NULL, &s->mask);
	sem_post(&s->done);
	return s;
}

static void a_thread_has_its_name_and_returns_its_value(void **state)
{
	struct seen s = {0};
	pthread_t t;
	void *ret = NULL;
	sem_init(&s.done, 0, 0);
	assert_int_equal(mc_thread_start(&t, "looker", look, &s), 0);
	assert_int_equal(pthread_join(t, &ret), 0);
	assert_ptr_equal(ret, &s);
	assert_string_equal(s.name, "looker");
	sem_destroy(&s.done);
}

static void a_long_name_is_cut(void **state)
{
	struct seen s = {0};
	pthread_t t;
	sem_init(&s.done, 0, 0);
	assert_int_equal(mc_thread_start(&t, "mirror-of-a-virtual-machine", look, &s), 0);
	pthread_join(t, NULL);
	assert_string_equal(s.name, "mirror-of-a-vir");
	sem_destroy(&s.done);
}

static void a_thread_is_not_interrupted_by_what_is_sent_to_the_process(void **state)
{
	struct seen s = {0};
	pthread_t t;
	sigset_t before, after;
	sem_init(&s.done, 0, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(mc_thread_start(&t, "looker", look, &s), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	pthread_join(t, NULL);
	const int sent[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM};
	for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
		assert_int_equal(sigismember(&s.mask, sent[i]), 1);
		assert_int_equal(sigismember(&after, sent[i]), sigismember(&before, sent[i]));
	}
	assert_int_equal(sigismember(&s.mask, SIGSEGV), 0);
	sem_destroy(&s.done);
}

static void a_detached_thread_has_its_name(void **state)
{
	struct seen s = {0};
	sem_init(&s.done, 0, 0);
	assert_int_equal(mc_thread_start_detached("passer-by", look, &s), 0);
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20;
	assert_int_equal(sem_timedwait(&s.done, &limit), 0);
	assert_string_equal(s.name, "passer-by");
	sem_destroy(&s.done);
}

static void a_wait_ends_at_its_deadline(void **state)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t cond;
	mc_cond_init(&cond);
	uint64_t deadline = mc_now() + 20 * MC_MSEC;
	struct timespec ts = mc_timespec(deadline);
	int r;
	pthread_mutex_lock(&lock);
	do
		r = pthread_cond_timedwait(&cond, &lock, &ts);
	while (r == 0);
	pthread_mutex_unlock(&lock);
	assert_int_equal(r, ETIMEDOUT);
	assert_true(mc_now() >= deadline);
	/* Were it CLOCK_REALTIME, the deadline would have passed in 1970. */
	assert_true(mc_now() < deadline + 20 * MC_SEC);
	pthread_cond_destroy(&cond);
}

static void a_deadline_keeps_its_nanoseconds_and_never_stays_valid(void **state)
{
	struct timespec ts = mc_timespec(3 * MC_SEC + 7);
	assert_int_equal(ts.tv_sec, 3);
	assert_int_equal(ts.tv_nsec, 7);
	ts = mc_timespec(UINT64_MAX);
	assert_true(ts.tv_sec > 1000000000);
	assert_true(ts.tv_sec <= INT32_MAX);
	assert_true(ts.tv_nsec < 1000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_has_its_name_and_returns_its_value),
		cmocka_unit_test(a_long_name_is_cut),
		cmocka_unit_test(a_thread_is_not_interrupted_by_what_is_sent_to_the_process),
		cmocka_unit_test(a_detached_thread_has_its_name),
		cmocka_unit_test(a_wait_ends_at_its_deadline),
		cmocka_unit_test(a_deadline_keeps_its_nanoseconds_and_never_stays_valid),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
