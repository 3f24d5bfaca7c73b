/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payload of HELLO, and of HELLO_OK if it has one: struct wire_hello (the rules: protocol.c).
 *
 *	 0  8  generation            24 16  machine digest, lower case hex
 *	 8  8  delay in ns           40  4  number of blocks (1..WIRE_BLOCKS_MAX)
 *	16  8  max_buffer in bytes   44  4  MBZ
 *	then for each block
 *	 0  8  size, in whole pages
 *	 8  2  length of the id (1..WIRE_BLOCK_ID_MAX)
 *	10  6  MBZ
 *	16  n  id, printable ASCII without blanks; no two blocks share one
 */
#include "mcd/wire/protocol-private.h"

#include "common/le.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <sys/types.h>

#define HELLO_FIXED 48
#define HELLO_BLOCK 16
_Static_assert(HELLO_FIXED == 3 * 8 + 16 + 2 * 4 && HELLO_BLOCK == 8 + 2 + 6, "as above");
_Static_assert(
	HELLO_FIXED + WIRE_BLOCKS_MAX * (HELLO_BLOCK + WIRE_BLOCK_ID_MAX) <= WIRE_CONTROL_MAX,
	"the longest is a message");
_Static_assert(sizeof((struct wire_hello *)0)->machine == 16 + 1, "the digest and a NUL");

#define GENERATION_MAX (UINT64_MAX / 2) /* leaves room to count on from any value accepted */

static bool is_machine(const uint8_t *p)
{
	for (size_t i = 0; i < 16; i++)
		if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f'))
			return false;
	return true;
}

size_t wire_put_hello(uint8_t *buf, size_t cap, const struct wire_hello *h)
{
	assert(h->n_blocks >= 1 && h->n_blocks <= WIRE_BLOCKS_MAX);
	size_t n = HELLO_FIXED;
	for (size_t i = 0; i < h->n_blocks; i++)
		n += HELLO_BLOCK + strlen(h->blocks[i].id);
	if (n > cap)
		return 0;

	memset(buf, 0, n);
	put_le64(buf, h->generation);
	put_le64(buf + 8, h->delay);
	put_le64(buf + 16, h->max_buffer);
	memcpy(buf + 24, h->machine, strnlen(h->machine, 16));
	put_le32(buf + 40, (uint32_t)h->n_blocks);
	uint8_t *p = buf + HELLO_FIXED;
	for (size_t i = 0; i < h->n_blocks; i++) {
		size_t id = strlen(h->blocks[i].id);
		assert(id <= WIRE_BLOCK_ID_MAX);
		put_le64(p, h->blocks[i].size);
		put_le16(p + 8, (uint16_t)id);
		memcpy(p + HELLO_BLOCK, h->blocks[i].id, id);
		p += HELLO_BLOCK + id;
	}
	assert(p == buf + n);
	return n;
}

/* One block of a HELLO into h->blocks[i]; the bytes used, or an error. */
static ssize_t get_block(
	const uint8_t *p, size_t left, struct wire_hello *h, size_t i, struct mc_error *err)
{
	if (left < HELLO_BLOCK)
		return refuse(err, "a HELLO ends in the middle of block %zu", i);
	uint64_t size = get_le64(p);
	size_t id = get_le16(p + 8);
	if (get_le16(p + 10) || get_le32(p + 12))
		return refuse(err, "block %zu of a HELLO has unknown flags", i);
	if (!size || size % WIRE_PAGE_SIZE || size > BUFFER_MAX)
		return refuse(
			err, "block %zu of a HELLO has the impossible size %" PRIu64, i, size);
	if (id > WIRE_BLOCK_ID_MAX || id > left - HELLO_BLOCK)
		return refuse(err, "the id of block %zu of a HELLO does not fit", i);
	if (!is_name(p + HELLO_BLOCK, id))
		return refuse(err, "the id of block %zu of a HELLO is not a name", i);
	memcpy(h->blocks[i].id, p + HELLO_BLOCK, id);
	h->blocks[i].id[id] = '\0';
	h->blocks[i].size = size;
	for (size_t j = 0; j < i; j++)
		if (!strcmp(h->blocks[j].id, h->blocks[i].id))
			return refuse(err, "a HELLO has two blocks called %s", h->blocks[i].id);
	return (ssize_t)(HELLO_BLOCK + id);
}

int wire_get_hello(const uint8_t *buf, size_t len, struct wire_hello *ret, struct mc_error *err)
{
	if (len < HELLO_FIXED)
		return refuse(err, "a HELLO has %zu bytes, less than any", len);
	struct wire_hello h = {
		.generation = get_le64(buf),
		.delay = get_le64(buf + 8),
		.max_buffer = get_le64(buf + 16),
		.n_blocks = get_le32(buf + 40),
	};
	if (!h.generation || h.generation > GENERATION_MAX)
		return refuse(err, "a HELLO has the impossible generation %" PRIu64, h.generation);
	if (h.delay < WIRE_DELAY_MIN || h.delay > WIRE_DELAY_MAX)
		return refuse(err,
			"a HELLO asks for a delay of %" PRIu64 " ns, out of 1 ms .. 10 s", h.delay);
	if (!h.max_buffer || h.max_buffer > BUFFER_MAX)
		return refuse(err, "a HELLO asks for an impossible buffer of %" PRIu64 " bytes",
			h.max_buffer);
	if (!is_machine(buf + 24))
		return refuse(err, "the machine digest of a HELLO is not 16 hex digits");
	memcpy(h.machine, buf + 24, 16);
	if (h.n_blocks < 1 || h.n_blocks > WIRE_BLOCKS_MAX)
		return refuse(
			err, "a HELLO has %zu blocks, not 1 to %d", h.n_blocks, WIRE_BLOCKS_MAX);
	if (get_le32(buf + 44))
		return refuse(err, "a HELLO has unknown flags");

	size_t at = HELLO_FIXED;
	for (size_t i = 0; i < h.n_blocks; i++) {
		ssize_t n = get_block(buf + at, len - at, &h, i, err);
		if (n < 0)
			return (int)n;
		at += (size_t)n;
	}
	if (at != len)
		return refuse(err, "a HELLO has %zu bytes too many", len - at);
	*ret = h;
	return 0;
}
