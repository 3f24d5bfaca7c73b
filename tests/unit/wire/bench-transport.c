// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How fast the TCP transport is between two processes over loopback, in a namespace of our own:
 *
 *	bench-wire-transport [ROUNDS]
 *
 * For each engine, ROUNDS times (default 9): 5 MiB slabs, hashed on both sides, as the epoch sends
 * them (seal, post, ... flush, one answer for each 8); and the round trip of a header.  Prints
 * median, minimum and maximum; also what hashing and appending cost alone.
 */
#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/stream-io.h"
#include "mcd/wire/transport.h"
#include "tests/unit/own-netns.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#define SLABS  64 /* a round: 320 MiB */
#define EPOCH  8
#define TRIPS  5000
#define ROUNDS_MAX 101

static uint64_t forever(void)
{
	return mc_now() + 60 * MC_SEC;
}

static void check(int r, const struct mc_error *err)
{
	if (r < 0) {
		fprintf(stderr, "%s\n", err->msg);
		exit(1);
	}
}

static void answer(struct transport *t, uint64_t epoch)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h = { .type = WIRE_ACK, .epoch = epoch };
	check(transport_post(t, &h, NULL, &err), &err);
	check(transport_flush(t, forever(), &err), &err);
}

static void expect(struct transport *t, struct wire_header *h)
{
	struct mc_error err = MC_ERROR_INIT;
	check(transport_recv(t, h, forever(), -1, &err), &err);
}

/* The other process: swallows slabs and answers, until the connection ends. */
static void standby(struct transport *t, struct slab *s)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h;
	for (unsigned n = 0; transport_recv(t, &h, forever(), -1, &err) == 0;) {
		if (h.length)
			check(transport_recv_payload(t, s->mem, forever(), &err), &err);
		if (!h.length || ++n % EPOCH == 0)
			answer(t, h.epoch);
	}
	_exit(0);
}

static double throughput(struct transport *t, struct slab **s)
{
	struct mc_error err = MC_ERROR_INIT;
	uint64_t before = mc_now();
	for (unsigned i = 0; i < SLABS; i += EPOCH) {
		struct wire_header h;
		for (unsigned j = 0; j < EPOCH; j++) {
			slab_seal(s[j]);
			h = (struct wire_header){ WIRE_SLAB, 1, i, s[j]->used, s[j]->digest };
			check(transport_post(t, &h, s[j]->mem, &err), &err);
		}
		check(transport_flush(t, forever(), &err), &err);
		expect(t, &h);
	}
	return (double)SLABS * SLAB_SIZE / (double)(mc_now() - before); /* GB/s */
}

static double round_trip(struct transport *t)
{
	uint64_t before = mc_now();
	for (unsigned i = 0; i < TRIPS; i++) {
		struct wire_header h;
		answer(t, i);
		expect(t, &h);
	}
	return (double)(mc_now() - before) / TRIPS / 1e3; /* us */
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void report(const char *engine, const char *what, const char *unit, double *v, unsigned n)
{
	qsort(v, n, sizeof *v, compare);
	printf("%-8s %-28s median %8.2f  min %8.2f  max %8.2f  %s\n", engine, what, v[n / 2], v[0],
		v[n - 1], unit);
	fflush(stdout);
}

static struct transport *wrap(bool uring, int fd)
{
	int one = 1;
	struct stream_io *io;
	struct transport *t;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	int r = uring ? tcp_io_uring_new(fd, &io) : tcp_io_plain_new(fd, &io);
	if (r < 0 || transport_stream_new(io, &t, NULL) < 0) {
		fprintf(stderr, "no %s: %s\n", uring ? "io_uring" : "transport", strerror(-r));
		exit(1);
	}
	return t;
}

static void bench(bool uring, struct slab **s, unsigned rounds)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof sa;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(l, (struct sockaddr *)&sa, len) < 0 || listen(l, 1) < 0 ||
		getsockname(l, (struct sockaddr *)&sa, &len) < 0)
		exit(1);
	pid_t pid = fork();
	if (pid == 0)
		standby(wrap(uring, accept(l, NULL, NULL)), s[0]);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		exit(1);
	close(l);
	struct transport *t = wrap(uring, fd);
	const char *name = uring ? "io_uring" : "plain";
	double gbs[ROUNDS_MAX], us[ROUNDS_MAX];
	throughput(t, s);
	for (unsigned i = 0; i < rounds; i++) {
		gbs[i] = throughput(t, s);
		us[i] = round_trip(t);
	}
	transport_close(t);
	waitpid(pid, NULL, 0);
	report(name, "5 MiB slabs", "GB/s", gbs, rounds);
	report(name, "round trip of a header", "us", us, rounds);
}

static void bench_slab(struct slab *s, const uint8_t *mem, unsigned rounds)
{
	double seal[ROUNDS_MAX], append[ROUNDS_MAX];
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t t0 = mc_now();
		slab_seal(s);
		uint64_t t1 = mc_now();
		s->used = 0;
		/* Ranges of 8 pages: what dirty pages of a real guest look like. */
		for (uint64_t off = 0; slab_append(s, 0, off, mem + off, 8 * WIRE_PAGE_SIZE) ==
			8 * WIRE_PAGE_SIZE;)
			off += 8 * WIRE_PAGE_SIZE;
		seal[i] = (double)(t1 - t0) / 1e3;
		append[i] = (double)(mc_now() - t1) / 1e3;
	}
	report("slab", "seal (XXH3 of 5 MiB)", "us", seal, rounds);
	report("slab", "append 5 MiB", "us", append, rounds);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 9;
	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	struct slab_pool *pool;
	struct slab *s[EPOCH];
	uint8_t *mem = malloc(SLAB_SIZE);
	if (!mem || slab_pool_new((uint64_t)EPOCH * SLAB_SIZE, NULL, &pool, NULL) < 0)
		return 1;
	for (size_t i = 0; i < SLAB_SIZE; i++)
		mem[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; i < EPOCH; i++) {
		if (slab_get(pool, &s[i], NULL) < 0)
			return 1;
		slab_append(s[i], 0, 0, mem, SLAB_SIZE - WIRE_PAGE_SIZE);
	}
	bench_slab(s[0], mem, rounds);
	bench(true, s, rounds);
	bench(false, s, rounds);
	for (int i = 0; i < EPOCH; i++)
		slab_put(pool, s[i]);
	slab_pool_free(pool);
	free(mem);
	return 0;
}
