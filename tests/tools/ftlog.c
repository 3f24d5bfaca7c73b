/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftlog.h"
#include "ftproto.h"
#include <stddef.h>
#include <stdlib.h>

static struct ftlog_entry *entry(const struct ftlog *l, uint64_t n)
{
	return &l->chunks[(n - 1) / FTLOG_CHUNK][(n - 1) % FTLOG_CHUNK];
}

const struct ftlog_entry *ftlog_get(const struct ftlog *l, uint64_t n)
{
	if (n == 0 || n > l->last)
		return NULL;
	return entry(l, n);
}

const struct ftlog_entry *ftlog_append(struct ftlog *l, uint64_t payload_hash)
{
	const struct ftlog_entry *prev = ftlog_get(l, l->last);
	uint64_t chunk = l->last / FTLOG_CHUNK;
	struct ftlog_entry *e;

	if (chunk >= FTLOG_CHUNKS)
		return NULL;
	if (!l->chunks[chunk] && !(l->chunks[chunk] = calloc(FTLOG_CHUNK, sizeof(*e))))
		return NULL;
	e = &l->chunks[chunk][l->last % FTLOG_CHUNK];
	e->payload = payload_hash;
	e->chain = ft_chain(prev ? prev->chain : 0, l->last + 1, payload_hash);
	l->last++;
	return e;
}

uint64_t ftlog_check(const struct ftlog *l)
{
	uint64_t chain = 0;

	for (uint64_t n = 1; n <= l->last; n++) {
		const struct ftlog_entry *e = entry(l, n);

		chain = ft_chain(chain, n, e->payload);
		if (e->chain != chain)
			return n;
	}
	return 0;
}
