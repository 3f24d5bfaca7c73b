/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a journal back after a crash, in passes: the digest of all of it, then the form of every
 * entry, and only then the first of them is handed out.  The layout and the conditions under which
 * an epoch counts are at the head of journal.c.
 */
#include "diskmirror/journal-private.h"

#include "common/cleanup.h"
#include "common/le.h"
#include "diskmirror/seam.h"
#include "diskmirror/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define CHUNK (1u << 20)

/* What makes a journal count as none; apart from errors, which are negative. */
#define NONE 1

struct replay {
	const char *path;
	int fd;
	uint64_t size;
	struct journal_header h;
	uint8_t *buf;
	size_t cap;
	uint16_t map[DISKS_MAX]; /* index in the file to index in the caller's ids */
	size_t n_map;
	uint64_t entries_at;
};

static int cannot_read(struct replay *p, int r, struct mc_error *err)
{
	return mc_error_set(err, r, MC_ECLASS_FAILED,
		"cannot read the journal %s, which may have what is needed to make this host's "
		"copy of the VM's disks whole: %s",
		p->path, strerror(-r));
}

static int need(struct replay *p, uint64_t len, struct mc_error *err)
{
	if (len <= p->cap)
		return 0;
	uint8_t *b = realloc(p->buf, len);
	if (!b)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to replay the journal %s; free some on this host",
			p->path);
	p->buf = b;
	p->cap = len;
	return 0;
}

/* Conditions (1) to (4). */
static int read_header(struct replay *p, struct mc_error *err)
{
	static const uint8_t zeroes[sizeof journal_magic];
	uint8_t b[JOURNAL_HEADER_SIZE] = {0};
	int r = seam_pread(p->fd, b, p->size < sizeof b ? p->size : sizeof b, 0);
	if (r < 0)
		return cannot_read(p, r, err);
	size_t m = p->size < sizeof zeroes ? p->size : sizeof zeroes;
	if (!memcmp(b, zeroes, sizeof zeroes)) /* a header that never reached the disk */
		return NONE;
	if (memcmp(b, journal_magic, m))
		return mc_error_set(err, -EBADMSG, MC_ECLASS_FAILED,
			"%s is not a journal of a VM's disks; if it is something of yours move it "
			"away, and if not delete it and protect the VM again: its copy here may "
			"not be whole",
			p->path);
	if (p->size < sizeof b)
		return NONE;
	if (get_le64(b + 64) != XXH3_64bits(b, 64))
		return NONE;
	if (get_le32(b + 8) != JOURNAL_VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"the journal %s was written by another release of mcd; start that one "
			"again, or protect the VM again",
			p->path);
	p->h = (struct journal_header){
		.sealed = get_le32(b + 12) == 1,
		.generation = get_le64(b + 16),
		.epoch = get_le64(b + 24),
		.entries = get_le64(b + 32),
		.length = get_le64(b + 40),
	};
	memcpy(p->h.digest, b + 48, sizeof p->h.digest);
	if (!p->h.sealed || !p->h.epoch || p->size < JOURNAL_BODY ||
		p->h.length > p->size - JOURNAL_BODY)
		return NONE;
	return 0;
}

/* Condition (5). */
static int check_digest(struct replay *p, struct mc_error *err)
{
	int r = need(p, CHUNK, err);
	if (r < 0)
		return r;
	XXH3_state_t *s = XXH3_createState();
	if (!s)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to replay the journal %s; free some on this host",
			p->path);
	XXH3_128bits_reset(s);
	for (uint64_t at = 0, n; r == 0 && at < p->h.length; at += n) {
		n = p->h.length - at < CHUNK ? p->h.length - at : CHUNK;
		r = seam_pread(p->fd, p->buf, n, JOURNAL_BODY + at);
		if (r == 0)
			XXH3_128bits_update(s, p->buf, n);
	}
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits_digest(s));
	XXH3_freeState(s);
	if (r < 0)
		return cannot_read(p, r, err);
	return memcmp(c.digest, p->h.digest, sizeof p->h.digest) ? NONE : 0;
}

