/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The writes of one epoch in the order they came, held until it is committed: in memory, and from
 * the first one that exceeds the budget on in an unlinked file.  No locking here.
 */
#pragma once
#include "common/error.h"
#include "diskmirror/stream.h"

struct held_record {
	struct held_record *next;
	struct disk_header h;
	uint8_t data[];
};

struct held_epoch {
	struct held_epoch *next;
	uint64_t n;
	bool ended, flushed;
	struct disk_epoch_sum sum; /* so far; its digest is set at the end */
	struct disk_digest digest;
	struct held_record *first, **tail;
	uint64_t memory; /* held_cost of all records in memory */
	int spill_fd;    /* -1: none */
	uint64_t spilled;
};

struct held_epoch *held_new(uint64_t generation, uint64_t n); /* NULL: no memory */
void held_free(struct held_epoch *e);                         /* NULL is fine */

/* Memory that a record takes, the allocator's share included. */
uint64_t held_cost(const struct disk_header *h);
struct held_record *held_record_new(const struct disk_header *h); /* NULL: no memory */
/* Takes the record over.  To be used only while nothing of the epoch is spilled. */
void held_keep(struct held_epoch *e, struct held_record *rec);
/* Writes it behind what was spilled before; the record remains the caller's. */
int held_spill(
	struct held_epoch *e, const char *dir, const struct held_record *rec, struct mc_error *err);

/* Goes through the records in order. */
struct held_cursor {
	const struct held_epoch *e;
	const struct held_record *next;
	uint64_t at; /* in the spill file, of what is behind the window */
	uint8_t *window;
	size_t cap, fill, pos;
	/* Called before the data handed out so far go away; may be NULL. */
	int (*reuse)(void *ctx, struct mc_error *err);
	void *ctx;
	struct disk_header h; /* of the record handed out last */
	const void *data;     /* NULL but for a WRITE; until reuse or held_done */
};

void held_start(struct held_cursor *c, const struct held_epoch *e);
/* 1: c->h and c->data are the next record; 0: that was all. */
int held_next(struct held_cursor *c, struct mc_error *err);
void held_done(struct held_cursor *c);
