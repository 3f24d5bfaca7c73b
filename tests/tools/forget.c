/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Linked into an mcd, remembers what a power failure would make a standby's disk forget: before a
 * part of a replica or a journal is overwritten what was there goes into a log, which is emptied
 * when fdatasync has returned.  mclab.forget plays the logs back, newest first, and so leaves each
 * file as its last fdatasync did.
 *
 * /run/lab/state/forget/NAME.undo is records of: u64 offset, u64 length, u64 size of the file
 * before, in this machine's byte order; then as many bytes as were there, at most length: what was
 * behind the end of the file is none.
 *
 * Other files (the state file, votes) are as durable as they say: they are written with fsync.
 */
#include "diskmirror/seam.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR   "/run/lab/state/forget"
#define PIECE (1u << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool ends(const char *s, const char *with)
{
	size_t a = strlen(s), b = strlen(with);
	return a >= b && !strcmp(s + a - b, with);
}

/* The log of that file; -1: it is none of ours. */
static int open_log(int fd)
{
	char link[64], path[400], log[700];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (n < 0)
		return -1;
	path[n] = '\0';
	if (!ends(path, ".img") && !ends(path, ".replica") && !ends(path, ".journal"))
		return -1;
	mkdir(DIR, 0700);
	snprintf(log, sizeof log, DIR "/%s.undo", strrchr(path, '/') + 1);
	int r = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (r < 0)
		abort(); /* a test that proves nothing must not pass */
	return r;
}

static void put(int log, const void *p, size_t len)
{
	if (write(log, p, len) != (ssize_t)len)
		abort();
}

static int before_write(int fd, uint64_t off, uint64_t len)
{
	struct stat sb;
	pthread_mutex_lock(&lock);
	_cleanup_close_ int log = open_log(fd);
	_cleanup_free_ uint8_t *buf = malloc(PIECE);
	if (log >= 0 && buf && fstat(fd, &sb) == 0) {
		for (uint64_t at = off, end = off + len; at < end; at += PIECE) {
			uint64_t size = (uint64_t)sb.st_size,
				 want = end - at < PIECE ? end - at : PIECE;
			uint64_t there = at >= size ? 0 : size - at < want ? size - at : want;
			uint64_t head[] = {at, want, size};
			/* The journal may be open for writing only. */
			char path[64];
			snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
			_cleanup_close_ int in = open(path, O_RDONLY | O_CLOEXEC);
			if (pread(in, buf, there, (off_t)at) != (ssize_t)there)
				abort();
			put(log, head, sizeof head);
			put(log, buf, there);
		}
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static int sync_and_forget(int fd)
{
	pthread_mutex_lock(&lock);
	int r = fdatasync(fd) < 0 ? -errno : 0;
	_cleanup_close_ int log = open_log(fd);
	if (r == 0 && log >= 0 && ftruncate(log, 0) < 0)
		abort();
	pthread_mutex_unlock(&lock);
	return r;
}

static const struct disk_seam forgetting = {sync_and_forget, before_write};

__attribute__((constructor)) static void begin(void)
{
	disk_seam = &forgetting;
}
