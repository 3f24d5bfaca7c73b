// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The checkpoint stream, byte by byte.  Integers are little-endian, offsets in bytes, strings
 * without a terminator.  "MBZ" must be zero: a decoder refuses anything else, so that a later
 * version can give it a meaning.
 *
 * Header of every message (64 bytes):
 *
 *	 0  4  magic "MCDW"
 *	 4  2  version (1); checked before anything that a later version may have moved
 *	 6  2  type (enum wire_type)
 *	 8  4  flags: of a COMMIT what the guest did at its end (enum wire_guest), else MBZ
 *	12  4  MBZ
 *	16  8  generation of the ownership record that the sender acts under
 *	24  8  epoch
 *	32  8  length of the payload
 *	40  8  XXH3-64 of the payload; of the empty string if there is none, except in an
 *	       ACK, which has no payload and repeats the digest of its epoch here
 *	48  8  MBZ
 *	56  8  XXH3-64 of bytes 0..55
 *
 * Validity of a header, in this order: (1) magic, (2) version, (3) checksum, (4) known type,
 * (5) MBZ fields, (6) length at most SLAB_SIZE for SLAB and SYNC, WIRE_DEVICES_MAX for DEVICES,
 * WIRE_ROM_MAX for ROM, WIRE_CONTROL_MAX for the rest, (7) no payload in an ACK, the digest of nothing in all
 * others without one.
 *
 * Payloads:
 *
 *	HELLO, HELLO_OK (optional there): struct wire_hello
 *		 0  8  generation            24 16  machine digest, lower case hex
 *		 8  8  delay in ns           40  4  number of blocks (1..RAMBLOCKS_MAX)
 *		16  8  max_buffer in bytes   44  4  MBZ
 *		then for each block
 *		 0  8  size, in whole pages
 *		 8  2  length of the id (1..RAMBLOCK_ID_MAX)
 *		10  6  MBZ
 *		16  n  id, printable ASCII without blanks; no two blocks share one
 *
 *	SLAB, SYNC: ranges, each struct wire_range and, unless ZERO, its bytes (checked by slab_walk)
 *		 0  4  index of the block in the HELLO
 *		 4  4  flags (WIRE_RANGE_ZERO)
 *		 8  8  offset, in whole pages
 *		16  8  length, in whole pages, not 0
 *
 *	DEVICES: QEMU's own stream, not looked at here
 *
 *	COMMIT: struct wire_commit
 *		 0  8  number of slabs       16  8  bytes of device state
 *		 8  8  bytes in the slabs    24  8  digest of the epoch (wire_epoch_digest)
 *		32  8  disk writes           40  8  bytes of them        48  8  digest of them
 *		       (what DISK_END says on the disk stream; 0 for a VM without disks)
 *
 *	ERROR: struct mc_error
 *		 0  4  errno (1..4095)        8  n  class, printable ASCII without blanks
 *		 4  2  length n of the class     m  message, no NUL
 *		 6  2  length m of the message
 *
 *	ROM: firmware
 *		 0  2  length n of the id (1..RAMBLOCK_ID_MAX)
 *		 2  6  MBZ
 *		 8  n  id, printable ASCII without blanks
 *		    m  content, in whole pages, not 0
 *
 *	VERIFY: 1 to WIRE_VERIFY_MAX times
 *		 0  4  kind (0 memory, 1 disk)    8  8  offset    24  8  XXH3-64 of the range
 *		 4  4  block or disk             16  8  length, 1..WIRE_VERIFY_LEN_MAX
 *
 *	VERIFIED:
 *		 0  4  how many ranges differ, then the index of each, 4 bytes, ascending
 *
 *	SYNC_END, SYNC_OK, ACK, PROTECTED, DISCARD, HANDOVER: none
 */
#include "mcd/wire/protocol.h"

#include "mcd/wire/slab.h"
#include "common/le.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <xxhash.h>

#define MAGIC 0x5744434du /* "MCDW" in this byte order */

#define HELLO_FIXED 48
#define HELLO_BLOCK 16
#define COMMIT_SIZE 56
#define ERROR_FIXED 8

#define CLASS_MAX      64
#define GENERATION_MAX (UINT64_MAX / 2) /* leaves room to count on from any value accepted */
#define BLOCK_SIZE_MAX (1ull << 46)     /* what an address of x86-64 user space can span */
#define BUFFER_MAX     (1ull << 46)
#define SLABS_MAX      (BUFFER_MAX / SLAB_SIZE)

