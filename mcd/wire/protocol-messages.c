/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payloads of messages that have no file of their own (the rules: protocol.c).
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
 *		 0  2  length n of the id (1..WIRE_BLOCK_ID_MAX)
 *		 2  6  MBZ
 *		 8  n  id, printable ASCII without blanks
 *		    m  content, in whole pages, not 0
 */
#include "mcd/wire/protocol-private.h"

#include "common/le.h"
#include "mcd/wire/slab.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define COMMIT_SIZE 56
#define ERROR_FIXED 8
#define CLASS_MAX   64
#define SLABS_MAX   (BUFFER_MAX / SLAB_SIZE)

_Static_assert(COMMIT_SIZE == 7 * 8 && COMMIT_SIZE == sizeof(struct wire_commit), "seven numbers");
_Static_assert(ERROR_FIXED == 4 + 2 + 2 && WIRE_ROM_FIXED == 2 + 6, "as above");
_Static_assert(ERROR_FIXED + CLASS_MAX + sizeof((struct mc_error *)0)->msg <= WIRE_CONTROL_MAX,
	"the longest error is a message");
_Static_assert(WIRE_ROM_FIXED + WIRE_BLOCK_ID_MAX + WIRE_PAGE_SIZE <= WIRE_ROM_MAX,
	"a page of a ROM is a message");
_Static_assert(SLABS_MAX <= UINT64_MAX / SLAB_SIZE, "the bytes of all slabs can be counted");

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
		return refuse(err, "a COMMIT has %zu bytes instead of %d", len, COMMIT_SIZE);
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
		return refuse(err, "a COMMIT counts an impossible %" PRIu64 " slabs", c.slabs);
	/* No slab is empty, none is larger than SLAB_SIZE. */
	if (c.bytes > c.slabs * SLAB_SIZE || c.bytes < c.slabs * WIRE_RANGE_SIZE)
		return refuse(err, "a COMMIT says that %" PRIu64 " slabs have %" PRIu64 " bytes",
			c.slabs, c.bytes);
	if (c.device_bytes > WIRE_DEVICES_MAX)
		return refuse(err,
			"a COMMIT counts an impossible %" PRIu64 " bytes of device state",
			c.device_bytes);
	*ret = c;
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
	assert(ERROR_FIXED + c + m <= cap);
	return ERROR_FIXED + c + m;
}

int wire_get_error(const uint8_t *buf, size_t len, struct mc_error *ret, struct mc_error *err)
{
	if (len < ERROR_FIXED)
		return refuse(err, "an ERROR has %zu bytes, less than any", len);
	uint32_t code = get_le32(buf);
	size_t c = get_le16(buf + 4), m = get_le16(buf + 6);
	if (code < 1 || code > 4095)
		return refuse(err, "an ERROR has the impossible code %u", code);
	if (len != ERROR_FIXED + c + m)
		return refuse(err, "an ERROR has %zu bytes and says %zu", len, ERROR_FIXED + c + m);
	if (c > CLASS_MAX || !is_name(buf + ERROR_FIXED, c))
		return refuse(err, "the class of an ERROR is not a name");
	if (m >= sizeof ret->msg)
		return refuse(err, "the message of an ERROR has %zu bytes, too many", m);
	const uint8_t *msg = buf + ERROR_FIXED + c;
	if (memchr(msg, 0, m))
		return refuse(err, "the message of an ERROR has a NUL in it");

	char cls[CLASS_MAX + 1];
	memcpy(cls, buf + ERROR_FIXED, c);
	cls[c] = '\0';
	ret->code = -(int)code;
	ret->cls = mc_error_class(cls);
	/* It ends up in our log: no peer may forge lines or terminal escapes there. */
	for (size_t i = 0; i < m; i++)
		ret->msg[i] = msg[i] < ' ' || msg[i] == 0x7f ? ' ' : (char)msg[i];
	ret->msg[m] = '\0';
	return 0;
}

size_t wire_put_rom(uint8_t *buf, size_t cap, const char *id)
{
	size_t n = strlen(id);
	assert(n >= 1 && n <= WIRE_BLOCK_ID_MAX);
	if (cap < WIRE_ROM_FIXED + n)
		return 0;
	memset(buf, 0, WIRE_ROM_FIXED);
	put_le16(buf, (uint16_t)n);
	memcpy(buf + WIRE_ROM_FIXED, id, n);
	return WIRE_ROM_FIXED + n;
}

int wire_get_rom(const uint8_t *buf, size_t len, char ret_id[WIRE_BLOCK_ID_MAX + 1], size_t *ret_at,
	struct mc_error *err)
{
	size_t n = len < WIRE_ROM_FIXED ? 0 : get_le16(buf);
	if (len < WIRE_ROM_FIXED || n > WIRE_BLOCK_ID_MAX || n > len - WIRE_ROM_FIXED)
		return refuse(err, "the id of a ROM does not fit");
	if (get_le16(buf + 2) || get_le32(buf + 4))
		return refuse(err, "a ROM has unknown flags");
	if (!is_name(buf + WIRE_ROM_FIXED, n))
		return refuse(err, "the id of a ROM is not a name");
	size_t at = WIRE_ROM_FIXED + n;
	if (len == at || (len - at) % WIRE_PAGE_SIZE)
		return refuse(err, "a ROM has %zu bytes, not whole pages", len - at);
	memcpy(ret_id, buf + WIRE_ROM_FIXED, n);
	ret_id[n] = '\0';
	*ret_at = at;
	return 0;
}
