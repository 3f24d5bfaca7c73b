/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One epoch's disk writes as a redo log: complete on stable storage before the first of them
 * touches the replica, so that a power failure in the middle of applying leaves something that
 * can be finished. The byte layout is at the head of journal.c.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>

struct journal_entry {
	uint16_t disk; /* index in the ids given to journal_open or journal_replay */
	uint16_t type; /* DISK_WRITE, DISK_ZERO, DISK_TRIM */
	uint64_t offset, length;
	const void *data; /* NULL but for DISK_WRITE */
};

struct journal;
/* Creates or opens the file (0600); the directory is fsynced.  The file names disks by their ids:
 * between a crash and the replay an administrator may have reordered them. */
int journal_open(const char *path, const char *const *ids, size_t n_ids, struct journal **ret,
	struct mc_error *err);
void journal_close(struct journal *j);
/* A new epoch replaces the former one, which must have been applied and flushed. */
int journal_begin(struct journal *j, uint64_t generation, uint64_t epoch, struct mc_error *err);
int journal_add(struct journal *j, const struct journal_entry *e, struct mc_error *err);
/* Digest, fdatasync: after 0 the epoch will be found by journal_replay. */
int journal_seal(struct journal *j, struct mc_error *err);
/* The epoch is applied and durable in the replica: replaying it again would undo what came
 * later. */
int journal_clear(struct journal *j, struct mc_error *err);

struct journal_mark { /* whose writes a journal has; epoch 0: none */
	uint64_t generation, epoch;
};

typedef int (*journal_fn)(void *ctx, const struct journal_entry *e, struct mc_error *err);
/* Calls fn for each entry of a sealed epoch, after all of it was verified; an unfinished, empty
 * or missing one is none.  Never trusts a length. -EBADMSG is for a file that is no journal at
 * all; -ENODEV, class ConfigError, for one that has writes of a disk that is not among the ids. */
int journal_replay(const char *path, const char *const *ids, size_t n_ids, journal_fn fn, void *ctx,
	struct journal_mark *ret, struct mc_error *err);