/* Refuses the peer's bytes; the sentence says what was wrong, the hint is the same for all. */
#define refuse(err, fmt, ...)                                                                      \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		fmt "; the connection is closed (damaged on the way, or a broken peer)",           \
		##__VA_ARGS__)

uint64_t wire_length_max(uint16_t type)
{
	switch (type) {
	case WIRE_SYNC:
	case WIRE_SLAB:
		return SLAB_SIZE;
	case WIRE_DEVICES:
		return WIRE_DEVICES_MAX;
	case WIRE_ROM:
		return WIRE_ROM_MAX;
	case WIRE_ACK:
		return 0;
	default:
		return WIRE_CONTROL_MAX;
	}
}

static bool own_digest(const struct wire_header *h)
{
	return h->length || h->type == WIRE_ACK;
}

void wire_put_header(uint8_t buf[WIRE_HEADER_SIZE], const struct wire_header *h)
{
	assert(h->type >= 1 && h->type <= WIRE_TYPE_MAX);
	assert(h->length <= wire_length_max(h->type));
	memset(buf, 0, WIRE_HEADER_SIZE);
	put_le32(buf, MAGIC);
	put_le16(buf + 4, WIRE_VERSION);
	put_le16(buf + 6, h->type);
	put_le32(buf + 8, h->flags);
	put_le64(buf + 16, h->generation);
	put_le64(buf + 24, h->epoch);
	put_le64(buf + 32, h->length);
	put_le64(buf + 40, own_digest(h) ? h->digest : XXH3_64bits("", 0));
	put_le64(buf + 56, XXH3_64bits(buf, 56));
}

int wire_get_header(const uint8_t buf[WIRE_HEADER_SIZE], struct wire_header *ret,
	struct mc_error *err)
{
	if (get_le32(buf) != MAGIC)
		return refuse(err, "What arrived is not a message of the checkpoint stream");
	if (get_le16(buf + 4) != WIRE_VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"The peer speaks version %u of the checkpoint stream, this mcd version %u; "
			"install the same release of mcd on both hosts",
			get_le16(buf + 4), WIRE_VERSION);
	if (get_le64(buf + 56) != XXH3_64bits(buf, 56))
		return refuse(err, "A message header has a wrong checksum");

	struct wire_header h = {
		.type = get_le16(buf + 6),
		.generation = get_le64(buf + 16),
		.epoch = get_le64(buf + 24),
		.length = get_le64(buf + 32),
		.digest = get_le64(buf + 40),
		.flags = get_le32(buf + 8),
	};
	if (h.type < 1 || h.type > WIRE_TYPE_MAX)
		return refuse(err, "A message has the unknown type %u", h.type);
	if (h.flags > (h.type == WIRE_COMMIT ? WIRE_GUEST_MAX : 0) || get_le32(buf + 12) || get_le64(buf + 48))
		return refuse(err, "A message of type %u has unknown flags", h.type);
	if (h.length > wire_length_max(h.type))
		return refuse(err, "A message of type %u says that it has %llu bytes, more than the %llu "
			"allowed", h.type, (unsigned long long)h.length,
			(unsigned long long)wire_length_max(h.type));
	if (!own_digest(&h) && h.digest != XXH3_64bits("", 0))
		return refuse(err, "A message of type %u without payload has the digest of one", h.type);
	*ret = h;
	return 0;
}

/* Names travel into logs and error messages: printable, and without blanks that would split them. */
static bool is_name(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return n > 0;
}

static bool is_machine(const uint8_t *p)
{
	for (size_t i = 0; i < 16; i++)
		if (!(p[i] >= '0' && p[i] <= '9') && !(p[i] >= 'a' && p[i] <= 'f'))
			return false;
	return true;
}

size_t wire_put_hello(uint8_t *buf, size_t cap, const struct wire_hello *h)
{
	assert(h->n_blocks >= 1 && h->n_blocks <= RAMBLOCKS_MAX);
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
		put_le64(p, h->blocks[i].size);
		put_le16(p + 8, (uint16_t)id);
		memcpy(p + HELLO_BLOCK, h->blocks[i].id, id);
		p += HELLO_BLOCK + id;
	}
	return n;
}

