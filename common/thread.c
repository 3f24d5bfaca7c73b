/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The new thread names itself: one that nobody joins may have ended before its creator could do it,
 * and another may have its id by then.
 */
#include "common/thread.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct start {
	void *(*fn)(void *);
	void *arg;
	char name[MC_THREAD_NAME + 1];
};

static void *run(void *p)
{
	struct start s = *(struct start *)p;
	free(p);
	pthread_setname_np(pthread_self(), s.name);
	return s.fn(s.arg);
}

/* Those that a fault of the thread itself raises stay open: the kernel would end the process all
 * the same, but without a sanitizer's report. */
static void block_signals(sigset_t *ret_old)
{
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	sigdelset(&set, SIGSEGV);
	pthread_sigmask(SIG_BLOCK, &set, ret_old);
}

static int start(pthread_t *ret, bool detached, const char *name, void *(*fn)(void *), void *arg)
{
	assert(name && name[0] && fn);
	_cleanup_free_ struct start *s = malloc(sizeof *s);
	if (!s)
		return -ENOMEM;
	*s = (struct start){.fn = fn, .arg = arg};
	snprintf(s->name, sizeof s->name, "%.*s", MC_THREAD_NAME, name);

	pthread_attr_t attr;
	pthread_attr_init(&attr);
	if (detached)
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* The mask is inherited, so there is no moment in which the thread could be interrupted. */
	sigset_t old;
	block_signals(&old);
	pthread_t thread;
	int r = pthread_create(&thread, &attr, run, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r)
		return -r;
	s = NULL; /* the thread's own now */
	if (ret)
		*ret = thread;
	return 0;
}

int mc_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg)
{
	assert(ret);
	return start(ret, false, name, fn, arg);
}

int mc_thread_start_detached(const char *name, void *(*fn)(void *), void *arg)
{
	return start(NULL, true, name, fn, arg);
}

void mc_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t a;
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

struct timespec mc_timespec(uint64_t deadline)
{
	uint64_t sec = deadline / MC_SEC; /* UINT64_MAX is a usual deadline: never */
	return (struct timespec){
		.tv_sec = sec > INT32_MAX ? INT32_MAX : (time_t)sec,
		.tv_nsec = (long)(deadline % MC_SEC),
	};
}
