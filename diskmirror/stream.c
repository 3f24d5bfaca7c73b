/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * The disk stream, byte by byte.  Integers are little-endian, offsets in bytes, strings without a
 * terminator.  "MBZ" must be zero: a decoder refuses anything else, so that a later version can
 * give it a meaning.
 *
 * Header of every message (48 bytes):
 *
 *	 0  4  magic "MCDD"
 *	 4  1  version (1); checked before anything that a later version may have moved
 *	 5  1  type (enum disk_type)
 *	 6  1  disk, index in the HELLO (0..15)
 *	 7  1  flags
 *	 8  8  epoch
 *	16  8  offset
 *	24  8  length
 *	32  8  XXH3-64 of the payload; of the empty string if there is none
 *	40  8  XXH3-64 of bytes 0..39
 *
 * What each type uses (a dot is MBZ) and what length may be:
 *
 *	type      dir  disk epoch offset flags    length
 *	HELLO      >    .     .     .      .      of the payload, 1..4096
 *	HELLO_OK   <    .     .     .      .      0
 *	TABLE      <    y     .     y      .      of the payload: 16..1 MiB, whole entries;
 *	                                          offset in whole blocks of 64 KiB
 *	WRITE      >    y     y     y      .      of range and payload: 1..32 MiB
 *	ZERO       >    y     y     y      .      of the range: 1..2^56; no payload
 *	TRIM       >    y     y     y      .      of the range: 1..2^56; no payload
 *	END        >    .     y     .   FLUSHED   24; epoch not 0
 *	READ       >    y     .     y      .      of the range: 1..32 MiB; no payload
 *	DATA       <    y     .     y      .      of range and payload: 1..32 MiB
 *	ERROR     < >   .     .     .      .      of the payload: 1..1024
 *
 * Validity of a header, in this order: (1) magic, (2) version, (3) checksum, (4) known type,
 * (5) MBZ fields, (6) length, (7) offset + length at most 2^56, (8) no payload: the digest of
 * nothing.
 *
 * Payloads:
 *
 *	HELLO: struct disk_hello
 *		 0  8  generation (1..2^63 - 1)
 *		 8 16  seed of the table's digests
 *		24  4  number of disks (1..16)
 *		28  4  MBZ
 *		then for each disk
 *		 0  8  size, in whole sectors of 512 bytes (1 sector..2^56)
 *		 8  2  length n of the id (1..63)
 *		10  6  MBZ
 *		16  n  id, printable ASCII without blanks; no two disks share one
 *
 *	TABLE: digests (stream-hash.c), 16 bytes each, of consecutive blocks from `offset` on
 *
 *	END: struct disk_epoch_sum
 *		 0  8  WRITE, ZERO and TRIM messages of the epoch
 *		 8  8  bytes of their payloads
 *		16  8  digest of their headers (disk_digest_add)
 *
 *	WRITE, DATA: the bytes of the range
 *
 *	ERROR: a sentence; whatever is not printable ASCII is shown as '?'
 *
 *	HELLO_OK, ZERO, TRIM, READ: none
 */
/* clang-format on */
#include "diskmirror/stream.h"

#include "common/le.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC 0x4444434du /* "MCDD" in this byte order */

#define HELLO_FIXED 32
#define HELLO_DISK  16
#define SUM_SIZE    24
#define SECTOR      512

/* Refuses the peer's bytes; the sentence says what was wrong, the hint is the same for all. */
#define refuse(err, fmt, ...)                                                                      \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		fmt "; the disk stream is closed (damaged on the way, or a broken peer)",          \
		##__VA_ARGS__)

enum { DISK = 1, EPOCH = 2, OFFSET = 4, PAYLOAD = 8 };

static const struct layout {
	unsigned uses;
	uint32_t flags;
	uint64_t min, max; /* of length */
} layouts[DISK_TYPE_MAX + 1] = {
	[DISK_HELLO] = {PAYLOAD, 0, 1, DISK_HELLO_MAX},
	[DISK_HELLO_OK] = {0, 0, 0, 0},
	[DISK_TABLE] = {DISK | OFFSET | PAYLOAD, 0, DISK_DIGEST_SIZE, DISK_TABLE_MAX},
	[DISK_WRITE] = {DISK | EPOCH | OFFSET | PAYLOAD, 0, 1, DISK_DATA_MAX},
	[DISK_ZERO] = {DISK | EPOCH | OFFSET, 0, 1, DISK_SIZE_MAX},
	[DISK_TRIM] = {DISK | EPOCH | OFFSET, 0, 1, DISK_SIZE_MAX},
	[DISK_END] = {EPOCH | PAYLOAD, DISK_FLUSHED, SUM_SIZE, SUM_SIZE},
	[DISK_READ] = {DISK | OFFSET, 0, 1, DISK_DATA_MAX},
	[DISK_DATA] = {DISK | OFFSET | PAYLOAD, 0, 1, DISK_DATA_MAX},
	[DISK_ERROR] = {PAYLOAD, 0, 1, DISK_TEXT_MAX},
};

