/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the TCP transport costs, between two processes in namespaces of their own:
 *
 *	bench-wire-transport [ROUNDS [loopback|veth [RATE]]]
 *
 * To compare two engines give both a connection and let them take turns (it was done so with
 * io_uring, see the log of tcp.c): a busy machine is then busy for both.  ROUNDS times (default 9)
 *
 *	large   epochs of 8 slabs of 5 MiB, filled, sealed and posted one after another as a
 *	        primary does it, a device state of 256 KiB and a COMMIT; flush; then the answer
 *	small   the same with 512 KiB in one slab and 64 KiB of device state
 *	header  the round trip of a message without payload
 *
 * and of each round the mean of an epoch counts.  `send` ends with the flush, `epoch` with the
 * answer; the CPU time is that of the whole process.  RATE (as in tc, "10gbit") slows a veth
 * down.
 */
#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/transport.h"
#include "tests/unit/own-netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define SLABS      8
#define ROUNDS_MAX 501

enum figure { SEND, EPOCH, CPU_SENDER, CPU_RECEIVER, FIGURES };
static const char *const figure_names[FIGURES] = {"send", "epoch", "cpu sender", "cpu receiver"};

struct load {
	const char *name;
	unsigned epochs, slabs;
	size_t bytes, devices;
};
static const struct load loads[] = {
	{"large", 6, SLABS, SLAB_SIZE - WIRE_PAGE_SIZE, 256 << 10},
	{"small", 100, 1, 512 << 10, 64 << 10},
	{"header", 1000, 0, 0, 0},
};
#define LOADS (sizeof loads / sizeof *loads)

struct engine {
	struct transport *t;
	pid_t receiver;
	double figures[LOADS][FIGURES][ROUNDS_MAX]; /* us an epoch */
};
static struct engine engine;

static struct slab *slabs[SLABS];
static uint8_t *memory, *devices;

static void check(int r, const struct mc_error *err)
{
	if (r < 0) {
		fprintf(stderr, "%s\n", err->msg);
		exit(1);
	}
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

static uint64_t forever(void)
{
	return mc_now() + 60 * MC_SEC;
}

static uint64_t cpu_time(pid_t pid)
{
	clockid_t c;
	struct timespec ts;
	must(clock_getcpuclockid(pid, &c) == 0 && clock_gettime(c, &ts) == 0, "CPU clock");
	return (uint64_t)ts.tv_sec * MC_SEC + (uint64_t)ts.tv_nsec;
}

static void post(
	struct transport *t, uint16_t type, const void *payload, size_t len, uint64_t digest)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h = {type, 1, 1, len, digest};
	check(transport_post(t, &h, payload, &err), &err);
}

static struct wire_header receive(struct transport *t)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h;
	check(transport_recv(t, &h, forever(), -1, &err), &err);
	return h;
}

/* The other process: swallows everything and answers a COMMIT, until the connection ends. */
static void receiver(struct transport *t)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h;
	while (transport_recv(t, &h, forever(), -1, &err) == 0) {
		if (h.length)
			check(transport_recv_payload(t, memory, forever(), &err), &err);
		if (h.type != WIRE_COMMIT)
			continue;
		post(t, WIRE_ACK, NULL, 0, 0);
		check(transport_flush(t, forever(), &err), &err);
	}
	_exit(0);
}

/* Ranges of 8 pages: what dirty pages of a real guest look like. */
static void fill(struct slab *s, size_t bytes)
{
	const size_t range = 8 * WIRE_PAGE_SIZE;
	s->used = 0;
	for (uint64_t off = 0; off + range <= bytes; off += range)
		if (slab_append(s, 0, off, memory + off, range) != range)
			break;
	slab_seal(s);
}

static void epoch(struct transport *t, const struct load *l, uint64_t digest)
{
	struct mc_error err = MC_ERROR_INIT;
	for (unsigned i = 0; i < l->slabs; i++) {
		fill(slabs[i], l->bytes);
		post(t, WIRE_SLAB, slabs[i]->mem, slabs[i]->used, slabs[i]->digest);
	}
	if (l->devices)
		post(t, WIRE_DEVICES, devices, l->devices, digest);
	post(t, WIRE_COMMIT, NULL, 0, 0);
	check(transport_flush(t, forever(), &err), &err);
}

