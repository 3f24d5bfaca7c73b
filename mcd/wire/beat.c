/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On a LINK_KEEPALIVE connection the connector sends one beat after another and nothing else; the
 * acceptor never answers.  A beat is 40 bytes, integers little-endian:
 *
 *	 0  4  magic "MCKA"
 *	 4  2  version (1)
 *	 6  2  must be zero
 *	 8  8  sequence number, from 1; greater than that of the beat before on this connection
 *	16  8  sender's CLOCK_MONOTONIC in ns; not before that of the beat before
 *	24  8  sender's interval in ns, 1 ms .. 60 s
 *	32  8  XXH3-64 of bytes 0..31
 */
#include "mcd/wire/beat.h"

#include "common/le.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <xxhash.h>

#define MAGIC   0x414b434du /* "MCKA" in this byte order */
#define VERSION 1

#define CHECKSUM_AT 32
_Static_assert(CHECKSUM_AT == 4 + 2 + 2 + 3 * 8 && BEAT_SIZE == CHECKSUM_AT + 8, "as above");

void beat_encode(uint8_t buf[BEAT_SIZE], const struct beat *b)
{
	assert(b->seq && b->interval >= BEAT_INTERVAL_MIN && b->interval <= BEAT_INTERVAL_MAX);
	put_le32(buf, MAGIC);
	put_le16(buf + 4, VERSION);
	put_le16(buf + 6, 0);
	put_le64(buf + 8, b->seq);
	put_le64(buf + 16, b->time);
	put_le64(buf + 24, b->interval);
	put_le64(buf + CHECKSUM_AT, XXH3_64bits(buf, CHECKSUM_AT));
}

int beat_decode(const uint8_t buf[BEAT_SIZE], const struct beat *prev, struct beat *ret,
	struct mc_error *err)
{
	if (get_le32(buf) != MAGIC)
		return mc_error_set(
			err, -EBADMSG, MC_ECLASS_PROTOCOL, "what arrived is not a keep-alive");
	if (get_le16(buf + 4) != VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"the peer sends keep-alives of version %u, this mcd knows version %u; "
			"install the same release of mcd on all hosts",
			get_le16(buf + 4), VERSION);
	if (get_le64(buf + CHECKSUM_AT) != XXH3_64bits(buf, CHECKSUM_AT) || get_le16(buf + 6))
		return mc_error_set(
			err, -EBADMSG, MC_ECLASS_PROTOCOL, "a keep-alive was damaged on the way");
	struct beat b = {get_le64(buf + 8), get_le64(buf + 16), get_le64(buf + 24)};
	if (b.seq <= prev->seq || b.time < prev->time)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"keep-alive %" PRIu64 " is not newer than keep-alive %" PRIu64
			", which came before it",
			b.seq, prev->seq);
	if (b.interval < BEAT_INTERVAL_MIN || b.interval > BEAT_INTERVAL_MAX)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a keep-alive has the impossible interval of %" PRIu64 " ns", b.interval);
	*ret = b;
	return 0;
}
