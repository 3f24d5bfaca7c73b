/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How fast the guest's disk is, seen from inside. */
#pragma once

/* Works for that long in a child and writes the answer to fd, of which the caller may close its
 * own:
 *
 * 	BENCH kind operations ns     the time by the guest's clock, which stands still in a pause
 * 	ERR why
 *
 * kind: "fsync", 4 KiB of a file each made durable before the next; "write", 4 KiB past the page
 * cache at changing places. */
void ftbench_start(int fd, const char *path, const char *kind, unsigned ms);
