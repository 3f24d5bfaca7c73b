/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk stream of one VM, from its primary to its standby: writes tagged with the epoch they
 * belong to, sent as soon as they are made.  The byte layout is at the head of stream.c; pure
 * encoders and decoders, nothing here does I/O.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISK_STREAM_VERSION 1
#define DISKS_MAX           16
#define DISK_ID_MAX         63
#define DISK_BLOCK          65536u      /* what resynchronisation compares by */
#define DISK_DATA_MAX       (32u << 20) /* payload of one message; NBD's own limit for a request */
#define DISK_SIZE_MAX       (1ull << 56)
#define DISK_HELLO_MAX      4096u /* payloads of the other messages */
#define DISK_TABLE_MAX      (1u << 20)
#define DISK_TEXT_MAX       1024u

enum disk_type {
	DISK_HELLO = 1,    /* primary: generation, seed of the digests, disks with their sizes */
	DISK_HELLO_OK = 2, /* standby: ready */
	/* standby: digests of what its replica holds, from block `offset / DISK_BLOCK` on */
	DISK_TABLE = 3,
	DISK_WRITE = 4, /* data; epoch 0: synchronisation, applied at once */
	DISK_ZERO = 5,  /* `length` bytes from `offset` on read as zeroes; no payload */
	DISK_TRIM = 6,  /* the same, and need no space any more; no payload */
	/* epoch n ends here: counts and digest; DISK_FLUSHED if the guest flushed */
	DISK_END = 7,
	DISK_READ = 8,   /* primary: what does the replica hold, with all that was sent so far? */
	DISK_DATA = 9,   /* standby: the answer */
	DISK_ERROR = 10, /* either: a sentence; the connection ends */
	DISK_TYPE_MAX = 10,
};

#define DISK_HEADER_SIZE 48
#define DISK_FLUSHED     1u /* flag of DISK_END */

struct disk_header {
	uint16_t type;
	uint16_t disk; /* index in the HELLO */
	uint32_t flags;
	uint64_t epoch;
	uint64_t offset;
	uint64_t length; /* of the range (WRITE, ZERO, TRIM, READ, DATA), else of the payload */
	uint64_t digest; /* XXH3-64 of the payload, of the empty string if there is none */
};

struct disk_hello {
	uint64_t generation; /* of the record {self, none} of the session */
	/* of the table's digests: random per session, so that no guest can aim at a collision */
	uint8_t seed[16];
	size_t n_disks;
	struct {
		char id[DISK_ID_MAX + 1];
		uint64_t size;
	} disks[DISKS_MAX];
};

/* What an epoch was, in DISK_END and repeated in the checkpoint's COMMIT. */
struct disk_epoch_sum {
	uint64_t writes; /* WRITE, ZERO and TRIM messages */
	uint64_t bytes;  /* of their payloads */
	uint64_t digest; /* disk_digest_* over all of them, in order */
};

/* Digest of an epoch: feed every message's encoded header, in order (it contains the payload's
 * digest). */
struct disk_digest {
	uint64_t h;
};
void disk_digest_init(struct disk_digest *d, uint64_t generation, uint64_t epoch);
void disk_digest_add(struct disk_digest *d, const uint8_t header[DISK_HEADER_SIZE]);

/* One block's entry in the table: 16 bytes.  XXH3-128 with a secret made of the seed. */
#define DISK_DIGEST_SIZE 16
struct disk_hash;
int disk_hash_new(const uint8_t seed[16], struct disk_hash **ret, struct mc_error *err);
void disk_hash_free(struct disk_hash *h);
/* data NULL: len zeroes. A disk's last block may be shorter. */
void disk_hash_block(
	const struct disk_hash *h, const void *data, size_t len, uint8_t ret[DISK_DIGEST_SIZE]);

/* Whether a payload of `length` bytes follows that header (WRITE, DATA, HELLO, TABLE, END,
 * ERROR). */
bool disk_has_payload(uint16_t type);
/* Fields that the type has no use for are encoded as they must be, whatever h says. */
void disk_put_header(uint8_t buf[DISK_HEADER_SIZE], const struct disk_header *h);
/* Validates type, flags, lengths and that unused fields are 0; of ranges only that offset + length
 * does not overflow: their limits are the receiver's to check. -EBADMSG, class ProtocolError. */
int disk_get_header(
	const uint8_t buf[DISK_HEADER_SIZE], struct disk_header *ret, struct mc_error *err);
/* Encoders return the bytes written, 0 if cap is too small; decoders validate every field. */
size_t disk_put_hello(uint8_t *buf, size_t cap, const struct disk_hello *h);
int disk_get_hello(const uint8_t *buf, size_t len, struct disk_hello *ret, struct mc_error *err);
size_t disk_put_sum(uint8_t *buf, size_t cap, const struct disk_epoch_sum *s);
int disk_get_sum(const uint8_t *buf, size_t len, struct disk_epoch_sum *ret, struct mc_error *err);
/* The sentence of an ERROR, made fit for a terminal. */
void disk_get_text(const uint8_t *buf, size_t len, char ret[DISK_TEXT_MAX + 1]);
