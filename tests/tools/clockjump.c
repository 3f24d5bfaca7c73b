/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clockjump.so: LD_PRELOAD it, and the wall clock of that program (and of those that it starts) is
 * off by what a file says, at the moment it says so.  There are no namespaces for CLOCK_REALTIME,
 * and nobody wants a test to set the clock of his machine.
 *
 *   CLOCKJUMP_FILE=PATH   8 bytes: the offset in nanoseconds, signed, of this machine's byte order
 *   CLOCKJUMP_COUNT=PATH  8 bytes, optional: the wall clock was asked so often while it was off
 *
 * CLOCK_MONOTONIC and what the kernel does by itself (an absolute time-out on the wall clock) stay
 * as they are.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t none;
static _Atomic int64_t *offset = &none, *asked = &none;

static _Atomic int64_t *map(const char *name)
{
	const char *path = getenv(name);
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *p = fd >= 0 ? mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
			  : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	return p == MAP_FAILED ? NULL : p;
}

__attribute__((constructor)) static void begin(void)
{
	_Atomic int64_t *p;

	if ((p = map("CLOCKJUMP_FILE")))
		offset = p;
	if ((p = map("CLOCKJUMP_COUNT")))
		asked = p;
}

static void jump(struct timespec *t)
{
	int64_t off = atomic_load_explicit(offset, memory_order_relaxed), ns;

	if (!off)
		return;
	if (asked != &none)
		atomic_fetch_add_explicit(asked, 1, memory_order_relaxed);
	ns = (int64_t)t->tv_nsec + off % 1000000000;
	t->tv_sec += off / 1000000000;
	if (ns < 0 || ns >= 1000000000) {
		t->tv_sec += ns < 0 ? -1 : 1;
		ns += ns < 0 ? 1000000000 : -1000000000;
	}
	t->tv_nsec = (long)ns;
}

/* The system call and not the C library's function, which is this one. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	if (r == 0 &&
		(clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
		jump(t);
	return r;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &t))
		return -1;
	*tv = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec t = {0};

	clock_gettime(CLOCK_REALTIME, &t);
	if (ret)
		*ret = t.tv_sec;
	return t.tv_sec;
}
