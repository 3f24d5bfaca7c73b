/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real-time thread: every interval a beat to every peer, and an eye on who fell silent.  It
 * waits for nobody, here and in whatever it calls: no lock, no malloc, no log, no callback
 * (keepalive-tell.c has those).
 *
 * It never waits for a peer: sends do not block (a full socket buffer means that the peer does not
 * read; the beat is skipped), connecting is the dialers' work.  It wakes at absolute times, so that
 * a late wake-up does not shift the following ones, and besides for the moment at which a silence
 * becomes suspicious, so that it is noticed then and not at the next beat.
 */
#include "mcd/wire/keepalive-private.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PRIORITY   10 /* above everything ordinary, below what a kernel or an admin sets high */
#define STACK_LOCK (64u << 10)

#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif

int realtime_enter(struct realtime *ret)
{
	struct sched_param sp;
	ret->policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
	ret->priority = sched_getparam(0, &sp) == 0 ? sp.sched_priority : 0;
	int r = 0;
	/* What a callback of ours starts must not inherit it. */
	sp.sched_priority = PRIORITY;
	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &sp) < 0)
		r = -errno;
	/* The part of the stack that will be used: below this frame, on a populated stack. */
	uintptr_t top = ((uintptr_t)__builtin_frame_address(0) + 4095) & ~(uintptr_t)4095;
	ret->locked = (void *)(top - STACK_LOCK);
	if (mlock(ret->locked, STACK_LOCK) < 0) {
		if (r == 0)
			r = -errno;
		ret->locked = NULL;
	}
	return r;
}

void realtime_leave(const struct realtime *r)
{
	struct sched_param sp = {.sched_priority = r->priority};
	sched_setscheduler(0, r->policy, &sp);
	if (r->locked)
		munlock(r->locked, STACK_LOCK);
}

static void hang_up(struct ka_peer *p)
{
	close(atomic_exchange(&p->tx, -1));
	eventfd_write(p->redial, 1);
}

static void send_by_tcp(struct ka_peer *p, const struct beat *b)
{
	int fd = p->tx;
	if (fd < 0)
		return;
	uint8_t buf[BEAT_SIZE];
	beat_encode(buf, b);
	ssize_t n = send(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == BEAT_SIZE || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	/* Broken, or half a beat is in the buffer and the peer could not find the next one. */
	hang_up(p);
}

static void send_by_rdma(struct ka_peer *p, const struct beat *b)
{
	uint8_t buf[SLOT_SIZE];
	if (p->sending != KA_BEATING)
		return;
	assert(p->rtx);
	p->rtx_over = (struct mc_error)MC_ERROR_INIT;
	slot_encode(buf, b, p->k->cfg.instance);
	int r = rd_check(p->rtx, &p->rtx_over);
	if (r == 0)
		r = rd_put(p->rtx, 0, buf, sizeof buf, &p->rtx_over);
	/* the latter: the peer's device is slow, and the beat is skipped */
	if (r == 0 || r == -EAGAIN)
		return;
	p->sending = KA_IDLE; /* from here on it is the dialer's */
	eventfd_write(p->redial_rdma, 1);
}

static void send_beat(struct ka_peer *p)
{
	struct beat b = {++p->seq, mc_now(), p->k->cfg.interval};
	assert(b.seq && b.time >= p->sent);
	p->sent = b.time;
	/* RDMA first: where it is used, it is the one that counts. */
	send_by_rdma(p, &b);
	send_by_tcp(p, &b);
}

/* The next thing to do: a beat, a look into the slots, a silence that becomes suspicious. */
static uint64_t next_due(struct keepalive *k, uint64_t next_beat, uint64_t mercy)
{
	uint64_t due = next_beat, look = mc_now() + k->cfg.interval / LOOKS;
	for (size_t i = 0; i < k->n_peers; i++) {
		struct ka_peer *p = &k->peers[i];
		uint64_t at = keepalive_suspicious_at(p);
		if (at < mercy)
			at = mercy;
		if (!p->suspected && at < due)
			due = at;
		if (p->slot_shown && look < due)
			due = look;
	}
	return due;
}

/* Until that time, or a poke; false = leave. */
static bool wait_until(struct keepalive *k, uint64_t due)
{
	struct itimerspec its = {
		.it_value = {(time_t)(due / MC_SEC), (long)(due % MC_SEC)},
	};
	struct pollfd p[] = {
		{k->stop, POLLIN, 0},
		{k->poke, POLLIN, 0},
		{k->timer, POLLIN, 0},
	};
	uint64_t count;
	timerfd_settime(k->timer, TFD_TIMER_ABSTIME, &its, NULL);
	poll(p, sizeof p / sizeof *p, -1);
	if (p[1].revents)
		eventfd_read(k->poke, &count);
	return !p[0].revents;
}

void *keepalive_beat_thread(void *arg)
{
	struct keepalive *k = arg;
	struct realtime rt;
	int r = realtime_enter(&rt);
	if (r < 0) {
		k->not_realtime = -r;
		eventfd_write(k->news, 1);
	}

	uint64_t next_beat = mc_now(), mercy = 0;
	for (uint64_t due = next_beat; wait_until(k, due); due = next_due(k, next_beat, mercy)) {
		uint64_t now = mc_now();
		if (now >= next_beat) {
			for (size_t i = 0; i < k->n_peers; i++)
				send_beat(&k->peers[i]);
			next_beat += k->cfg.interval;
			if (next_beat <= now) /* no burst for what was slept through */
				next_beat = now + k->cfg.interval;
			assert(next_beat > now);
		}
		/* It was this host that stood still.  What the peers sent meanwhile waits in the
		 * sockets: the serving threads get an interval to read it before a judgement. */
		if (now > due + k->cfg.interval)
			mercy = now + k->cfg.interval;
		/* What lies in the slots came while we slept: first read, then judged. */
		for (size_t i = 0; i < k->n_peers; i++) {
			keepalive_look(&k->peers[i], now);
			keepalive_judge(&k->peers[i], now, mercy);
		}
	}
	realtime_leave(&rt);
	return NULL;
}
