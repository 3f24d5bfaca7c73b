/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All times are uint64_t nanoseconds of CLOCK_MONOTONIC; a "deadline" is such a point in time. */
#pragma once
#include <stdint.h>
#include <time.h>

#define MC_USEC 1000ull
#define MC_MSEC 1000000ull
#define MC_SEC  1000000000ull

static inline uint64_t mc_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * MC_SEC + (uint64_t)ts.tv_nsec;
}

/* Milliseconds left until the deadline, rounded up, for poll(2): 0 when it has passed. */
static inline int mc_ms_left(uint64_t deadline)
{
	uint64_t now = mc_now();
	if (now >= deadline)
		return 0;
	uint64_t ms = (deadline - now + MC_MSEC - 1) / MC_MSEC;
	return ms > 1000000000 ? 1000000000 : (int)ms;
}
