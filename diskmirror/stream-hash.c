/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The digests of the disk stream.
 *
 * Of an epoch: h(0) = XXH3-64 of generation and epoch (8 bytes each, little-endian);
 * h(i) = XXH3-64 of h(i - 1) (8 bytes, little-endian) followed by the i-th header.  A header
 * contains the digest of its payload, so the last h covers every byte and the order.
 *
 * Of a block: XXH3-128 in its canonical (big-endian) form, with a secret of 192 bytes whose i-th
 * 8 bytes are XXH3-64 of the 16 bytes of the session's seed, seeded with i, little-endian.
 * xxHash's own generator of secrets is not used: it changed between releases, and both hosts must
 * come to the same.
 */
#include "diskmirror/stream.h"

#include "common/cleanup.h"
#include "common/le.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define SECRET_SIZE 192

struct disk_hash {
	uint8_t secret[SECRET_SIZE];
	uint8_t zero_block[DISK_DIGEST_SIZE]; /* of a whole block: holes are common */
};

static const uint8_t zeroes[DISK_BLOCK];

void disk_digest_init(struct disk_digest *d, uint64_t generation, uint64_t epoch)
{
	uint8_t buf[16];
	put_le64(buf, generation);
	put_le64(buf + 8, epoch);
	d->h = XXH3_64bits(buf, sizeof buf);
}

void disk_digest_add(struct disk_digest *d, const uint8_t header[DISK_HEADER_SIZE])
{
	uint8_t buf[8 + DISK_HEADER_SIZE];
	put_le64(buf, d->h);
	memcpy(buf + 8, header, DISK_HEADER_SIZE);
	d->h = XXH3_64bits(buf, sizeof buf);
}

static void hash(const struct disk_hash *h, const void *data, size_t len, uint8_t *ret)
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits_withSecret(data, len, h->secret, SECRET_SIZE));
	static_assert(sizeof c.digest == DISK_DIGEST_SIZE, "an entry of the table is XXH3-128");
	memcpy(ret, c.digest, sizeof c.digest);
}

int disk_hash_new(const uint8_t seed[16], struct disk_hash **ret, struct mc_error *err)
{
	struct disk_hash *h = malloc(sizeof *h);
	if (!h)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to compare disks with; free some on this host");
	for (unsigned i = 0; i < SECRET_SIZE / 8; i++)
		put_le64(h->secret + 8 * i, XXH3_64bits_withSeed(seed, 16, i));
	hash(h, zeroes, sizeof zeroes, h->zero_block);
	*ret = h;
	return 0;
}

void disk_hash_free(struct disk_hash *h)
{
	free(h);
}

void disk_hash_block(
	const struct disk_hash *h, const void *data, size_t len, uint8_t ret[DISK_DIGEST_SIZE])
{
	assert(len && len <= DISK_BLOCK);
	if (!data && len == DISK_BLOCK)
		memcpy(ret, h->zero_block, DISK_DIGEST_SIZE);
	else
		hash(h, data ? data : zeroes, len, ret);
}