/* One block of a HELLO into h->blocks[i]; the bytes used, or an error. */
static ssize_t get_block(const uint8_t *p, size_t left, struct wire_hello *h, size_t i,
	struct mc_error *err)
{
	if (left < HELLO_BLOCK)
		return refuse(err, "A HELLO ends in the middle of block %zu", i);
	uint64_t size = get_le64(p);
	size_t id = get_le16(p + 8);
	if (get_le16(p + 10) || get_le32(p + 12))
		return refuse(err, "Block %zu of a HELLO has unknown flags", i);
	if (!size || size % WIRE_PAGE_SIZE || size > BLOCK_SIZE_MAX)
		return refuse(err, "Block %zu of a HELLO has the impossible size %llu", i,
			(unsigned long long)size);
	if (id > RAMBLOCK_ID_MAX || id > left - HELLO_BLOCK)
		return refuse(err, "The id of block %zu of a HELLO does not fit", i);
	if (!is_name(p + HELLO_BLOCK, id))
		return refuse(err, "The id of block %zu of a HELLO is not a name", i);
	memcpy(h->blocks[i].id, p + HELLO_BLOCK, id);
	h->blocks[i].id[id] = '\0';
	h->blocks[i].size = size;
	for (size_t j = 0; j < i; j++)
		if (!strcmp(h->blocks[j].id, h->blocks[i].id))
			return refuse(err, "A HELLO has two blocks called %s", h->blocks[i].id);
	return (ssize_t)(HELLO_BLOCK + id);
}

int wire_get_hello(const uint8_t *buf, size_t len, struct wire_hello *ret, struct mc_error *err)
{
	if (len < HELLO_FIXED)
		return refuse(err, "A HELLO has %zu bytes, less than any", len);
	struct wire_hello h = {
		.generation = get_le64(buf),
		.delay = get_le64(buf + 8),
		.max_buffer = get_le64(buf + 16),
		.n_blocks = get_le32(buf + 40),
	};
	if (!h.generation || h.generation > GENERATION_MAX)
		return refuse(err, "A HELLO has the impossible generation %llu",
			(unsigned long long)h.generation);
	if (h.delay < WIRE_DELAY_MIN || h.delay > WIRE_DELAY_MAX)
		return refuse(err, "A HELLO asks for a delay of %llu ns, out of 1 ms .. 10 s",
			(unsigned long long)h.delay);
	if (!h.max_buffer || h.max_buffer > BUFFER_MAX)
		return refuse(err, "A HELLO asks for an impossible buffer of %llu bytes",
			(unsigned long long)h.max_buffer);
	if (!is_machine(buf + 24))
		return refuse(err, "The machine digest of a HELLO is not 16 hex digits");
	memcpy(h.machine, buf + 24, 16);
	if (h.n_blocks < 1 || h.n_blocks > RAMBLOCKS_MAX)
		return refuse(err, "A HELLO has %zu blocks, not 1 to %d", h.n_blocks, RAMBLOCKS_MAX);
	if (get_le32(buf + 44))
		return refuse(err, "A HELLO has unknown flags");

	size_t at = HELLO_FIXED;
	for (size_t i = 0; i < h.n_blocks; i++) {
		ssize_t n = get_block(buf + at, len - at, &h, i, err);
		if (n < 0)
			return (int)n;
		at += (size_t)n;
	}
	if (at != len)
		return refuse(err, "A HELLO has %zu bytes too many", len - at);
	*ret = h;
	return 0;
}

size_t wire_put_commit(uint8_t *buf, size_t cap, const struct wire_commit *c)
{
	if (cap < COMMIT_SIZE)
		return 0;
	put_le64(buf, c->slabs);
	put_le64(buf + 8, c->bytes);
	put_le64(buf + 16, c->device_bytes);
	put_le64(buf + 24, c->digest);
	put_le64(buf + 32, c->disk_writes);
	put_le64(buf + 40, c->disk_bytes);
	put_le64(buf + 48, c->disk_digest);
	return COMMIT_SIZE;
}

