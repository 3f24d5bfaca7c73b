/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the standby said its replica holds, for the time of the synchronisation.
 *
 * 16 bytes for 64 KiB, so 256 MiB for 1 TiB once all of it has arrived.  It is mapped without being
 * reserved: pages come into being as entries arrive.
 */
#include "diskmirror/mirror-private.h"

#include <assert.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>

struct mirror_table {
	uint64_t blocks;
	uint8_t (*digests)[DISK_DIGEST_SIZE];
	uint8_t *known, *sent; /* a bit for each block */
	uint8_t zero[DISK_DIGEST_SIZE], zero_last[DISK_DIGEST_SIZE];
	size_t mapped;
};

static bool bit(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static void set_bit(uint8_t *bits, uint64_t i)
{
	bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

struct mirror_table *mirror_table_new(uint64_t size, const struct disk_hash *hash)
{
	struct mirror_table *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	assert(size);
	t->blocks = (size + DISK_BLOCK - 1) / DISK_BLOCK;
	size_t bitmap = t->blocks / 8 + 1;
	t->mapped = t->blocks * DISK_DIGEST_SIZE + 2 * bitmap;
	void *p = mmap(NULL, t->mapped, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		free(t);
		return NULL;
	}
	t->digests = p;
	t->known = (uint8_t *)p + t->blocks * DISK_DIGEST_SIZE;
	t->sent = t->known + bitmap;
	disk_hash_block(hash, NULL, DISK_BLOCK, t->zero);
	disk_hash_block(hash, NULL, (size_t)(size - (t->blocks - 1) * DISK_BLOCK), t->zero_last);
	return t;
}

void mirror_table_free(struct mirror_table *t)
{
	if (!t)
		return;
	munmap(t->digests, t->mapped);
	free(t);
}

void mirror_table_store(struct mirror_table *t, uint64_t first, size_t n, const uint8_t *digests)
{
	assert(first <= t->blocks && n <= t->blocks - first);
	memcpy(t->digests[first], digests, n * DISK_DIGEST_SIZE);
	for (uint64_t i = first; i < first + n; i++)
		set_bit(t->known, i);
}

const uint8_t *mirror_table_get(const struct mirror_table *t, uint64_t block)
{
	assert(block < t->blocks);
	return bit(t->known, block) && !bit(t->sent, block) ? t->digests[block] : NULL;
}

const uint8_t *mirror_table_zero(const struct mirror_table *t, uint64_t block)
{
	assert(block < t->blocks);
	return block == t->blocks - 1 ? t->zero_last : t->zero;
}

void mirror_table_void(struct mirror_table *t, uint64_t offset, uint64_t length)
{
	assert(length && (offset + length - 1) / DISK_BLOCK < t->blocks);
	for (uint64_t i = offset / DISK_BLOCK; i <= (offset + length - 1) / DISK_BLOCK; i++)
		set_bit(t->sent, i);
}
