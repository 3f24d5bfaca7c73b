/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of a replica, and writes to them in batches whose order does not matter, kept in order
 * where it does. */
#pragma once
#include "diskmirror/replica.h"

#include <stdatomic.h>

struct diskfile {
	int fd;
	bool block; /* a block device */
	uint64_t size;
	const char *id, *path; /* the caller's */
	uint64_t dev, ino;
	atomic_bool dirty; /* written since the last diskfile_sync */
};

/* size: what it must have, and is created with if missing; 0: any size, and it must exist. */
int diskfile_open(
	struct diskfile *f, const struct replica_disk *d, uint64_t size, struct mc_error *err);
void diskfile_close(struct diskfile *f);
int diskfile_read(struct diskfile *f, void *buf, uint64_t off, uint64_t len, struct mc_error *err);
/* What was written is on stable storage; nothing to do for a file that was not. */
int diskfile_sync(struct diskfile *f, struct mc_error *err);

/* For one thread.  With `uring` writes go on in the kernel until diskio_drain; without, or where
 * the kernel has none for us, they are done when the call returns. */
struct diskio;
int diskio_new(bool uring, struct diskio **ret, struct mc_error *err);
void diskio_free(struct diskio *io);
/* type: DISK_WRITE, whose data must stay until diskio_drain, DISK_ZERO or DISK_TRIM. The range
 * must be within the file.  A later operation on the same bytes wins.  After an error: only
 * diskio_drain. */
int diskio_op(struct diskio *io, struct diskfile *f, uint16_t type, uint64_t off, uint64_t len,
	const void *data, struct mc_error *err);
/* Nothing is in flight any more, whatever it returns; the first error of any operation since the
 * last. */
int diskio_drain(struct diskio *io, struct mc_error *err);
