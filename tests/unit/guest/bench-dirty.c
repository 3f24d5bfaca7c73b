/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What tracking costs: 256 MiB, 1280 pages (5 MiB) written at random between two collects.
 * Usage: bench-dirty [pagemap-scan|soft-dirty]; prints microseconds.
 */
#include "common/clock.h"
#include "dirtychild.h"
#include "mcd/guest/dirty/inject.h"
#include "mcd/guest/dirty/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEN    (256ull << 20)
#define WRITES 1280
#define ROUNDS 300

static double sample[ROUNDS];
static struct mc_error err = MC_ERROR_INIT;

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void report(const char *what, size_t n)
{
	qsort(sample, n, sizeof *sample, by_value);
	printf("%-34s median %8.1f   p5 %8.1f   p95 %8.1f   max %8.1f   (n=%zu)\n", what,
		sample[n / 2], sample[n / 20], sample[n - 1 - n / 20], sample[n - 1], n);
}

static double us_since(uint64_t t)
{
	return (double)(mc_now() - t) / 1000.0;
}

static void check(int r)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bench-dirty: %s\n", err.msg);
	exit(1);
}

static void bench_inject(const struct dirtychild *c)
{
	for (size_t i = 0; i < ROUNDS; i++) {
		int64_t value;
		uint64_t t = mc_now();
		check(inject_syscall(c->pid, SYS_getpid, (const uint64_t[6]){0}, &value, &err));
		sample[i] = us_since(t);
	}
	report("inject one system call", ROUNDS);
	int pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	for (size_t i = 0; i < ROUNDS; i++) {
		uint64_t t = mc_now();
		int fd = inject_userfaultfd(c->pid, pidfd, O_CLOEXEC | 1, &err);
		sample[i] = us_since(t);
		if (fd == -ENOSYS)
			break;
		check(fd);
		close(fd);
		if (i == ROUNDS - 1)
			report("inject and fetch a userfaultfd", ROUNDS);
	}
	close(pidfd);
}

static void bench_tracking(struct dirtychild *c, enum dirty_backend backend)
{
	static double first[50], end[50], peek[ROUNDS];
	const size_t opens = sizeof first / sizeof *first;
	struct dirty *d = NULL;
	struct dirty_list list = {0};
	uint64_t bytes = 0, sum = 0;
	bool peeks = true;
	for (size_t i = 0; i < opens; i++) {
		uint64_t t = mc_now();
		check(dirty_open(c->pid, c->region, DIRTYCHILD_REGIONS, backend, &d, &err));
		sample[i] = us_since(t);
		t = mc_now();
		check(dirty_collect(d, &list, &err));
		first[i] = us_since(t);
		t = mc_now();
		dirty_close(d);
		end[i] = us_since(t);
	}
	report("open", opens);
	memcpy(sample, first, sizeof first);
	report("first collect (arms every page)", opens);
	memcpy(sample, end, sizeof end);
	report("close (all armed)", opens);

	check(dirty_open(c->pid, c->region, DIRTYCHILD_REGIONS, backend, &d, &err));
	check(dirty_collect(d, &list, &err));
	for (size_t i = 0; i < ROUNDS; i++) {
		dirtychild_do(c, DC_WRITE, i + 1, WRITES);
		uint64_t t = mc_now();
		if (peeks && dirty_peek(d, &bytes, &err) == -ENOTSUP)
			peeks = false;
		peek[i] = us_since(t);
		t = mc_now();
		check(dirty_collect(d, &list, &err));
		sample[i] = us_since(t);
		sum += list.bytes;
	}
	report("collect and re-arm", ROUNDS);
	memcpy(sample, peek, sizeof peek);
	if (peeks)
		report("peek", ROUNDS);
	printf("%.1f pages a collect, %s\n", (double)sum / 4096 / ROUNDS, d->ops->name);
	dirty_close(d);
	dirty_list_free(&list);
}

int main(int argc, char **argv)
{
	enum dirty_backend backend = DIRTY_AUTO;
	if (argc > 1)
		backend = strcmp(argv[1], "soft-dirty") ? DIRTY_PAGEMAP_SCAN : DIRTY_SOFT_DIRTY;
	if (dirty_probe(backend, &backend, &err)) {
		printf("SKIP: %s\n", err.msg);
		return 77;
	}
	struct dirtychild c;
	if (dirtychild_start(&c, LEN - (16 << 20), 16 << 20, 0)) {
		fputs("bench-dirty: no child\n", stderr);
		return 1;
	}
	dirtychild_do(
		&c, DC_WRITE, 0, LEN / 4096 / 2); /* all memory in use, mapped by 4 KiB pages */
	dirtychild_do(&c, DC_TOUCH, 0, 0);
	bench_inject(&c);
	bench_tracking(&c, backend);
	dirtychild_stop(&c);
	return 0;
}
