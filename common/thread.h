/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads with a name, and waiting on CLOCK_MONOTONIC (common/clock.h). */
#pragma once
#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define MC_THREAD_NAME 15 /* bytes of a thread's name at most; a longer one is cut */

/* The thread has every signal blocked that somebody sends: those belong to the main thread.
 * `name` is what ps, top and gdb call it.  Returns 0 or a negative errno. */
int mc_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);
/* Of a thread that nobody joins. */
int mc_thread_start_detached(const char *name, void *(*fn)(void *), void *arg);

/* A condition variable whose timed waits take what mc_timespec returns. */
void mc_cond_init(pthread_cond_t *c);
struct timespec mc_timespec(uint64_t deadline);
