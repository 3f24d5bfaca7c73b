/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/histogram.h"

#include <string.h>

#define SUB_BITS MC_HISTOGRAM_SUB_BITS
#define SUB      (1u << SUB_BITS)

/* Bucket numbers run on without a gap: the octave [2^k, 2^(k+1)) with k >= SUB_BITS takes SUB
 * buckets of width 2^(k - SUB_BITS), and the values below 2^SUB_BITS come first, one by one. */
static unsigned bucket_of(uint64_t value)
{
	if (value < SUB)
		return (unsigned)value;
	unsigned shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
	return (shift << SUB_BITS) + (unsigned)(value >> shift);
}

static uint64_t middle_of(unsigned bucket)
{
	if (bucket < 2 * SUB)
		return bucket;
	unsigned shift = (bucket >> SUB_BITS) - 1;
	uint64_t low = (uint64_t)(bucket - (shift << SUB_BITS)) << shift;
	return low + (1ull << (shift - 1));
}

void mc_histogram_add(struct mc_histogram *h, uint64_t value)
{
	if (h->count == 0 || value < h->min)
		h->min = value;
	if (value > h->max)
		h->max = value;
	h->count++;
	h->bucket[bucket_of(value)]++;
}

void mc_histogram_reset(struct mc_histogram *h)
{
	memset(h, 0, sizeof *h);
}

uint64_t mc_histogram_percentile(const struct mc_histogram *h, double p)
{
	if (h->count == 0)
		return 0;
	if (!(p > 0))
		return h->min;
	if (p >= 100)
		return h->max;
	/* The rank of the wanted value, counted from 1, rounded up: p99 of ten values is the tenth.
	 * The tiny tolerance keeps 14 % of 50, which is not quite 7 in binary, from being 8. */
	double exact = p * (double)h->count / 100;
	uint64_t rank = (uint64_t)exact;
	if (exact - (double)rank > 1e-6 || rank == 0)
		rank++;
	uint64_t seen = 0;
	for (unsigned i = 0; i < MC_HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen < rank)
			continue;
		uint64_t v = middle_of(i);
		return v < h->min ? h->min : v > h->max ? h->max : v;
	}
	return h->max;
}
