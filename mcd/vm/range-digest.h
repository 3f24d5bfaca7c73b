/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Digests of a range of guest memory or of a disk, for `mcctl verify`. */
#pragma once
#include "common/error.h"
#include <stdint.h>

/* Of memory that is the file fd, mapped at map.  Holes count as zeroes and stay holes: looking at
 * them through the mapping would fill them with pages.  -EFAULT: it cannot be read, whatever QEMU
 * did to it. */
int range_digest_memory(int fd, const uint8_t *map, uint64_t off, uint64_t len, uint64_t *ret,
	struct mc_error *err);
/* Of a file or block device, read in pieces. */
int range_digest_file(int fd, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err);
