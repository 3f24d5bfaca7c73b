/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint stream between a primary and its standby, on a LINK_DATA connection.
 * The byte layout is at the head of protocol.c.  All integers little-endian on the wire.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1

enum wire_type {
	WIRE_HELLO = 1,      /* primary: generation, delay, digest of the machine, RAM layout */
	WIRE_HELLO_OK = 2,   /* standby: ready to receive */
	WIRE_SYNC = 3,       /* a slab of the initial synchronisation; applied at once */
	WIRE_SYNC_END = 4,   /* end of a round */
	WIRE_SYNC_OK = 5,    /* standby, to SYNC_END: all of it is applied */
	WIRE_SLAB = 6,       /* a slab of epoch n */
	WIRE_DEVICES = 7,    /* the device state of epoch n */
	WIRE_COMMIT = 8,     /* epoch n: counts, bytes and digest of everything */
	WIRE_ACK = 9,        /* standby: the whole epoch n is here and verified; digest repeated */
	WIRE_PROTECTED = 10, /* primary: the record naming you standby is decided (generation) */
	WIRE_DISCARD = 11,   /* primary: protection ends in order; drop the copy */
	WIRE_HANDOVER = 12,  /* primary: proposes {you, none}; keep epoch n, acknowledge no more */
	WIRE_ERROR = 13,     /* either: class + message; the connection ends */
	WIRE_KEPT = 14,      /* standby, to HANDOVER: kept, also should this mcd die now */
	WIRE_ROM = 15,       /* primary, before the first SYNC: firmware, no reset brings it back */
	WIRE_VERIFY = 16,    /* primary, with epoch n: digests of ranges as they are at n */
	WIRE_VERIFIED = 17,  /* standby, after applying n: which of them differ */
	WIRE_TYPE_MAX = 17,
};

#define WIRE_HEADER_SIZE 64

struct wire_header {
	uint16_t type;
	uint64_t generation;
	uint64_t epoch;
	uint64_t length; /* of the payload that follows */
	uint64_t digest; /* XXH3-64 of the payload; of the empty string if length is 0;
	                   * in WIRE_ACK, which has no payload, the epoch's digest repeated */
	uint32_t flags;  /* of a WIRE_COMMIT: enum wire_guest; of every other message 0 */
};

/* What the guest did when its epoch ended.  Its device state does not say: that is "running". */
enum wire_guest {
	WIRE_GUEST_RUNS = 0,
	WIRE_GUEST_STOPPED = 1,  /* by its administrator: a takeover leaves it so */
	WIRE_GUEST_PANICKED = 2, /* on-panic is to be done there */
	WIRE_GUEST_OFF = 3,      /* it has powered off: nothing is to be taken over */
	WIRE_GUEST_MAX = 3,
};

/* At the start of every range in a slab: 24 bytes. */
struct wire_range {
	uint32_t block;
	uint32_t flags; /* WIRE_RANGE_ZERO or 0 */
	uint64_t off;
	uint64_t len;
};
#define WIRE_RANGE_SIZE 24
#define WIRE_RANGE_ZERO 1u

#define WIRE_DEVICES_MAX (64u << 20) /* bytes of device state */
#define WIRE_ROM_MAX     (16u << 20) /* payload of a ROM */
#define WIRE_ROM_FIXED   8           /* bytes before its id */
#define WIRE_CONTROL_MAX                                                                           \
	(64u << 10) /* payload of every other message than SLAB, SYNC, DEVICES, ROM */

#define WIRE_BLOCKS_MAX   16  /* of a HELLO */
#define WIRE_BLOCK_ID_MAX 255 /* as in QEMU */

#define WIRE_PAGE_SIZE 4096u          /* sizes, offsets and lengths of RAM are multiples of it */
#define WIRE_DELAY_MIN 1000000ull     /* 1 ms, as in the configuration */
#define WIRE_DELAY_MAX 10000000000ull /* 10 s */