bool disk_has_payload(uint16_t type)
{
	return type <= DISK_TYPE_MAX && layouts[type].uses & PAYLOAD;
}

void disk_put_header(uint8_t buf[DISK_HEADER_SIZE], const struct disk_header *h)
{
	assert(h->type >= 1 && h->type <= DISK_TYPE_MAX && h->disk < DISKS_MAX);
	const struct layout *l = &layouts[h->type];
	assert(h->length >= l->min && h->length <= l->max && !(h->flags & ~l->flags));
	put_le32(buf, MAGIC);
	buf[4] = DISK_STREAM_VERSION;
	buf[5] = (uint8_t)h->type;
	buf[6] = l->uses & DISK ? (uint8_t)h->disk : 0;
	buf[7] = (uint8_t)h->flags;
	put_le64(buf + 8, l->uses & EPOCH ? h->epoch : 0);
	put_le64(buf + 16, l->uses & OFFSET ? h->offset : 0);
	put_le64(buf + 24, h->length);
	put_le64(buf + 32, l->uses & PAYLOAD ? h->digest : XXH3_64bits("", 0));
	put_le64(buf + 40, XXH3_64bits(buf, 40));
}

/* (5) to (8) of the validity conditions. */
static int check_fields(const struct layout *l, const struct disk_header *h, struct mc_error *err)
{
	if ((!(l->uses & DISK) && h->disk) || (!(l->uses & EPOCH) && h->epoch) ||
		(!(l->uses & OFFSET) && h->offset) || h->flags & ~l->flags)
		return refuse(err, "a disk message of type %u uses fields that it does not have",
			h->type);
	if (h->disk >= DISKS_MAX)
		return refuse(err, "a disk message names disk %u, but there are at most %u",
			h->disk, DISKS_MAX);
	if (h->length < l->min || h->length > l->max ||
		(h->type == DISK_TABLE && h->length % DISK_DIGEST_SIZE))
		return refuse(err, "a disk message of type %u has a length of %llu bytes", h->type,
			(unsigned long long)h->length);
	if (h->offset > DISK_SIZE_MAX || h->length > DISK_SIZE_MAX - h->offset ||
		(h->type == DISK_TABLE && h->offset % DISK_BLOCK))
		return refuse(err,
			"a disk message of type %u is for an offset of %llu, beyond any disk",
			h->type, (unsigned long long)h->offset);
	if (h->type == DISK_END && !h->epoch)
		return refuse(err, "the synchronisation of a disk ends as if it were an epoch");
	if (!(l->uses & PAYLOAD) && h->digest != XXH3_64bits("", 0))
		return refuse(
			err, "a disk message of type %u has a digest but no payload", h->type);
	return 0;
}

int disk_get_header(
	const uint8_t buf[DISK_HEADER_SIZE], struct disk_header *ret, struct mc_error *err)
{
	if (get_le32(buf) != MAGIC)
		return refuse(err, "what arrived is not a message of the disk stream");
	if (buf[4] != DISK_STREAM_VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"the peer speaks version %u of the disk stream, this mcd version %u; "
			"install the same release of mcd on both hosts",
			buf[4], DISK_STREAM_VERSION);
	if (get_le64(buf + 40) != XXH3_64bits(buf, 40))
		return refuse(err, "the header of a disk message has a wrong checksum");

	struct disk_header h = {
		.type = buf[5],
		.disk = buf[6],
		.flags = buf[7],
		.epoch = get_le64(buf + 8),
		.offset = get_le64(buf + 16),
		.length = get_le64(buf + 24),
		.digest = get_le64(buf + 32),
	};
	if (h.type < 1 || h.type > DISK_TYPE_MAX)
		return refuse(err, "a disk message has the unknown type %u", h.type);
	int r = check_fields(&layouts[h.type], &h, err);
	if (r < 0)
		return r;
	*ret = h;
	return 0;
}

static bool printable(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return false;
	return true;
}

