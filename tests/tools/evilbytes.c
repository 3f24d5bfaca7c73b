/* SPDX-License-Identifier: GPL-2.0-or-later */
/* evilpeer as a primary, one of whose messages is wrong in itself. */
#include "evil.h"

#include <sys/socket.h>

/* --- bytes --- */

static void patched_slab(struct evil *e, size_t at, uint64_t value, size_t bytes)
{
	uint8_t v[8];
	put_le64(v, value);
	size_t n = evil_one_page(0, 0, 0, WIRE_PAGE_SIZE);
	struct wire_header h = evil_header(e, WIRE_SLAB, 1, evil_page, n);
	evil_patched(e, &h, at, v, bytes, evil_page, n);
}

static void wrong_magic(struct evil *e)
{
	patched_slab(e, 0, 0x21212121, 4);
}

static void wrong_version(struct evil *e)
{
	patched_slab(e, 4, 99, 2);
}

static void unknown_type(struct evil *e)
{
	patched_slab(e, 6, 77, 2);
}

static void unknown_flags(struct evil *e)
{
	patched_slab(e, 8, 1, 4);
}

static void oversized_slab(struct evil *e)
{
	patched_slab(e, 32, SLAB_SIZE + 1, 8);
}

static void absurd_length(struct evil *e)
{
	patched_slab(e, 32, UINT64_MAX, 8);
}

static void wrong_payload_digest(struct evil *e)
{
	patched_slab(e, 40, 1, 8);
}

static void wrong_header_checksum(struct evil *e)
{
	patched_slab(e, 56, 1, 8);
}

static void oversized_control(struct evil *e)
{
	uint8_t v[8];
	put_le64(v, WIRE_CONTROL_MAX + 1);
	struct wire_header h = evil_header(e, WIRE_COMMIT, 1, evil_state, 32);
	evil_patched(e, &h, 32, v, 8, evil_state, 32);
}

void evil_half_slab(struct evil *e)
{
	size_t n = evil_one_page(0, 0, 0, WIRE_PAGE_SIZE);
	uint8_t buf[WIRE_HEADER_SIZE];
	struct wire_header h = evil_header(e, WIRE_SLAB, 1, evil_page, n);
	wire_put_header(buf, &h);
	evil_send(e, buf, sizeof buf);
	evil_send(e, evil_page, n / 2);
}

static void truncated_slab(struct evil *e)
{
	evil_half_slab(e);
	shutdown(e->fd, SHUT_WR);
}

static void garbage(struct evil *e)
{
	for (int i = 0; i < 100; i++)
		evil_send(e, evil_state, sizeof evil_state);
}

/* --- ranges --- */

static void range(
	struct evil *e, uint16_t type, uint32_t block, uint32_t flags, uint64_t off, uint64_t len)
{
	size_t n = evil_one_page(block, flags, off, len);
	struct wire_header h = evil_header(e, type, type == WIRE_SLAB, evil_page, n);
	evil_message(e, &h, evil_page);
}

static void range_outside(struct evil *e)
{
	range(e, WIRE_SLAB, 0, 0, e->hello.blocks[0].size, WIRE_PAGE_SIZE);
}

static void range_wraps(struct evil *e)
{
	range(e, WIRE_SLAB, 0, 0, -(uint64_t)WIRE_PAGE_SIZE, 2 * WIRE_PAGE_SIZE);
}

static void range_unknown_block(struct evil *e)
{
	range(e, WIRE_SLAB, WIRE_BLOCKS_MAX, 0, 0, WIRE_PAGE_SIZE);
}

static void range_unaligned(struct evil *e)
{
	range(e, WIRE_SLAB, 0, 0, 1, WIRE_PAGE_SIZE);
}

static void range_longer_than_data(struct evil *e)
{
	range(e, WIRE_SLAB, 0, 0, 0, 4 * WIRE_PAGE_SIZE);
}

static void range_flags(struct evil *e)
{
	range(e, WIRE_SLAB, 0, 2, 0, WIRE_PAGE_SIZE);
}

static void sync_range_outside(struct evil *e)
{
	range(e, WIRE_SYNC, 0, WIRE_RANGE_ZERO, e->hello.blocks[0].size, WIRE_PAGE_SIZE);
}

const struct evil_misdeed evil_bytes[] = {
	{"wrong-magic", wrong_magic},
	{"wrong-version", wrong_version},
	{"unknown-type", unknown_type},
	{"unknown-flags", unknown_flags},
	{"oversized-slab", oversized_slab},
	{"absurd-length", absurd_length},
	{"oversized-control", oversized_control},
	{"wrong-payload-digest", wrong_payload_digest},
	{"wrong-header-checksum", wrong_header_checksum},
	{"truncated-slab", truncated_slab},
	{"garbage", garbage},
	{"range-outside", range_outside},
	{"range-wraps", range_wraps},
	{"range-unknown-block", range_unknown_block},
	{"range-unaligned", range_unaligned},
	{"range-longer-than-data", range_longer_than_data},
	{"range-flags", range_flags},
	{"sync-range-outside", sync_range_outside},
	{NULL},
};
