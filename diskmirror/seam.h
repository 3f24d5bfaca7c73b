/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where tests come between us and the disk: to fail a write, and to know what a power failure would
 * have left.  NULL members, and a NULL seam as in production, do the real thing.
 */
#pragma once
#include <stdint.h>

struct disk_seam {
	int (*fdatasync)(int fd);                                /* 0 or -errno */
	int (*before_write)(int fd, uint64_t off, uint64_t len); /* 0, or the -errno of the write */
};
/* A test may change it at any time. */
extern const struct disk_seam *_Atomic disk_seam;

int seam_fdatasync(int fd);
int seam_before_write(int fd, uint64_t off, uint64_t len);
/* All of it or -errno; EINTR and short writes are dealt with. */
int seam_pwrite(int fd, const void *buf, uint64_t len, uint64_t off);
/* Exactly len bytes or -errno; -ENODATA: the file ends before. */
int seam_pread(int fd, void *buf, uint64_t len, uint64_t off);
/* Makes an entry of path's directory durable. */
int seam_sync_dir(const char *path);
