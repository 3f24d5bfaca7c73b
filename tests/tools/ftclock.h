/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's monotonic clock as its programs see it: whether it ever went back, and its longest
 * step. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct ftclock {
	uint64_t last; /* ns */
	uint64_t back; /* by how much it went back, at the most; 0: never, as it must be */
	uint64_t gap;  /* its longest step forward, between two looks */
};

/* CLOCK_MONOTONIC in ns, which every reader of time in this program asks for here. */
uint64_t ftclock_now(struct ftclock *c);
/* The rest of the answer to TIME. */
void ftclock_describe(struct ftclock *c, char *buf, size_t size);