static int map_disk(struct replay *p, const char *id, const char *const *ids, size_t n_ids,
	struct mc_error *err)
{
	for (size_t i = 0; i < n_ids; i++)
		if (!strcmp(ids[i], id)) {
			p->map[p->n_map++] = (uint16_t)i;
			return 0;
		}
	return mc_error_set(err, -ENODEV, MC_ECLASS_CONFIG,
		"the journal %s has writes for a disk that the VM's configuration does not have "
		"any more (%s); put it back, or delete the journal if the VM runs on another host",
		p->path, id);
}

/* The names of the disks, at the beginning of the body. */
static int read_disks(struct replay *p, const char *const *ids, size_t n_ids, struct mc_error *err)
{
	uint8_t n[8];
	char id[JOURNAL_ID_SIZE];
	if (p->h.length < sizeof n)
		return NONE;
	int r = seam_pread(p->fd, n, sizeof n, JOURNAL_BODY);
	uint64_t disks = get_le64(n);
	if (r < 0)
		return cannot_read(p, r, err);
	if (!disks || disks > DISKS_MAX || p->h.length < sizeof n + disks * sizeof id)
		return NONE;
	p->entries_at = sizeof n + disks * sizeof id;
	for (uint64_t i = 0; r == 0 && i < disks; i++) {
		r = seam_pread(p->fd, id, sizeof id, JOURNAL_BODY + sizeof n + i * sizeof id);
		if (r < 0)
			return cannot_read(p, r, err);
		if (!*id || id[sizeof id - 1])
			return NONE;
		for (const char *c = id; *c; c++)
			if (*c <= ' ' || *c > '~')
				return NONE;
		r = map_disk(p, id, ids, n_ids, err);
	}
	return r;
}

/* Condition (6) with fn NULL; with fn, hands the entries out. */
static int walk(struct replay *p, journal_fn fn, void *ctx, struct mc_error *err)
{
	uint64_t at = p->entries_at, count = 0;
	int r = 0;
	for (; r == 0 && at < p->h.length; count++) {
		uint8_t b[JOURNAL_ENTRY_SIZE];
		if (p->h.length - at < sizeof b)
			return NONE;
		r = seam_pread(p->fd, b, sizeof b, JOURNAL_BODY + at);
		if (r < 0)
			return cannot_read(p, r, err);
		at += sizeof b;
		struct journal_entry e = {
			get_le16(b), get_le16(b + 2), get_le64(b + 8), get_le64(b + 16), NULL};
		bool data = e.type == DISK_WRITE;
		if (e.disk >= p->n_map || (!data && e.type != DISK_ZERO && e.type != DISK_TRIM) ||
			get_le32(b + 4) || !e.length || e.offset > DISK_SIZE_MAX ||
			e.length > DISK_SIZE_MAX - e.offset ||
			(data && (e.length > DISK_DATA_MAX || e.length > p->h.length - at)))
			return NONE;
		if (fn && data) {
			r = need(p, e.length, err);
			if (r == 0 &&
				(r = seam_pread(p->fd, p->buf, e.length, JOURNAL_BODY + at)) < 0)
				r = cannot_read(p, r, err);
			e.data = p->buf;
		}
		at += data ? e.length : 0;
		e.disk = p->map[e.disk];
		if (fn && r == 0)
			r = fn(ctx, &e, err);
	}
	return r < 0 ? r : count == p->h.entries ? 0 : NONE;
}

int journal_replay(const char *path, const char *const *ids, size_t n_ids, journal_fn fn, void *ctx,
	struct journal_mark *ret, struct mc_error *err)
{
	struct replay p = {.path = path};
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT) {
		*ret = (struct journal_mark){0};
		return 0;
	}
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return cannot_read(&p, -errno, err);
	p.fd = fd;
	p.size = (uint64_t)st.st_size;
	int r = read_header(&p, err);
	if (r == 0)
		r = check_digest(&p, err);
	if (r == 0)
		r = read_disks(&p, ids, n_ids, err);
	if (r == 0)
		r = walk(&p, NULL, NULL, err);
	if (r == 0)
		r = walk(&p, fn, ctx, err);
	free(p.buf);
	if (r < 0)
		return r;
	*ret = (struct journal_mark){0};
	if (r != NONE)
		*ret = (struct journal_mark){p.h.generation, p.h.epoch};
	return 0;
}
