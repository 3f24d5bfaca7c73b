/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A histogram of uint64 values in fixed memory: log-linear buckets.
 *
 * Values below 64 have a bucket each; every octave above is cut into 32 equal buckets, and a
 * percentile is answered with the middle of its bucket: off by 1.6 % of the value at most.
 * All-zero memory is an empty histogram, so the struct can be embedded.  One thread at a time.
 */
#pragma once
#include <stdint.h>

#define MC_HISTOGRAM_SUB_BITS 5
#define MC_HISTOGRAM_BUCKETS  ((64 - MC_HISTOGRAM_SUB_BITS + 1) << MC_HISTOGRAM_SUB_BITS)

struct mc_histogram {
	uint64_t count, min, max; /* exact; min and max are 0 while count is 0 */
	uint64_t bucket[MC_HISTOGRAM_BUCKETS];
};

void mc_histogram_add(struct mc_histogram *h, uint64_t value);
void mc_histogram_reset(struct mc_histogram *h);

/* The value that p percent (0 .. 100) of the values do not exceed; 0 if there are none.  Never
 * outside [min, max]; 0 gives min, 100 gives max, exactly. */
uint64_t mc_histogram_percentile(const struct mc_histogram *h, double p);