size_t disk_put_hello(uint8_t *buf, size_t cap, const struct disk_hello *h)
{
	assert(h->n_disks >= 1 && h->n_disks <= DISKS_MAX && h->generation);
	size_t need = HELLO_FIXED;
	for (size_t i = 0; i < h->n_disks; i++)
		need += HELLO_DISK + strlen(h->disks[i].id);
	if (need > cap)
		return 0;
	put_le64(buf, h->generation);
	memcpy(buf + 8, h->seed, sizeof h->seed);
	put_le32(buf + 24, (uint32_t)h->n_disks);
	put_le32(buf + 28, 0);
	uint8_t *p = buf + HELLO_FIXED;
	for (size_t i = 0; i < h->n_disks; i++) {
		size_t len = strlen(h->disks[i].id);
		assert(len >= 1 && len <= DISK_ID_MAX);
		memset(p, 0, HELLO_DISK);
		put_le64(p, h->disks[i].size);
		put_le16(p + 8, (uint16_t)len);
		memcpy(p + HELLO_DISK, h->disks[i].id, len);
		p += HELLO_DISK + len;
	}
	return need;
}

/* One disk of a HELLO; its id must differ from those of the i before it.  Returns the bytes
 * taken. */
static int get_hello_disk(
	const uint8_t *p, size_t left, struct disk_hello *h, size_t i, struct mc_error *err)
{
	if (left < HELLO_DISK)
		return refuse(err, "the HELLO of a disk stream ends in the middle of a disk");
	uint64_t size = get_le64(p);
	size_t len = get_le16(p + 8);
	if (get_le16(p + 10) || get_le32(p + 12))
		return refuse(err, "the HELLO of a disk stream uses fields that it does not have");
	if (!size || size > DISK_SIZE_MAX || size % SECTOR)
		return refuse(err, "the HELLO of a disk stream has a disk of %llu bytes",
			(unsigned long long)size);
	if (!len || len > DISK_ID_MAX || len > left - HELLO_DISK ||
		!printable((const char *)p + HELLO_DISK, len))
		return refuse(err, "the HELLO of a disk stream has a disk without a proper name");
	memcpy(h->disks[i].id, p + HELLO_DISK, len);
	h->disks[i].size = size;
	for (size_t k = 0; k < i; k++)
		if (!strcmp(h->disks[k].id, h->disks[i].id))
			return refuse(err, "the HELLO of a disk stream names disk %s twice",
				h->disks[k].id);
	return (int)(HELLO_DISK + len);
}

int disk_get_hello(const uint8_t *buf, size_t len, struct disk_hello *ret, struct mc_error *err)
{
	if (len < HELLO_FIXED)
		return refuse(err, "the HELLO of a disk stream is too short");
	struct disk_hello h = {.generation = get_le64(buf), .n_disks = get_le32(buf + 24)};
	memcpy(h.seed, buf + 8, sizeof h.seed);
	if (!h.generation || h.generation > UINT64_MAX / 2 || h.n_disks < 1 ||
		h.n_disks > DISKS_MAX || get_le32(buf + 28))
		return refuse(err, "the HELLO of a disk stream has impossible numbers");
	size_t at = HELLO_FIXED;
	for (size_t i = 0; i < h.n_disks; i++) {
		int r = get_hello_disk(buf + at, len - at, &h, i, err);
		if (r < 0)
			return r;
		at += (size_t)r;
	}
	if (at != len)
		return refuse(err, "the HELLO of a disk stream is longer than its disks");
	*ret = h;
	return 0;
}

size_t disk_put_sum(uint8_t *buf, size_t cap, const struct disk_epoch_sum *s)
{
	if (cap < SUM_SIZE)
		return 0;
	put_le64(buf, s->writes);
	put_le64(buf + 8, s->bytes);
	put_le64(buf + 16, s->digest);
	return SUM_SIZE;
}

int disk_get_sum(const uint8_t *buf, size_t len, struct disk_epoch_sum *ret, struct mc_error *err)
{
	if (len != SUM_SIZE)
		return refuse(err, "the sum of an epoch's disk writes has %zu bytes", len);
	struct disk_epoch_sum s = {get_le64(buf), get_le64(buf + 8), get_le64(buf + 16)};
	if (s.bytes / DISK_DATA_MAX > s.writes)
		return refuse(err,
			"the sum of an epoch's disk writes counts more bytes than the writes can "
			"have");
	*ret = s;
	return 0;
}

void disk_get_text(const uint8_t *buf, size_t len, char ret[DISK_TEXT_MAX + 1])
{
	if (len > DISK_TEXT_MAX)
		len = DISK_TEXT_MAX;
	for (size_t i = 0; i < len; i++)
		ret[i] = buf[i] >= ' ' && buf[i] <= '~' ? (char)buf[i] : '?';
	ret[len] = '\0';
}
