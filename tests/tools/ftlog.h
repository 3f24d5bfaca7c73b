/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's in-memory log of applied requests: an entry each, kept for good, chained by hash. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define FTLOG_CHUNK  65536u
#define FTLOG_CHUNKS 1024u /* 67 million requests */

struct ftlog_entry {
	uint64_t payload, chain;
};

struct ftlog {
	struct ftlog_entry *chunks[FTLOG_CHUNKS];
	uint64_t last; /* requests are numbered from 1 */
};

/* NULL: never applied. */
const struct ftlog_entry *ftlog_get(const struct ftlog *l, uint64_t n);
/* Applies request last + 1. NULL: no memory for it. */
const struct ftlog_entry *ftlog_append(struct ftlog *l, uint64_t payload_hash);
/* Recomputes the whole chain: 0, or the first request whose entry is wrong. */
uint64_t ftlog_check(const struct ftlog *l);
