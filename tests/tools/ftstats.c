/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftstats.h"
#include "ftproto.h"
#include <stdlib.h>

uint64_t ftstats_sent(struct ftstats *s, uint64_t payload_hash, uint64_t now)
{
	uint64_t n = s->base + s->sent + 1;

	if (s->sent == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 4096;
		struct ftreq *r = reallocarray(s->reqs, cap, sizeof(*r));

		if (!r)
			return 0;
		s->reqs = r;
		s->cap = cap;
	}
	s->chain = ft_chain(s->chain, n, payload_hash);
	s->reqs[s->sent++] = (struct ftreq){.sent = now, .chain = s->chain};
	if (!s->first_sent)
		s->first_sent = now;
	return n;
}

static void silence_until(struct ftstats *s, uint64_t now)
{
	uint64_t from = s->last_answer ? s->last_answer : s->first_sent;

	if (now - from > s->stall_to - s->stall_from) {
		s->stall_from = from;
		s->stall_to = now;
	}
}

void ftstats_answered(struct ftstats *s, uint64_t now)
{
	s->reqs[s->acked++].answered = now;
	silence_until(s, now);
	s->last_answer = now;
}

void ftstats_end(struct ftstats *s, uint64_t now)
{
	if (s->sent > s->acked)
		silence_until(s, now);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void ftstats_latency(const struct ftstats *s, size_t window, double *ret_p50, double *ret_p99)
{
	size_t n = window && window < s->acked ? window : s->acked;
	uint64_t *v;

	*ret_p50 = *ret_p99 = 0;
	if (!n || !(v = calloc(n, sizeof(*v))))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct ftreq *r = &s->reqs[s->acked - n + i];

		v[i] = r->answered - r->sent;
	}
	qsort(v, n, sizeof(*v), by_value);
	*ret_p50 = (double)v[n / 2] / 1e6;
	*ret_p99 = (double)v[n - 1 - n / 100] / 1e6;
	free(v);
}

uint64_t ftstats_stall(const struct ftstats *s, uint64_t now)
{
	uint64_t longest = s->stall_to - s->stall_from;
	uint64_t since = s->last_answer ? s->last_answer : s->first_sent;

	return s->sent > s->acked && now - since > longest ? now - since : longest;
}