int wire_get_commit(const uint8_t *buf, size_t len, struct wire_commit *ret, struct mc_error *err)
{
	if (len != COMMIT_SIZE)
		return refuse(err, "A COMMIT has %zu bytes instead of %d", len, COMMIT_SIZE);
	struct wire_commit c = {
		.slabs = get_le64(buf),
		.bytes = get_le64(buf + 8),
		.device_bytes = get_le64(buf + 16),
		.digest = get_le64(buf + 24),
		.disk_writes = get_le64(buf + 32),
		.disk_bytes = get_le64(buf + 40),
		.disk_digest = get_le64(buf + 48),
	};
	if (c.slabs > SLABS_MAX)
		return refuse(err, "A COMMIT counts an impossible %llu slabs", (unsigned long long)c.slabs);
	/* No slab is empty, none is larger than SLAB_SIZE. */
	if (c.bytes > c.slabs * SLAB_SIZE || c.bytes < c.slabs * WIRE_RANGE_SIZE)
		return refuse(err, "A COMMIT says that %llu slabs have %llu bytes",
			(unsigned long long)c.slabs, (unsigned long long)c.bytes);
	if (c.device_bytes > WIRE_DEVICES_MAX)
		return refuse(err, "A COMMIT counts an impossible %llu bytes of device state",
			(unsigned long long)c.device_bytes);
	*ret = c;
	return 0;
}

size_t wire_put_rom(uint8_t *buf, size_t cap, const char *id)
{
	size_t n = strlen(id);
	assert(n >= 1 && n <= RAMBLOCK_ID_MAX);
	if (cap < WIRE_ROM_FIXED + n)
		return 0;
	memset(buf, 0, WIRE_ROM_FIXED);
	put_le16(buf, (uint16_t)n);
	memcpy(buf + WIRE_ROM_FIXED, id, n);
	return WIRE_ROM_FIXED + n;
}

int wire_get_rom(const uint8_t *buf, size_t len, char ret_id[RAMBLOCK_ID_MAX + 1], size_t *ret_at,
	struct mc_error *err)
{
	size_t n = len < WIRE_ROM_FIXED ? 0 : get_le16(buf);
	if (len < WIRE_ROM_FIXED || n > RAMBLOCK_ID_MAX || n > len - WIRE_ROM_FIXED)
		return refuse(err, "The id of a ROM does not fit");
	if (get_le16(buf + 2) || get_le32(buf + 4))
		return refuse(err, "A ROM has unknown flags");
	if (!is_name(buf + WIRE_ROM_FIXED, n))
		return refuse(err, "The id of a ROM is not a name");
	size_t at = WIRE_ROM_FIXED + n;
	if (len == at || (len - at) % WIRE_PAGE_SIZE)
		return refuse(err, "A ROM has %zu bytes, not whole pages", len - at);
	memcpy(ret_id, buf + WIRE_ROM_FIXED, n);
	ret_id[n] = '\0';
	*ret_at = at;
	return 0;
}

size_t wire_put_verify(uint8_t *buf, size_t cap, const struct wire_verify_range *v, size_t n)
{
	if (n > WIRE_VERIFY_MAX || cap < n * WIRE_VERIFY_SIZE)
		return 0;
	for (size_t i = 0; i < n; i++, buf += WIRE_VERIFY_SIZE) {
		put_le32(buf, v[i].kind);
		put_le32(buf + 4, v[i].index);
		put_le64(buf + 8, v[i].off);
		put_le64(buf + 16, v[i].len);
		put_le64(buf + 24, v[i].digest);
	}
	return n * WIRE_VERIFY_SIZE;
}

int wire_get_verify(const uint8_t *buf, size_t len, struct wire_verify_range *v, size_t *ret_n,
	struct mc_error *err)
{
	size_t n = len / WIRE_VERIFY_SIZE;
	if (!n || n > WIRE_VERIFY_MAX || len % WIRE_VERIFY_SIZE)
		return refuse(err, "A VERIFY of %zu bytes", len);
	for (size_t i = 0; i < n; i++, buf += WIRE_VERIFY_SIZE) {
		v[i] = (struct wire_verify_range){get_le32(buf), get_le32(buf + 4), get_le64(buf + 8),
			get_le64(buf + 16), get_le64(buf + 24)};
		if (v[i].kind > WIRE_VERIFY_DISK)
			return refuse(err, "A VERIFY of unknown kind %u", v[i].kind);
		if (!v[i].len || v[i].len > WIRE_VERIFY_LEN_MAX || v[i].off > UINT64_MAX - v[i].len)
			return refuse(err, "A VERIFY of an impossible range");
	}
	*ret_n = n;
	return 0;
}

