/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * The journal, byte by byte.  Integers are little-endian; MBZ must be zero.
 *
 * Header (at 0; the block of 4096 bytes that it is in has nothing else):
 *
 *	 0  8  magic "MCDJRNL\n"
 *	 8  4  version (1)
 *	12  4  1: sealed; 0: empty
 *	16  8  generation
 *	24  8  epoch
 *	32  8  number of entries
 *	40  8  length of the body
 *	48 16  XXH3-128 of the body (canonical form)
 *	64  8  XXH3-64 of bytes 0..63
 *
 * Body (at 4096):
 *
 *	 0  8  number n of disks (1..DISKS_MAX), then n times 64 bytes: the disk's id, padded with
 *	       zeroes;
 *	then the entries, each
 *	 0  2  disk, index in the above       8  8  offset
 *	 2  2  type (WRITE, ZERO, TRIM)      16  8  length, not 0
 *	 4  4  MBZ                           24     the data, of a WRITE only: `length` bytes
 *
 * An epoch is found by a replay when (1) the magic and the version match, (2) the header's checksum
 * does, (3) it is sealed, (4) the file has all of the body, (5) the body's digest matches, (6) the
 * entries are well formed, as many as the header says, and end where the body ends.
 *
 * Header and body of an epoch become durable by one fdatasync, in any order: whatever mixture of
 * the former epoch and this one a power failure leaves, (2) or (5) does not hold, unless it is the
 * former one untouched.  Either is harmless: the former epoch was in the replica, durably, before
 * journal_begin.
 */
/* clang-format on */
#include "diskmirror/journal-private.h"

#include "common/cleanup.h"
#include "common/le.h"
#include "diskmirror/seam.h"
#include "diskmirror/stream.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

_Static_assert(sizeof journal_magic == 8 && sizeof((struct journal_header *)0)->digest == 16 &&
		       JOURNAL_HEADER_SIZE == 64 + 8 && JOURNAL_HEADER_SIZE <= JOURNAL_BODY,
	"the header is as the table above says");
_Static_assert(JOURNAL_ID_SIZE == DISK_ID_MAX + 1, "an id and its NUL fill the field");
_Static_assert(JOURNAL_ENTRY_SIZE == 16 + 8, "an entry ends with its length");

#define BUFFER (1u << 20)
#define KEEP   (256ull << 20) /* a larger file, of one huge epoch, is cut before the next one */

struct journal {
	int fd;
	char *path;
	size_t n_ids;
	char ids[DISKS_MAX][JOURNAL_ID_SIZE];
	XXH3_state_t *digest;
	uint8_t *buf;
	size_t fill;
	uint64_t at; /* of buf in the file */
	struct journal_header h;
	bool adding; /* between begin and seal, without an error so far */
	bool clear;  /* the file is known to have no sealed epoch */
};

static int cannot(struct journal *j, int r, const char *what, struct mc_error *err)
{
	return mc_error_set(err, r, MC_ECLASS_FAILED, "cannot %s the journal %s: %s; %s", what,
		j->path, strerror(-r),
		r == -ENOSPC ? "free some space there and protect the VM again"
			     : "look for errors of its disk in the kernel's log");
}

static int write_header(struct journal *j)
{
	uint8_t b[JOURNAL_HEADER_SIZE];
	memcpy(b, journal_magic, sizeof journal_magic);
	put_le32(b + 8, JOURNAL_VERSION);
	put_le32(b + 12, j->h.sealed);
	put_le64(b + 16, j->h.generation);
	put_le64(b + 24, j->h.epoch);
	put_le64(b + 32, j->h.entries);
	put_le64(b + 40, j->h.length);
	memcpy(b + 48, j->h.digest, sizeof j->h.digest);
	put_le64(b + 64, XXH3_64bits(b, 64));
	return seam_pwrite(j->fd, b, sizeof b, 0);
}