struct wire_hello {
	uint64_t generation; /* of the primary's record {self, none} */
	uint64_t delay;      /* ns */
	uint64_t max_buffer; /* bytes of one epoch at most */
	char machine[17];    /* cmdline_plan.digest */
	size_t n_blocks;
	struct {
		char id[WIRE_BLOCK_ID_MAX + 1];
		uint64_t size;
	} blocks[WIRE_BLOCKS_MAX];
};

/* The payload of WIRE_COMMIT.  WIRE_ACK has none: its header's digest repeats this one. */
struct wire_commit {
	uint64_t slabs; /* how many WIRE_SLAB */
	uint64_t bytes; /* their lengths summed */
	uint64_t device_bytes;
	uint64_t digest; /* wire_epoch_digest over all of it, the disks' digest last */
	/* Of the disk stream (diskmirror/stream.h); all 0 for a VM without disks. */
	uint64_t disk_writes, disk_bytes, disk_digest;
};

/* Pure encoders and decoders.  Encoders return the bytes written, 0 if cap is too small
 * (WIRE_CONTROL_MAX never is); wire_put_header fills in the digest of an empty payload by itself.
 * Decoders validate every field (-EBADMSG, class ProtocolError, or -EPROTONOSUPPORT, class
 * WrongVersion) and never read beyond len. */
uint64_t wire_length_max(uint16_t type); /* of a payload */
void wire_put_header(uint8_t buf[WIRE_HEADER_SIZE], const struct wire_header *h);
int wire_get_header(
	const uint8_t buf[WIRE_HEADER_SIZE], struct wire_header *ret, struct mc_error *err);
size_t wire_put_hello(uint8_t *buf, size_t cap, const struct wire_hello *h);
int wire_get_hello(const uint8_t *buf, size_t len, struct wire_hello *ret, struct mc_error *err);
size_t wire_put_commit(uint8_t *buf, size_t cap, const struct wire_commit *c);
int wire_get_commit(const uint8_t *buf, size_t len, struct wire_commit *ret, struct mc_error *err);
/* What stands before the content of a ROM; returns its length. */
size_t wire_put_rom(uint8_t *buf, size_t cap, const char *id);
/* Where the content begins, which is the rest. */
int wire_get_rom(const uint8_t *buf, size_t len, char ret_id[WIRE_BLOCK_ID_MAX + 1], size_t *ret_at,
	struct mc_error *err);
size_t wire_put_error(uint8_t *buf, size_t cap, const struct mc_error *e);
/* Fills `ret` with the peer's class and message. */
int wire_get_error(const uint8_t *buf, size_t len, struct mc_error *ret, struct mc_error *err);

/* The ranges of a WIRE_VERIFY, and by their index the differing ones of a WIRE_VERIFIED. */
enum wire_verify_kind { WIRE_VERIFY_MEMORY, WIRE_VERIFY_DISK };
struct wire_verify_range {
	uint32_t kind, index; /* which block of the HELLO, which disk of the machine */
	uint64_t off, len;    /* len at most WIRE_VERIFY_LEN_MAX */
	uint64_t digest;      /* XXH3-64 */
};
#define WIRE_VERIFY_SIZE    32
#define WIRE_VERIFY_MAX     1024u
#define WIRE_VERIFY_LEN_MAX (1u << 20)
size_t wire_put_verify(uint8_t *buf, size_t cap, const struct wire_verify_range *v, size_t n);
/* v: WIRE_VERIFY_MAX of them.  Where the ranges lie is the caller's to check. */
int wire_get_verify(const uint8_t *buf, size_t len, struct wire_verify_range *v, size_t *ret_n,
	struct mc_error *err);
size_t wire_put_verified(uint8_t *buf, size_t cap, const uint32_t *differ, size_t n);
/* Indexes in ascending order, all below `ranges`. */
int wire_get_verified(const uint8_t *buf, size_t len, size_t ranges, uint32_t *differ,
	size_t *ret_n, struct mc_error *err);

/* Digest of an epoch: feed the slabs' digests in order, then the device state's. */
struct wire_epoch_digest {
	uint64_t h, n;
};
void wire_epoch_digest_init(struct wire_epoch_digest *d, uint64_t generation, uint64_t epoch);
void wire_epoch_digest_add(struct wire_epoch_digest *d, uint64_t part_digest, uint64_t part_length);
