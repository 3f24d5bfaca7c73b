/* SPDX-License-Identifier: GPL-2.0-or-later */
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
 * WIRE_ROM_MAX for ROM, WIRE_CONTROL_MAX for the rest, (7) no payload in an ACK, the digest of
 * nothing in all others without one.
 *
 * Payloads, each at the head of the file that encodes it:
 *
 *	HELLO, HELLO_OK (optional there)    protocol-hello.c
 *	SLAB, SYNC                          slab-ranges.c
 *	COMMIT, ERROR, ROM                  protocol-messages.c
 *	VERIFY, VERIFIED                    protocol-verify.c
 *	DEVICES: QEMU's own stream, not looked at here
 *	SYNC_END, SYNC_OK, ACK, PROTECTED, DISCARD, HANDOVER, KEPT: none
 */
#include "mcd/wire/protocol-private.h"

#include "common/le.h"
#include "mcd/wire/slab.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#define MAGIC 0x5744434du /* "MCDW" in this byte order */

#define CHECKSUM_AT 56
_Static_assert(WIRE_HEADER_SIZE == CHECKSUM_AT + 8, "a header ends with its checksum");
_Static_assert(WIRE_TYPE_MAX == WIRE_VERIFIED, "the last type");
_Static_assert(WIRE_GUEST_MAX == WIRE_GUEST_OFF, "the last thing that a guest may have done");
_Static_assert(
	SLAB_SIZE <= UINT32_MAX && WIRE_DEVICES_MAX <= UINT32_MAX && WIRE_ROM_MAX <= UINT32_MAX,
	"any payload is one allocation");

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
	put_le64(buf + CHECKSUM_AT, XXH3_64bits(buf, CHECKSUM_AT));
}

int wire_get_header(
	const uint8_t buf[WIRE_HEADER_SIZE], struct wire_header *ret, struct mc_error *err)
{
	if (get_le32(buf) != MAGIC)
		return refuse(err, "what arrived is not a message of the checkpoint stream");
	if (get_le16(buf + 4) != WIRE_VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"the peer speaks version %u of the checkpoint stream, this mcd version %u; "
			"install the same release of mcd on both hosts",
			get_le16(buf + 4), WIRE_VERSION);
	if (get_le64(buf + CHECKSUM_AT) != XXH3_64bits(buf, CHECKSUM_AT))
		return refuse(err, "a message header has a wrong checksum");

	struct wire_header h = {
		.type = get_le16(buf + 6),
		.generation = get_le64(buf + 16),
		.epoch = get_le64(buf + 24),
		.length = get_le64(buf + 32),
		.digest = get_le64(buf + 40),
		.flags = get_le32(buf + 8),
	};
	if (h.type < 1 || h.type > WIRE_TYPE_MAX)
		return refuse(err, "a message has the unknown type %u", h.type);
	if (h.flags > (h.type == WIRE_COMMIT ? WIRE_GUEST_MAX : 0) || get_le32(buf + 12) ||
		get_le64(buf + 48))
		return refuse(err, "a message of type %u has unknown flags", h.type);
	if (h.length > wire_length_max(h.type))
		return refuse(err,
			"a message of type %u says that it has %" PRIu64 " bytes, more "
			"than the %" PRIu64 " allowed",
			h.type, h.length, wire_length_max(h.type));
	if (!own_digest(&h) && h.digest != XXH3_64bits("", 0))
		return refuse(
			err, "a message of type %u without payload has the digest of one", h.type);
	*ret = h;
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
