/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftbench.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE  4096u
#define PIECES 2048u /* of the file: 8 MiB */

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Allocated and durable beforehand: what is measured is the disk, not ext4's journal. */
static int prepare(const char *path, void *buf)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool good = fd >= 0;
	for (unsigned i = 0; good && i < PIECES; i++)
		good = pwrite(fd, buf, PIECE, (off_t)i * PIECE) == (ssize_t)PIECE;
	if (good && fsync(fd) == 0)
		return fd;
	return -1;
}

static uint64_t work(int fd, void *buf, bool sync, uint64_t until)
{
	uint64_t n = 0;
	uint32_t at = 1;
	for (; now_ns() < until; n++) {
		at = at * 1664525u + 1013904223u;
		memcpy(buf, &n, sizeof n); /* or nothing would change after the first round */
		if (pwrite(fd, buf, PIECE, (off_t)((at >> 16) % PIECES) * PIECE) !=
				(ssize_t)PIECE ||
			(sync && fdatasync(fd) < 0))
			return 0;
	}
	return n;
}

static void run(int out, const char *path, bool sync, unsigned ms)
{
	void *buf = NULL;
	if (posix_memalign(&buf, PIECE, PIECE))
		_exit(1);
	memset(buf, 'b', PIECE);
	int fd = prepare(path, buf);
	if (fd >= 0 && !sync)
		fcntl(fd, F_SETFL, O_DIRECT);
	uint64_t began = now_ns(), n = 0;
	if (fd >= 0)
		n = work(fd, buf, sync, began + ms * 1000000ull);
	if (n)
		dprintf(out, "BENCH %s %" PRIu64 " %" PRIu64 "\n", sync ? "fsync" : "write", n,
			now_ns() - began);
	else
		dprintf(out, "ERR %s: %s\n", path, strerror(errno));
	_exit(0);
}

void ftbench_start(int fd, const char *path, const char *kind, unsigned ms)
{
	bool sync = !strcmp(kind, "fsync");
	if (!sync && strcmp(kind, "write")) {
		dprintf(fd, "ERR usage: DISKBENCH fsync|write ms\n");
		return;
	}
	signal(SIGCHLD, SIG_IGN); /* no zombies */
	int flags = fcntl(fd, F_GETFL);
	pid_t pid = fork();
	if (pid == 0) {
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
		run(fd, path, sync, ms);
	}
	if (pid < 0)
		dprintf(fd, "ERR fork: %s\n", strerror(errno));
}
