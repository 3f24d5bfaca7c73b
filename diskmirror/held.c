/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The spill file is private to this process and gone with it: records as they are in memory, a
 * struct disk_header and the payload, one after the other.  It is read in windows of WINDOW bytes,
 * more if a single record needs it, so that an epoch of any size is applied in bounded memory.
 */
#include "diskmirror/held.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <xxhash.h>

#define WINDOW    (4u << 20)
#define ALLOCATOR 32

static uint64_t payload(const struct disk_header *h)
{
	return disk_has_payload(h->type) ? h->length : 0;
}

struct held_epoch *held_new(uint64_t generation, uint64_t n)
{
	assert(n); /* epoch 0, the synchronisation, is never held */
	struct held_epoch *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->n = n;
	e->spill_fd = -1;
	e->tail = &e->first;
	disk_digest_init(&e->digest, generation, n);
	return e;
}

void held_free(struct held_epoch *e)
{
	if (!e)
		return;
	for (struct held_record *r = e->first, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	if (e->spill_fd >= 0)
		close(e->spill_fd);
	free(e);
}

uint64_t held_cost(const struct disk_header *h)
{
	return sizeof(struct held_record) + payload(h) + ALLOCATOR;
}

struct held_record *held_record_new(const struct disk_header *h)
{
	struct held_record *r = malloc(sizeof *r + payload(h));
	if (!r)
		return NULL;
	r->next = NULL;
	r->h = *h;
	return r;
}

void held_keep(struct held_epoch *e, struct held_record *rec)
{
	assert(e->spill_fd < 0 && !e->ended);
	e->memory += held_cost(&rec->h);
	*e->tail = rec;
	e->tail = &rec->next;
}

static int spill_error(const char *dir, int r, struct mc_error *err)
{
	return mc_error_set(err, r, MC_ECLASS_FAILED,
		"cannot keep disk writes that exceed the memory for them in a file in %s: %s; %s",
		dir, strerror(-r),
		r == -ENOSPC ? "free some space there and protect the VM again"
			     : "make it a writable directory of a local disk");
}

static int open_spill(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd >= 0)
		return fd;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
		return -errno;
	/* Not every file system can. */
	_cleanup_free_ char *path = NULL;
	if (asprintf(&path, "%s/mcd-spill-XXXXXX", dir) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

int held_spill(
	struct held_epoch *e, const char *dir, const struct held_record *rec, struct mc_error *err)
{
	int r = 0;
	assert(!e->ended && (e->spill_fd >= 0 || !e->spilled));
	if (e->spill_fd < 0) {
		r = open_spill(dir);
		if (r < 0)
			return spill_error(dir, r, err);
		e->spill_fd = r;
	}
	r = seam_pwrite(e->spill_fd, &rec->h, sizeof rec->h, e->spilled);
	if (r == 0 && payload(&rec->h))
		r = seam_pwrite(
			e->spill_fd, rec->data, payload(&rec->h), e->spilled + sizeof rec->h);
	if (r < 0)
		return spill_error(dir, r, err);
	e->spilled += sizeof rec->h + payload(&rec->h);
	return 0;
}

void held_start(struct held_cursor *c, const struct held_epoch *e)
{
	*c = (struct held_cursor){.e = e, .next = e->first};
}

void held_done(struct held_cursor *c)
{
	free(c->window);
	c->window = NULL;
}

/* Makes the window begin where the next record does, and hold at least `want` bytes of it. */
static int refill(struct held_cursor *c, size_t want, struct mc_error *err)
{
	int r = c->reuse ? c->reuse(c->ctx, err) : 0;
	if (r < 0)
		return r;
	assert(c->pos <= c->fill && c->fill <= c->cap && c->at >= c->fill - c->pos);
	uint64_t from = c->at - (c->fill - c->pos);
	assert(from < c->e->spilled);
	if (want > c->cap) {
		size_t cap = want > WINDOW ? want : WINDOW;
		free(c->window);
		c->window = malloc(cap);
		c->cap = c->window ? cap : 0;
		c->fill = c->pos = 0;
		if (!c->window) {
			c->at = from;
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
				"there is no memory left to apply disk writes with; free some on "
				"this host");
		}
	}
	uint64_t left = c->e->spilled - from;
	c->fill = left < c->cap ? left : c->cap;
	c->pos = 0;
	c->at = from + c->fill;
	r = c->fill < want ? -ENODATA : seam_pread(c->e->spill_fd, c->window, c->fill, from);
	return r == 0 ? 0
		      : mc_error_set(err, r, MC_ECLASS_FAILED,
				"cannot read back disk writes that exceeded the memory for them: "
				"%s; look for errors of the disk in the kernel's log",
				strerror(-r));
}

static int next_spilled(struct held_cursor *c, struct mc_error *err)
{
	int r = 0;
	if (c->fill - c->pos < sizeof c->h)
		r = refill(c, sizeof c->h, err);
	if (r < 0)
		return r;
	memcpy(&c->h, c->window + c->pos, sizeof c->h);
	size_t len = sizeof c->h + payload(&c->h);
	if (c->fill - c->pos < len)
		r = refill(c, len, err);
	if (r < 0)
		return r;
	c->data = payload(&c->h) ? c->window + c->pos + sizeof c->h : NULL;
	c->pos += len;
	/* It was on a disk in between. */
	if (c->data && XXH3_64bits(c->data, c->h.length) != c->h.digest)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
			"disk writes that exceeded the memory for them came back from their file "
			"different; look for errors of the disk in the kernel's log");
	return 1;
}

int held_next(struct held_cursor *c, struct mc_error *err)
{
	if (c->next) {
		c->h = c->next->h;
		c->data = payload(&c->h) ? c->next->data : NULL;
		c->next = c->next->next;
		return 1;
	}
	if (c->at - (c->fill - c->pos) == c->e->spilled)
		return 0;
	return next_spilled(c, err);
}
