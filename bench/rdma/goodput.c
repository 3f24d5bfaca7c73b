/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much of the link the checkpoint stream uses, between two hosts:
 *
 *	goodput serve ADDRESS PORT [PATIENCE]                        on the one
 *	goodput send rdma|tcp LOCAL ADDRESS PORT SECONDS [PATIENCE]  on the other
 *
 * PATIENCE: seconds that either waits for the other (20).
 *
 * Slabs are sealed, posted and flushed as an epoch does it and acknowledged by the standby's side
 *once every range was looked at; both ends compute every digest.  Prints payload bytes, seconds and
 *MB/s. The acceptor serves one connection after another until it is killed.
 */
#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/transport.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EPOCH 4 /* slabs of one */

static const struct link_key key = {32, "a key that both ends of it know."};

static void check(int r, const struct mc_error *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "goodput: %s\n", err->msg);
	exit(1);
}

static uint64_t patience = 20;

static uint64_t soon(void)
{
	return mc_now() + patience * MC_SEC;
}

static int standby(struct transport *t, struct slab *s, struct mc_error *err)
{
	const uint64_t ram = SLAB_SIZE;
	struct wire_header h;
	for (;;) {
		int r = transport_recv(t, &h, soon(), -1, err);
		if (r == 0 && h.length) {
			s->used = h.length;
			r = transport_recv_payload(t, s->mem, soon(), err);
			if (r == 0)
				r = slab_walk(s, &ram, 1, NULL, NULL, err);
		} else if (r == 0) {
			struct wire_header ack = {.type = WIRE_ACK, .epoch = h.epoch};
			r = transport_post(t, &ack, NULL, err);
			if (r == 0)
				r = transport_flush(t, soon(), err);
		}
		if (r < 0)
			return r;
	}
}

static int serve_one(int fd, struct slab *s, struct mc_error *err)
{
	struct link_peer peer;
	struct rd_wants wants;
	struct rd_link link = {.fd = fd};
	struct transport *t;
	transport_rdma_wants(false, 0, &wants);
	struct link_self self = {"b", &key, 1, NULL};
	int r = link_accept(fd, &self, soon(), &peer, err);
	if (r == 0)
		r = rd_welcome(RD_AUTO, &wants, fd, &peer, soon(), &link, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = transport_new(&link, &t, err);
	if (r == 0) {
		r = standby(t, s, err);
		transport_close(t);
	}
	return r;
}

_Noreturn static void serve(const char *address, uint16_t port, struct slab *s)
{
	struct mc_error err = MC_ERROR_INIT;
	int l = link_listen(address, port, &err);
	check(l, &err);
	for (;;) {
		struct pollfd p = {.fd = l, .events = POLLIN};
		poll(&p, 1, -1);
		int fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && serve_one(fd, s, &err) < 0)
			fprintf(stderr, "goodput: %s\n", err.msg);
	}
}

static uint64_t one_epoch(struct transport *t, struct slab **s, uint64_t n)
{
	struct mc_error err = MC_ERROR_INIT;
	struct wire_header h;
	uint64_t bytes = 0;
	for (int i = 0; i < EPOCH; i++) {
		slab_seal(s[i]);
		h = (struct wire_header){WIRE_SLAB, 1, n, s[i]->used, s[i]->digest};
		check(transport_post(t, &h, s[i]->mem, &err), &err);
		bytes += s[i]->used;
	}
	h = (struct wire_header){.type = WIRE_SYNC_END, .generation = 1, .epoch = n};
	check(transport_post(t, &h, NULL, &err), &err);
	check(transport_flush(t, soon(), &err), &err);
	check(transport_recv(t, &h, soon(), -1, &err), &err);
	return bytes;
}

static int send_for(char **arg, struct slab **s)
{
	struct mc_error err = MC_ERROR_INIT;
	struct rd_wants wants;
	struct rd_link link;
	struct transport *t;
	transport_rdma_wants(true, EPOCH * SLAB_SIZE, &wants);
	struct link_self self = {"a", &key, 2, arg[1]};
	struct link_target to = {"b", arg[2], (uint16_t)atoi(arg[3]), LINK_DATA, "vm"};
	check(rd_dial(strcmp(arg[0], "tcp") ? RD_RDMA : RD_TCP, &wants, &self, &to, soon(), &link,
		      &err),
		&err);
	check(transport_new(&link, &t, &err), &err);
	for (int i = 0; i < EPOCH; i++)
		check(transport_memory(t, s[i]->mem, SLAB_SIZE, false, &err), &err);
	one_epoch(t, s, 0); /* registers the slabs, and warms what can be warmed */
	fprintf(stderr, "goodput: sending by %s\n", t->ops->name);
	uint64_t began = mc_now(), end = began + (uint64_t)(atof(arg[4]) * 1e9), bytes = 0, n = 0;
	while (mc_now() < end)
		bytes += one_epoch(t, s, ++n);
	double secs = (double)(mc_now() - began) / 1e9;
	printf("%s %llu bytes %.3f s %.2f MB/s\n", t->ops->name, (unsigned long long)bytes, secs,
		(double)bytes / secs / 1e6);
	transport_close(t);
	return 0;
}

int main(int argc, char **argv)
{
	/* Static: a check that fails ends the program from anywhere, and they are no leak then. */
	static struct slab_pool *pool;
	static struct slab *s[EPOCH];
	static uint8_t mem[SLAB_SIZE];
	struct mc_error err = MC_ERROR_INIT;
	check(slab_pool_new((uint64_t)EPOCH * SLAB_SIZE, NULL, &pool, &err), &err);
	for (size_t i = 0; i < SLAB_SIZE; i++)
		mem[i] = (uint8_t)(i * 2654435761u >> 13);
	for (int i = 0; i < EPOCH; i++) {
		check(slab_get(pool, &s[i], &err), &err);
		/* Ranges of 8 pages: what dirty pages of a real guest look like. */
		for (uint64_t off = 0; slab_append(s[i], 0, off, mem + off, 8 * WIRE_PAGE_SIZE);)
			off += 8 * WIRE_PAGE_SIZE;
	}
	int words = argc < 2 ? 0 : !strcmp(argv[1], "serve") ? 4 : !strcmp(argv[1], "send") ? 7 : 0;
	if (words && argc == words + 1)
		patience = strtoul(argv[words], NULL, 10);
	if (words && (argc == words || argc == words + 1)) {
		if (words == 4)
			serve(argv[2], (uint16_t)atoi(argv[3]), s[0]);
		return send_for(argv + 2, s);
	}
	fprintf(stderr, "usage: goodput serve ADDRESS PORT [PATIENCE] | "
			"send rdma|tcp LOCAL ADDRESS PORT SECONDS [PATIENCE]\n");
	return 2;
}