static void measure(struct engine *e, size_t load, unsigned round)
{
	const struct load *l = &loads[load];
	uint64_t digest = XXH3_64bits(devices, l->devices), sent = 0, whole = 0;
	uint64_t mine = cpu_time(getpid()), theirs = cpu_time(e->receiver);
	for (unsigned i = 0; i < l->epochs; i++) {
		uint64_t began = mc_now();
		epoch(e->t, l, digest);
		sent += mc_now() - began;
		receive(e->t);
		whole += mc_now() - began;
	}
	mine = cpu_time(getpid()) - mine;
	theirs = cpu_time(e->receiver) - theirs;
	const uint64_t got[FIGURES] = {sent, whole, mine, theirs};
	for (unsigned i = 0; i < FIGURES; i++)
		e->figures[load][i][round] = (double)got[i] / l->epochs / 1e3;
}

static struct transport *wrap(int fd)
{
	struct mc_error err = MC_ERROR_INIT;
	struct transport *t;
	must(fd >= 0, "connection");
	check(transport_tcp_new(fd, &t, &err), &err);
	return t;
}

static void command(const char *fmt, ...)
{
	char s[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(s, sizeof s, fmt, ap);
	va_end(ap);
	must(system(s) == 0, s);
}

/* Ours and the receiver's end of a network of their own. */
static void make_veth(pid_t peer, const char *rate)
{
	command("ip link add va type veth peer name vb netns %d", (int)peer);
	command("ip addr add 10.9.0.1/24 dev va && ip link set va up");
	command("nsenter -t %d -n ip addr add 10.9.0.2/24 dev vb", (int)peer);
	command("nsenter -t %d -n ip link set vb up", (int)peer);
	if (rate)
		command("tc qdisc add dev va root tbf rate %s burst 4mb latency 10ms", rate);
}

static void start(struct engine *e, bool veth, const char *rate)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
	socklen_t len = sizeof sa;
	int ready = eventfd(0, 0), up = eventfd(0, 0), l = -1;
	eventfd_t v;
	if (!veth) {
		l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		must(bind(l, (struct sockaddr *)&sa, len) == 0 && listen(l, 1) == 0, "listen");
		getsockname(l, (struct sockaddr *)&sa, &len);
	}
	sa.sin_port = veth ? htons(9) : sa.sin_port;
	e->receiver = fork();
	if (e->receiver == 0) {
		if (veth) {
			must(own_netns(), "namespace");
			l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			must(bind(l, (struct sockaddr *)&sa, len) == 0 && listen(l, 1) == 0,
				"listen");
		}
		eventfd_write(ready, 1);
		eventfd_read(up, &v);
		receiver(wrap(accept(l, NULL, NULL)));
	}
	eventfd_read(ready, &v);
	if (veth)
		make_veth(e->receiver, rate);
	eventfd_write(up, 1);
	sa.sin_addr.s_addr = veth ? htonl(0x0a090002) : htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	must(connect(fd, (struct sockaddr *)&sa, len) == 0, "connect");
	if (l >= 0)
		close(l);
	e->t = wrap(fd);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void report(const struct load *l, const char *figure, double *v, unsigned n)
{
	/* cppcheck-suppress uninitvar ; n of them are not */
	qsort(v, n, sizeof *v, compare);
	printf("%-7s %-13s median %10.2f  quartiles %10.2f %10.2f  min %10.2f us\n", l->name,
		figure, v[n / 2], v[n / 4], v[n - 1 - n / 4], v[0]);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 9;
	bool veth = argc > 2 && !strcmp(argv[2], "veth");
	struct slab_pool *pool;
	if (rounds < 1 || rounds > ROUNDS_MAX)
		return 2;
	if (!own_netns()) {
		puts("skipped: no network namespace of our own (needs root or user namespaces)");
		return 77;
	}
	memory = malloc(SLAB_SIZE);
	devices = malloc(SLAB_SIZE);
	if (!memory || !devices ||
		slab_pool_new((uint64_t)SLABS * SLAB_SIZE, NULL, &pool, NULL) < 0)
		return 1;
	for (size_t i = 0; i < SLAB_SIZE; i++)
		memory[i] = devices[i] = (uint8_t)(i * 2654435761u >> 13);
	for (unsigned i = 0; i < SLABS; i++)
		must(slab_get(pool, &slabs[i], NULL) == 0, "slabs");
	start(&engine, veth, argc > 3 ? argv[3] : NULL);
	for (size_t l = 0; l < LOADS; l++) {
		measure(&engine, l, 0); /* warm */
		for (unsigned i = 0; i < rounds; i++)
			measure(&engine, l, i);
		for (unsigned i = 0; i < FIGURES; i++)
			report(&loads[l], figure_names[i], engine.figures[l][i], rounds);
		fflush(stdout);
	}
	transport_close(engine.t);
	waitpid(engine.receiver, NULL, 0);
	for (unsigned i = 0; i < SLABS; i++)
		slab_put(pool, slabs[i]);
	slab_pool_free(pool);
	free(devices);
	free(memory);
	return 0;
}
