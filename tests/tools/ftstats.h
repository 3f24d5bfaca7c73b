/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the client has seen: every request with its times, and the longest silence. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct ftreq {
	uint64_t sent, answered; /* CLOCK_MONOTONIC; answered 0: not yet */
	uint64_t chain;          /* that its answer must carry */
};

struct ftstats {
	struct ftreq *reqs; /* of request base + 1 + index */
	size_t sent, acked, cap;
	uint64_t base;  /* last request of those before us */
	uint64_t chain; /* of the last request sent */
	uint64_t first_sent, last_answer;
	/* the longest time between one answer and the next (or our first request and its answer) */
	uint64_t stall_from, stall_to;
};

/* Notes the sending of the next request, whose payload hash is given. Its number, 0: no memory. */
uint64_t ftstats_sent(struct ftstats *s, uint64_t payload_hash, uint64_t now);
/* Notes the answer to the oldest unanswered request. */
void ftstats_answered(struct ftstats *s, uint64_t now);
/* Nothing more is coming: a silence that lasts until now counts. */
void ftstats_end(struct ftstats *s, uint64_t now);
/* Percentiles of the latency, in ms, of the last `window` answered requests (0: of all). */
void ftstats_latency(const struct ftstats *s, size_t window, double *ret_p50, double *ret_p99);
/* The longest silence so far, one that still lasts included. */
uint64_t ftstats_stall(const struct ftstats *s, uint64_t now);
