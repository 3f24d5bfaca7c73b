/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * corosync: one thread talks to it.  It feeds the callbacks of libquorum and libcpg to the view
 * (cluster-view.h), announces our VMs to the CPG group "mcd" and takes in what the others announce,
 * and connects again for as long as mcd lives.  The voters are those of the node list at the start:
 * a vote counted with two lists would be no majority of either.
 *
 * corosync's libraries wait without limit for a daemon that is stopped (SIGSTOP).  So nobody but
 * this thread calls them, nobody waits for this thread for long, and while it hangs the gate is
 * closed, because it is not seen.
 */
#include "failover/cluster-corosync.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define OPEN_WAIT    (5 * MC_SEC) /* for corosync at the start, while it may be coming up itself */
#define CLOSE_WAIT   (2 * MC_SEC)
#define TICK         (200 * MC_MSEC)
#define ANNOUNCE_GAP (20 * MC_MSEC) /* changes that come in a burst are told once */

static void ring_bell(struct corosync *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->bell, &one, sizeof one);
	(void)n;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void wait_for_something(struct corosync *s)
{
	struct pollfd p[4] = {{.fd = s->bell, .events = POLLIN}};
	nfds_t n = 1;
	if (s->has_cpg) {
		for (int i = 1; i < 4; i++)
			p[i] = (struct pollfd){.fd = -1, .events = POLLIN};
		cpg_fd_get(s->cpg, &p[1].fd);
		quorum_fd_get(s->quorum, &p[2].fd);
		cmap_fd_get(s->cmap, &p[3].fd);
		n = 4;
	}
	uint64_t until = mc_now() + TICK;
	if (s->has_cpg && s->told && s->announce_at && s->announce_at < until)
		until = s->announce_at;
	poll(p, n, mc_ms_left(until));
	if (p[0].revents) {
		uint64_t v;
		ssize_t got = read(s->bell, &v, sizeof v);
		(void)got;
		if (!s->announce_at)
			s->announce_at = mc_now() + ANNOUNCE_GAP;
	}
}

/* Before the callbacks that waited while we slept: they are about what others did meanwhile. */
static void notice_stall(struct corosync *s)
{
	struct cluster *c = s->c;
	uint64_t now = mc_now();
	pthread_mutex_lock(&c->lock);
	uint64_t asleep = now - c->seen_at;
	bool stalled = c->view.connected && asleep > c->stall_limit;
	if (stalled) {
		cluster_view_stall(&c->view);
		s->calm_at = now + s->detect;
	}
	c->seen_at = now;
	pthread_mutex_unlock(&c->lock);
	if (stalled)
		log_warn("this host stood still for %.1f s: no votes until corosync has confirmed "
			 "the quorum",
			(double)asleep / 1e9);
}

static void calm_down(struct corosync *s)
{
	if (!s->calm_at || mc_now() < s->calm_at)
		return;
	pthread_mutex_lock(&s->c->lock);
	bool calm = cluster_view_calm(&s->c->view);
	pthread_mutex_unlock(&s->c->lock);
	s->calm_at = calm || !s->has_cpg ? 0 : mc_now() + TICK;
	if (s->has_cmap)
		corosync_compare_nodelist(s);
}

static void tell_gate(struct corosync *s)
{
	struct cluster *c = s->c;
	pthread_mutex_lock(&c->lock);
	bool open = cluster_now(c) == CLUSTER_OPEN;
	pthread_mutex_unlock(&c->lock);
	if (s->told && s->told_open == open)
		return;
	char why[200];
	cluster_describe(c, why, sizeof why);
	s->told = true;
	s->told_open = open;
	if (c->cfg.gate)
		c->cfg.gate(c->cfg.ctx, open, why);
}

