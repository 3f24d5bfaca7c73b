/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's `stop` flushes every image, and with it the guest stands still for as long as this
 * host's disk needs for all that was written since the last one.  So the same is done just
 * before, while the guest runs: what `stop` then finds is what was written in those few
 * milliseconds.
 *
 * Only to make the pause short: an image that cannot be opened, or a disk that takes too long,
 * is no error.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct flusher;

/* NULL: no memory, or no thread. */
struct flusher *flusher_new(const char *const *paths, size_t n);
/* Does not wait for a disk that does not answer. NULL is fine. */
void flusher_free(struct flusher *s);
/* Returns when what was written to the images before is on the disk, or after timeout_ns. */
void flusher_run(struct flusher *s, uint64_t timeout_ns);
