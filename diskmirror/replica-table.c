/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The digest table of what the replica holds, part by part.  The files may be written to meanwhile:
 * the primary gives no weight to the entry of a block that it sent in this session.
 */
#include "diskmirror/replica-private.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BLOCKS 16   /* 1 MiB */
#define PART_BLOCKS 1024 /* data blocks in a part: the primary can begin to skip soon */
#define PART_MAX    (DISK_TABLE_MAX / DISK_DIGEST_SIZE)

int table_open(struct table *t, struct replica *r, struct mc_error *err)
{
	*t = (struct table){.r = r};
	t->blocks = malloc((size_t)READ_BLOCKS * DISK_BLOCK);
	t->entries = malloc(DISK_TABLE_MAX);
	if (!t->blocks || !t->entries)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to compare the VM's disks with; free some on this "
			"host");
	return disk_hash_new(r->hello.seed, &t->hash, err);
}

void table_close(struct table *t)
{
	disk_hash_free(t->hash);
	free(t->blocks);
	free(t->entries);
}

/* Whether the whole block at t->at is known to be a hole. */
static bool in_hole(struct table *t, const struct diskfile *f, uint64_t len)
{
	if (t->at >= t->hole_until && t->at >= t->data_until) {
		off_t data = lseek(f->fd, (off_t)t->at, SEEK_DATA);
		if (data < 0) /* none behind here; or it cannot tell, then it has to be read */
			t->hole_until = errno == ENXIO ? f->size : t->at;
		else
			t->hole_until = (uint64_t)data;
		if (t->hole_until < t->at + len) {
			off_t hole =
				data < 0 ? -1 : lseek(f->fd, (off_t)t->at + (off_t)len, SEEK_HOLE);
			t->data_until = hole < 0 ? f->size : (uint64_t)hole;
		}
	}
	return t->at + len <= t->hole_until;
}

/* Digests of up to READ_BLOCKS blocks from t->at on; how many. 0: unreadable. */
static size_t digest_blocks(struct table *t, struct diskfile *f, size_t max, uint8_t *entries)
{
	uint64_t len = f->size - t->at;
	if (max > READ_BLOCKS)
		max = READ_BLOCKS;
	if (len > max * (uint64_t)DISK_BLOCK)
		len = max * (uint64_t)DISK_BLOCK;
	if (diskfile_read(f, t->blocks, t->at, len, NULL) < 0)
		return 0;
	size_t n = 0;
	for (uint64_t at = 0; at < len; at += DISK_BLOCK, n++)
		disk_hash_block(t->hash, t->blocks + at,
			len - at < DISK_BLOCK ? len - at : DISK_BLOCK,
			entries + n * DISK_DIGEST_SIZE);
	return n;
}

static size_t part(struct table *t, struct diskfile *f)
{
	size_t n = 0, read = 0;
	while (t->at < f->size && n < PART_MAX && read < PART_BLOCKS) {
		uint64_t left = f->size - t->at, len = left < DISK_BLOCK ? left : DISK_BLOCK;
		size_t got = 1;
		if (in_hole(t, f, len)) {
			disk_hash_block(t->hash, NULL, len, t->entries + n * DISK_DIGEST_SIZE);
		} else {
			got = digest_blocks(t, f, PART_MAX - n, t->entries + n * DISK_DIGEST_SIZE);
			if (!got) {
				/* No entries for these: the primary sends them, and overwriting
				 * may heal them.  A part has no gaps, so the one before ends
				 * here. */
				if (n)
					break;
				t->at += READ_BLOCKS * (uint64_t)DISK_BLOCK;
				continue;
			}
			read += got;
		}
		n += got;
		t->at += got * (uint64_t)DISK_BLOCK;
	}
	return n;
}

int table_next(struct table *t, struct disk_header *h)
{
	while (t->disk < t->r->hello.n_disks) {
		struct diskfile *f = &t->r->files_[t->disk];
		size_t n = part(t, f);
		if (n) {
			*h = (struct disk_header){
				.type = DISK_TABLE,
				.disk = (uint16_t)t->disk,
				.offset = t->at - n * (uint64_t)DISK_BLOCK,
				.length = n * DISK_DIGEST_SIZE,
			};
			return 1;
		}
		t->disk++;
		t->at = t->data_until = t->hole_until = 0;
	}
	return 0;
}