static void *run(void *arg)
{
	struct corosync *s = arg;
	struct cluster *c = s->c;
	struct mc_error err = MC_ERROR_INIT;
	bool patient = !strcmp(c->cfg.mode, "corosync"), quit = false;
	uint64_t until = mc_now() + OPEN_WAIT;
	int r;
	while ((r = corosync_first_contact(s, &err)) == -EHOSTDOWN && patient && mc_now() < until &&
		!quit) {
		corosync_disconnect(s);
		struct pollfd p = {.fd = s->bell, .events = POLLIN};
		poll(&p, 1, 100);
		pthread_mutex_lock(&c->lock);
		quit = s->quit;
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_lock(&c->lock);
	s->open_result = r;
	s->open_error = err;
	s->tried = true;
	pthread_cond_broadcast(&s->cond);
	quit = s->quit || r < 0;
	pthread_mutex_unlock(&c->lock);
	while (!quit) {
		if (!s->has_cpg)
			corosync_try_connect(s);
		wait_for_something(s);
		notice_stall(s);
		corosync_dispatch(s);
		calm_down(s);
		pthread_mutex_lock(&c->lock);
		quit = s->quit;
		bool started = s->started;
		pthread_mutex_unlock(&c->lock);
		if (started && !quit) {
			corosync_announce(s);
			tell_gate(s);
		}
	}
	corosync_disconnect(s);
	pthread_mutex_lock(&c->lock);
	s->ended = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* --- the backend ------------------------------------------------------------------------------ */

/* False: it did not come by the deadline. */
static bool wait_flag(struct corosync *s, const bool *flag, uint64_t deadline)
{
	struct timespec ts = mc_timespec(deadline);
	pthread_mutex_lock(&s->c->lock);
	while (!*flag && mc_now() < deadline)
		pthread_cond_timedwait(&s->cond, &s->c->lock, &ts);
	bool come = *flag;
	pthread_mutex_unlock(&s->c->lock);
	return come;
}

static void corosync_shutdown(struct cluster *c)
{
	struct corosync *s = c->backend;
	pthread_mutex_lock(&c->lock);
	s->quit = true;
	c->view.connected = false;
	pthread_mutex_unlock(&c->lock);
	ring_bell(s);
	if (!wait_flag(s, &s->ended, mc_now() + CLOSE_WAIT) && !c->abandoned) {
		log_warn(
			"corosync does not answer while mcd ends: its connection is left as it is");
		c->abandoned = true;
	}
}

static void corosync_close(struct cluster *c)
{
	struct corosync *s = c->backend;
	if (c->abandoned) { /* the thread may still come back into both */
		pthread_detach(s->thread);
		return;
	}
	pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->cond);
	close(s->bell);
	free(s);
}

static int corosync_open(struct cluster *c, struct mc_error *err)
{
	struct corosync *s = calloc(1, sizeof *s);
	if (!s)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	s->c = c;
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	mc_cond_init(&s->cond);
	c->backend = s;
	c->view = (struct cluster_view){.managed = true};
	int r = s->bell < 0 ? -errno : mc_thread_start(&s->thread, "corosync", run, s);
	if (r < 0) {
		mc_error_set(err, r, MC_ECLASS_FAILED, "cannot start the thread for corosync: %s",
			strerror(-r));
		if (s->bell >= 0)
			close(s->bell);
		pthread_cond_destroy(&s->cond);
		free(s);
		return r;
	}
	if (!wait_flag(s, &s->tried, mc_now() + OPEN_WAIT + MC_SEC))
		r = mc_error_set(err, -ETIMEDOUT, MC_ECLASS_UNREACHABLE,
			"corosync takes connections but does not answer: is it stopped?");
	else if ((r = s->open_result) < 0)
		*err = s->open_error;
	if (r < 0) {
		if (!strcmp(c->cfg.mode, "corosync"))
			mc_error_wrap(err, "cluster = corosync cannot be used (start corosync, or "
					   "write cluster = static)");
		corosync_shutdown(c);
		corosync_close(c);
	}
	return r;
}

static void corosync_start(struct cluster *c)
{
	struct corosync *s = c->backend;
	pthread_mutex_lock(&c->lock);
	s->started = true;
	pthread_mutex_unlock(&c->lock);
	ring_bell(s);
}

static void corosync_poke(struct cluster *c)
{
	ring_bell(c->backend);
}

static const struct cluster_ops ops = {
	.name = "corosync",
	.open = corosync_open,
	.start = corosync_start,
	.poke = corosync_poke,
	.shutdown = corosync_shutdown,
	.close = corosync_close,
};
const struct cluster_ops *const cluster_corosync_ops = &ops;
