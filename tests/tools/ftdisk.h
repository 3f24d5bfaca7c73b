/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The requests on a file system: a line each, on stable storage before any of them is answered. */
#pragma once
#include "ftlog.h"
#include <stdbool.h>
#include <stddef.h>

struct ftdisk {
	int fd; /* -1: no file, everything below does nothing */
	size_t len;
	char lines[65536]; /* what was applied since the last ftdisk_sync */
};

/* Opens or makes the file, and applies to the log what is in it. false, having said why: it cannot
 * be read, or is not what this program wrote.  A torn last line is cut off: it was never answered.
 */
bool ftdisk_open(struct ftdisk *d, const char *path, struct ftlog *log);
/* Adds request n, which was just applied. */
void ftdisk_add(struct ftdisk *d, const struct ftlog *log, uint64_t n);
/* write, fsync. After false nothing may be answered any more. */
bool ftdisk_sync(struct ftdisk *d);
