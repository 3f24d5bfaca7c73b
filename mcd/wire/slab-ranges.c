/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payload of SLAB and SYNC (the rules: protocol.c): ranges of memory one after another, each
 * struct wire_range and, unless ZERO, its bytes.
 *
 *	 0  4  index of the block in the HELLO
 *	 4  4  flags (WIRE_RANGE_ZERO)
 *	 8  8  offset, in whole pages
 *	16  8  length, in whole pages, not 0
 */
#include "mcd/wire/slab.h"

#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <xxhash.h>

_Static_assert(WIRE_RANGE_SIZE == 2 * 4 + 2 * 8 && WIRE_RANGE_SIZE == sizeof(struct wire_range),
	"as above");
_Static_assert(SLAB_SIZE % WIRE_PAGE_SIZE == 0 && SLAB_SIZE >= WIRE_RANGE_SIZE + WIRE_PAGE_SIZE,
	"a slab has room for a page");

static void put_range(struct slab *s, uint32_t block, uint32_t flags, uint64_t off, uint64_t len)
{
	uint8_t *p = s->mem + s->used;
	put_le32(p, block);
	put_le32(p + 4, flags);
	put_le64(p + 8, off);
	put_le64(p + 16, len);
	s->used += WIRE_RANGE_SIZE;
}

/* In the VM's pause: no look at the data beyond the one copy. */
size_t slab_append(struct slab *s, uint32_t block, uint64_t off, const uint8_t *mem, size_t len)
{
	assert(len && !(len % WIRE_PAGE_SIZE) && !(off % WIRE_PAGE_SIZE));
	assert(s->used <= SLAB_SIZE);
	size_t room = SLAB_SIZE - s->used;
	if (room < WIRE_RANGE_SIZE + WIRE_PAGE_SIZE)
		return 0;
	room = (room - WIRE_RANGE_SIZE) & ~(size_t)(WIRE_PAGE_SIZE - 1);
	if (len > room)
		len = room;
	put_range(s, block, 0, off, len);
	memcpy(s->mem + s->used, mem, len);
	s->used += len;
	assert(s->used <= SLAB_SIZE);
	return len;
}

int slab_append_zero(struct slab *s, uint32_t block, uint64_t off, uint64_t len)
{
	assert(len && !(len % WIRE_PAGE_SIZE) && !(off % WIRE_PAGE_SIZE));
	assert(s->used <= SLAB_SIZE);
	if (SLAB_SIZE - s->used < WIRE_RANGE_SIZE)
		return 0;
	put_range(s, block, WIRE_RANGE_ZERO, off, len);
	return 1;
}

void slab_seal(struct slab *s)
{
	assert(s->used <= SLAB_SIZE);
	s->digest = XXH3_64bits(s->mem, s->used);
}

#define refuse(err, at, fmt, ...)                                                                  \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		"the range at byte %zu of a slab " fmt "; nothing of its epoch is applied", at,    \
		##__VA_ARGS__)

/* The range at s->mem + at, all of it checked; `room` is what the slab may still cover in all, so
 * that a few bytes on the wire cannot make us zero the same memory over and over. */
static int get_range(const struct slab *s, size_t at, const uint64_t *sizes, size_t n_blocks,
	uint64_t room, struct wire_range *ret, struct mc_error *err)
{
	if (s->used - at < WIRE_RANGE_SIZE)
		return refuse(err, at, "is cut short");
	const uint8_t *p = s->mem + at;
	struct wire_range r = {
		.block = get_le32(p),
		.flags = get_le32(p + 4),
		.off = get_le64(p + 8),
		.len = get_le64(p + 16),
	};
	if (r.block >= n_blocks)
		return refuse(err, at, "is of block %u, but the VM has %zu", r.block, n_blocks);
	if (r.flags & ~WIRE_RANGE_ZERO)
		return refuse(err, at, "has unknown flags %#x", r.flags);
	if (!r.len || r.len % WIRE_PAGE_SIZE || r.off % WIRE_PAGE_SIZE)
		return refuse(err, at, "is not made of whole pages");
	if (r.off > sizes[r.block] || r.len > sizes[r.block] - r.off)
		return refuse(err, at, "reaches beyond the end of block %u", r.block);
	if (r.len > room)
		return refuse(err, at, "makes it cover more than the whole memory");
	if (!(r.flags & WIRE_RANGE_ZERO) && r.len > s->used - at - WIRE_RANGE_SIZE)
		return refuse(err, at, "has less data than it says");
	*ret = r;
	return 0;
}

int slab_walk(const struct slab *s, const uint64_t *block_sizes, size_t n_blocks, slab_range_fn fn,
	void *ctx, struct mc_error *err)
{
	if (s->used > SLAB_SIZE)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a slab of %zu bytes is larger than any", s->used);
	uint64_t room = 0;
	for (size_t i = 0; i < n_blocks; i++)
		room += block_sizes[i];
	for (size_t at = 0; at < s->used;) {
		struct wire_range range = {0};
		int r = get_range(s, at, block_sizes, n_blocks, room, &range, err);
		if (r < 0)
			return r;
		at += WIRE_RANGE_SIZE;
		room -= range.len;
		bool zero = range.flags & WIRE_RANGE_ZERO;
		if (fn)
			fn(ctx, range.block, range.off, zero ? NULL : s->mem + at, range.len);
		if (!zero)
			at += range.len;
	}
	return 0;
}
