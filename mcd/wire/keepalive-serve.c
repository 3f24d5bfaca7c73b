/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The receiving end of one peer's beats: reads them, and notes when. */
#include "mcd/wire/keepalive-private.h"

#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

/* A connection without a beat for so long is dead, whatever TCP thinks: the peer makes another. */
#define IDLE_MIN (10 * MC_SEC)

static void hear(struct ka_peer *p, const struct beat *b, uint64_t *last)
{
	uint64_t now = mc_now();
	assert(now >= *last);
	keepalive_hear(p, KA_TCP, now, *last, b->interval, 0);
	*last = now;
	if (p->suspected || !p->announced)
		eventfd_write(p->k->poke, 1);
}

static void listen_to(struct ka_peer *p, int fd, uint32_t connection)
{
	struct keepalive *k = p->k;
	struct beat b = {0};
	uint64_t last = 0, idle = 4 * keepalive_limit(p);
	if (idle < IDLE_MIN)
		idle = IDLE_MIN;
	for (;;) {
		uint8_t buf[BEAT_SIZE];
		struct mc_error err = MC_ERROR_INIT;
		int r = link_read(fd, buf, sizeof buf, mc_now() + idle, k->stop);
		if (r < 0) {
			log_debug("no more keep-alives from %s on this connection: %s", p->cfg.name,
				r == -EINTR ? "leaving" : strerror(-r));
			return;
		}
		if (p->connection != connection)
			return;
		bool first = !b.seq;
		r = beat_decode(buf, &b, &b, &err);
		if (r < 0) {
			log_warn("the keep-alive connection of %s is closed: %s", p->cfg.name,
				err.msg);
			return;
		}
		if (first && b.interval != k->cfg.interval)
			log_warn("%s sends keep-alives every %.0f ms, this host every %.0f ms; use "
				 "the same keep-alive on all hosts",
				p->cfg.name, (double)b.interval / 1e6,
				(double)k->cfg.interval / 1e6);
		hear(p, &b, &last);
	}
}

static void serve_tcp(struct ka_peer *p, int fd, const struct link_peer *peer)
{
	uint32_t connection = ++p->connection;
	p->instance = peer->instance;
	/* It lives: no need to wait out a pause between two attempts to connect to it. */
	eventfd_write(p->redial, 1);
	eventfd_write(p->redial_rdma, 1);
	struct realtime rt;
	int r = realtime_enter(&rt);
	if (r < 0)
		log_debug("keep-alives are read without real-time priority: %s", strerror(-r));
	listen_to(p, fd, connection);
	realtime_leave(&rt);
}

void keepalive_serve(struct keepalive *k, int fd, const struct link_peer *peer)
{
	struct ka_peer *p = keepalive_find(k, peer->name);
	if (!p) {
		log_warn("keep-alives of %s are not wanted here: it is not in the configuration",
			peer->name);
		return;
	}
	pthread_mutex_lock(&k->lock);
	k->serving++;
	pthread_mutex_unlock(&k->lock);

	if (peer->offers_rdma)
		keepalive_serve_rdma(p, fd, peer);
	else
		serve_tcp(p, fd, peer);

	pthread_mutex_lock(&k->lock);
	assert(k->serving);
	if (!--k->serving)
		pthread_cond_broadcast(&k->idle);
	pthread_mutex_unlock(&k->lock);
}