int journal_open(const char *path, const char *const *ids, size_t n_ids, struct journal **ret,
	struct mc_error *err)
{
	assert(n_ids >= 1 && n_ids <= DISKS_MAX);
	struct journal *j = calloc(1, sizeof *j);
	if (j) {
		j->fd = -1;
		j->path = strdup(path);
		j->buf = malloc(BUFFER);
		j->digest = XXH3_createState();
	}
	if (!j || !j->path || !j->buf || !j->digest) {
		journal_close(j);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left for the journal of a VM's disks");
	}
	j->n_ids = n_ids;
	for (size_t i = 0; i < n_ids; i++) {
		assert(*ids[i] && strlen(ids[i]) < JOURNAL_ID_SIZE);
		strcpy(j->ids[i], ids[i]);
	}
	j->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	int r = j->fd < 0 || fstat(j->fd, &st) < 0 ? -errno : 0;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r == 0)
		r = seam_sync_dir(path);
	if (r < 0) {
		cannot(j, r, "open", err);
		journal_close(j);
		return r;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		close(j->fd);
	XXH3_freeState(j->digest);
	free(j->buf);
	free(j->path);
	free(j);
}

static int flush(struct journal *j)
{
	assert(j->fill <= BUFFER && j->at >= JOURNAL_BODY);
	int r = seam_pwrite(j->fd, j->buf, j->fill, j->at);
	j->at += j->fill;
	j->fill = 0;
	return r;
}

static int append(struct journal *j, const void *data, size_t len)
{
	int r = 0;
	XXH3_128bits_update(j->digest, data, len);
	j->h.length += len;
	if (len > BUFFER - j->fill)
		r = flush(j);
	if (r == 0 && len > BUFFER) {
		r = seam_pwrite(j->fd, data, len, j->at);
		j->at += len;
	} else if (r == 0) {
		memcpy(j->buf + j->fill, data, len);
		j->fill += len;
	}
	return r;
}

int journal_begin(struct journal *j, uint64_t generation, uint64_t epoch, struct mc_error *err)
{
	struct stat st;
	int r = 0;
	/* Epochs only grow, or a replay could bring back an older one. */
	assert(generation && epoch);
	assert(generation > j->h.generation ||
		(generation == j->h.generation && epoch >= j->h.epoch));
	j->h = (struct journal_header){.generation = generation, .epoch = epoch};
	j->fill = 0;
	j->at = JOURNAL_BODY;
	XXH3_128bits_reset(j->digest);
	if (fstat(j->fd, &st) < 0 ||
		((uint64_t)st.st_size > KEEP && ftruncate(j->fd, JOURNAL_BODY) < 0))
		r = -errno;
	uint8_t n[8];
	put_le64(n, j->n_ids);
	if (r == 0)
		r = append(j, n, sizeof n);
	if (r == 0)
		r = append(j, j->ids, j->n_ids * JOURNAL_ID_SIZE);
	j->adding = r == 0;
	return r < 0 ? cannot(j, r, "write", err) : 0;
}

int journal_add(struct journal *j, const struct journal_entry *e, struct mc_error *err)
{
	assert(j->adding && e->disk < j->n_ids && e->length);
	assert((e->type == DISK_WRITE && e->data) || e->type == DISK_ZERO || e->type == DISK_TRIM);
	uint8_t b[JOURNAL_ENTRY_SIZE] = {0};
	put_le16(b, e->disk);
	put_le16(b + 2, e->type);
	put_le64(b + 8, e->offset);
	put_le64(b + 16, e->length);
	int r = append(j, b, sizeof b);
	if (r == 0 && e->type == DISK_WRITE)
		r = append(j, e->data, e->length);
	j->h.entries++;
	j->adding = r == 0;
	return r < 0 ? cannot(j, r, "write", err) : 0;
}

int journal_seal(struct journal *j, struct mc_error *err)
{
	assert(j->adding);
	j->adding = false;
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(j->digest));
	memcpy(j->h.digest, c.digest, sizeof j->h.digest);
	j->h.sealed = true;
	j->clear = false;
	int r = flush(j);
	assert(j->at == JOURNAL_BODY + j->h.length);
	if (r == 0)
		r = write_header(j);
	if (r == 0)
		r = seam_fdatasync(j->fd);
	return r < 0 ? cannot(j, r, "write", err) : 0;
}

int journal_clear(struct journal *j, struct mc_error *err)
{
	if (j->clear)
		return 0;
	j->adding = false;
	j->h = (struct journal_header){0};
	int r = write_header(j);
	if (r == 0)
		r = seam_fdatasync(j->fd);
	j->clear = r == 0;
	return r < 0 ? cannot(j, r, "clear", err) : 0;
}