size_t wire_put_verified(uint8_t *buf, size_t cap, const uint32_t *differ, size_t n)
{
	if (n > WIRE_VERIFY_MAX || cap < 4 + 4 * n)
		return 0;
	put_le32(buf, (uint32_t)n);
	for (size_t i = 0; i < n; i++)
		put_le32(buf + 4 + 4 * i, differ[i]);
	return 4 + 4 * n;
}

int wire_get_verified(const uint8_t *buf, size_t len, size_t ranges, uint32_t *differ, size_t *ret_n,
	struct mc_error *err)
{
	size_t n = len < 4 ? 0 : get_le32(buf);
	if (len < 4 || n > ranges || n > WIRE_VERIFY_MAX || len != 4 + 4 * n)
		return refuse(err, "A VERIFIED of %zu bytes for %zu ranges", len, ranges);
	for (size_t i = 0; i < n; i++) {
		differ[i] = get_le32(buf + 4 + 4 * i);
		if (differ[i] >= ranges || (i && differ[i] <= differ[i - 1]))
			return refuse(err, "A VERIFIED whose indexes make no sense");
	}
	*ret_n = n;
	return 0;
}

size_t wire_put_error(uint8_t *buf, size_t cap, const struct mc_error *e)
{
	const char *cls = e->cls ? e->cls : MC_ECLASS_FAILED;
	size_t c = strlen(cls), m = strnlen(e->msg, sizeof e->msg - 1);
	assert(c <= CLASS_MAX);
	if (cap < ERROR_FIXED + c)
		return 0;
	/* A message that does not fit is cut at its end: better than no reason at all. */
	if (m > cap - ERROR_FIXED - c)
		m = cap - ERROR_FIXED - c;
	uint32_t code = e->code < 0 && e->code >= -4095 ? (uint32_t)-e->code : EIO;
	put_le32(buf, code);
	put_le16(buf + 4, (uint16_t)c);
	put_le16(buf + 6, (uint16_t)m);
	memcpy(buf + ERROR_FIXED, cls, c);
	memcpy(buf + ERROR_FIXED + c, e->msg, m);
	return ERROR_FIXED + c + m;
}

int wire_get_error(const uint8_t *buf, size_t len, struct mc_error *ret, struct mc_error *err)
{
	if (len < ERROR_FIXED)
		return refuse(err, "An ERROR has %zu bytes, less than any", len);
	uint32_t code = get_le32(buf);
	size_t c = get_le16(buf + 4), m = get_le16(buf + 6);
	if (code < 1 || code > 4095)
		return refuse(err, "An ERROR has the impossible code %u", code);
	if (len != ERROR_FIXED + c + m)
		return refuse(err, "An ERROR has %zu bytes and says %zu", len, ERROR_FIXED + c + m);
	if (c > CLASS_MAX || !is_name(buf + ERROR_FIXED, c))
		return refuse(err, "The class of an ERROR is not a name");
	if (m >= sizeof ret->msg)
		return refuse(err, "The message of an ERROR has %zu bytes, too many", m);
	const uint8_t *msg = buf + ERROR_FIXED + c;
	if (memchr(msg, 0, m))
		return refuse(err, "The message of an ERROR has a NUL in it");

	char cls[CLASS_MAX + 1];
	memcpy(cls, buf + ERROR_FIXED, c);
	cls[c] = '\0';
	ret->code = -(int)code;
	ret->cls = mc_error_class(cls);
	/* It ends up in our log: a peer must not be able to forge lines or terminal escapes there. */
	for (size_t i = 0; i < m; i++)
		ret->msg[i] = msg[i] < ' ' || msg[i] == 0x7f ? ' ' : (char)msg[i];
	ret->msg[m] = '\0';
	return 0;
}

/* h(n) = XXH3(h(n-1), n, digest of part n, length of part n): the order, the number and the bytes
 * of all parts, bound to this epoch of this generation. */
static uint64_t mix(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint8_t buf[32];
	put_le64(buf, a);
	put_le64(buf + 8, b);
	put_le64(buf + 16, c);
	put_le64(buf + 24, d);
	return XXH3_64bits(buf, sizeof buf);
}

void wire_epoch_digest_init(struct wire_epoch_digest *d, uint64_t generation, uint64_t epoch)
{
	d->n = 0;
	d->h = mix(MAGIC, WIRE_VERSION, generation, epoch);
}

void wire_epoch_digest_add(struct wire_epoch_digest *d, uint64_t part_digest, uint64_t part_length)
{
	d->h = mix(d->h, ++d->n, part_digest, part_length);
}
