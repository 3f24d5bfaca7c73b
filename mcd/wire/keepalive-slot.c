/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A slot: 48 bytes at the beginning of the region that a keep-alive's queue pair may write.  The
 * peer writes all of it each interval by one RDMA WRITE; integers little-endian:
 *
 *	 0  4  magic "MCKS"
 *	 4  2  version (1)
 *	 6  2  must be zero
 *	 8  8  sequence number, from 1; greater than that of the beat before on this queue pair
 *	16  8  sender's CLOCK_MONOTONIC in ns; not before that of the beat before
 *	24  8  sender's interval in ns, 1 ms .. 60 s
 *	32  8  instance of the sender's mcd, as in the handshake
 *	40  8  XXH3-64 of bytes 0..39
 *
 * Before the first beat all is zero.  Nothing tells the reader when a beat arrives, and a write is
 * not atomic to it: it may see a part of the next beat over a part of the last.  The checksum says
 * that, and the next look finds the whole.
 */
#include "mcd/wire/keepalive-slot.h"

#include "common/le.h"

#include <assert.h>
#include <errno.h>
#include <xxhash.h>

#define MAGIC   0x534b434du /* "MCKS" in this byte order */
#define VERSION 1

#define CHECKSUM_AT 40
_Static_assert(CHECKSUM_AT == 4 + 2 + 2 + 4 * 8 && SLOT_SIZE == CHECKSUM_AT + 8, "as above");

void slot_encode(uint8_t buf[SLOT_SIZE], const struct beat *b, uint64_t instance)
{
	assert(b->seq && b->interval >= BEAT_INTERVAL_MIN && b->interval <= BEAT_INTERVAL_MAX);
	put_le32(buf, MAGIC);
	put_le16(buf + 4, VERSION);
	put_le16(buf + 6, 0);
	put_le64(buf + 8, b->seq);
	put_le64(buf + 16, b->time);
	put_le64(buf + 24, b->interval);
	put_le64(buf + 32, instance);
	put_le64(buf + CHECKSUM_AT, XXH3_64bits(buf, CHECKSUM_AT));
}

static int nonsense(struct mc_error *err, const char *what)
{
	return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"what was written to this host's memory as a keep-alive %s", what);
}

int slot_decode(const uint8_t buf[SLOT_SIZE], uint64_t instance, const struct beat *prev,
	struct beat *ret, struct mc_error *err)
{
	uint64_t seq = get_le64(buf + 8);
	/* The common case first: looked at more often than written.  Also before anything is. */
	if (seq == prev->seq || get_le64(buf + CHECKSUM_AT) != XXH3_64bits(buf, CHECKSUM_AT))
		return 0;
	if (get_le32(buf) != MAGIC || get_le16(buf + 6))
		return nonsense(err, "is none");
	if (get_le16(buf + 4) != VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"the peer writes keep-alives of version %u, this mcd knows version %u; "
			"install the same release of mcd on all hosts",
			get_le16(buf + 4), VERSION);
	struct beat b = {seq, get_le64(buf + 16), get_le64(buf + 24)};
	if (b.seq < prev->seq || b.time < prev->time)
		return nonsense(err, "is older than the one before");
	if (b.interval < BEAT_INTERVAL_MIN || b.interval > BEAT_INTERVAL_MAX)
		return nonsense(err, "has an impossible interval");
	if (get_le64(buf + 32) != instance)
		return nonsense(err, "is of another process than the one that connected");
	*ret = b;
	return 1;
}
