/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/wire/keepalive-hosts.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const struct link_key hosts_key = {32, "a key for the tests, of 32 bytes"};

struct serving {
	struct host *h;
	int fd;
};

static void *serve(void *arg)
{
	struct serving s = *(struct serving *)arg;
	struct link_peer peer;
	free(arg);
	struct link_self self = {s.h->name, &hosts_key, 1000 + (uint64_t)s.h->index, NULL};
	if (link_accept(s.fd, &self, mc_now() + MC_SEC, &peer, NULL) == 0)
		keepalive_serve(s.h->k, s.fd, &peer);
	shutdown(s.fd, SHUT_RDWR);
	return NULL;
}

static void *accept_loop(void *arg)
{
	struct host *h = arg;
	while (!h->leaving) {
		struct pollfd p = {h->listener, POLLIN, 0};
		if (poll(&p, 1, 10) <= 0)
			continue;
		struct serving *s = malloc(sizeof *s);
		*s = (struct serving){h, accept4(h->listener, NULL, NULL, SOCK_CLOEXEC)};
		assert_true(s->fd >= 0 && h->n_conns < 32);
		h->conns[h->n_conns] = s->fd;
		pthread_create(&h->servers[h->n_conns++], NULL, serve, s);
	}
	return NULL;
}

static void note(struct host *h, const char *peer, bool alive, uint64_t last_heard)
{
	struct event e = {.alive = alive, .at = mc_now(), .last_heard = last_heard};
	strcpy(e.peer, peer);
	pthread_mutex_lock(&h->lock);
	if (h->n_events < 64)
		h->events[h->n_events++] = e;
	pthread_mutex_unlock(&h->lock);
}

static void on_suspect(void *ctx, const char *peer, uint64_t last_heard)
{
	note(ctx, peer, false, last_heard);
}

static void on_alive(void *ctx, const char *peer)
{
	note(ctx, peer, true, 0);
}

struct event wait_event(
	struct host *h, const char *peer, bool alive, unsigned nth, uint64_t deadline)
{
	for (;;) {
		unsigned seen = 0;
		pthread_mutex_lock(&h->lock);
		for (size_t i = 0; i < h->n_events; i++) {
			struct event e = h->events[i];
			if (e.alive == alive && !strcmp(e.peer, peer) && ++seen == nth) {
				pthread_mutex_unlock(&h->lock);
				return e;
			}
		}
		pthread_mutex_unlock(&h->lock);
		if (mc_now() > deadline)
			fail_msg("%s: no %s of %s", h->name, alive ? "return" : "suspicion", peer);
		poll(NULL, 0, 1);
	}
}

size_t count_events(struct host *h, const char *peer, bool alive)
{
	size_t n = 0;
	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < h->n_events; i++)
		n += h->events[i].alive == alive && !strcmp(h->events[i].peer, peer);
	pthread_mutex_unlock(&h->lock);
	return n;
}

void host_up(struct host *h, int i, int n)
{
	struct keepalive_peer peers[HOSTS];
	size_t n_peers = 0;
	memset(h, 0, sizeof *h);
	h->index = i;
	pthread_mutex_init(&h->lock, NULL);
	snprintf(h->name, sizeof h->name, "host%d", i);
	snprintf(h->address, sizeof h->address, "127.0.0.%d", i + 1);
	h->listener = link_listen(h->address, PORT, NULL);
	assert_true(h->listener >= 0);
	for (int j = 0; j < n; j++)
		if (j != i) {
			struct keepalive_peer *p = &peers[n_peers++];
			snprintf(p->name, sizeof p->name, "host%d", j);
			snprintf(p->address, sizeof p->address, "127.0.0.%d", j + 1);
			p->port = PORT;
		}
	const struct keepalive_config cfg = {
		.self = h->name,
		.local_address = h->address,
		.key = &hosts_key,
		.instance = 1000 + (uint64_t)i,
		.interval = INTERVAL,
		.misses = MISSES,
		.peers = peers,
		.n_peers = n_peers,
		.suspect = on_suspect,
		.alive = on_alive,
		.ctx = h,
	};
	struct mc_error err = MC_ERROR_INIT;
	if (keepalive_new(&cfg, &h->k, &err) != 0)
		fail_msg("%s", err.msg);
	memset(peers, 0xff, sizeof peers); /* keepalive_new has taken its copy */
	pthread_create(&h->acceptor, NULL, accept_loop, h);
}

void host_down(struct host *h)
{
	h->leaving = true;
	pthread_join(h->acceptor, NULL);
	close(h->listener);
	keepalive_free(h->k);
	for (size_t i = 0; i < h->n_conns; i++) {
		shutdown(h->conns[i], SHUT_RDWR);
		pthread_join(h->servers[i], NULL);
		close(h->conns[i]);
	}
	pthread_mutex_destroy(&h->lock);
}

uint64_t soon(void)
{
	return mc_now() + 10 * MC_SEC;
}

void assert_suspected_in_time(const struct event *e)
{
	uint64_t took = e->at - e->last_heard;
	assert_true(took >= LIMIT);
	if (took > LIMIT + 3 * INTERVAL / 2)
		fail_msg("suspected only after %.1f ms", (double)took / 1e6);
}
