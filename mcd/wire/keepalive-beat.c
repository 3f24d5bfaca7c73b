// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The real-time thread: every interval a beat to every peer, and an eye on who fell silent.
 *
 * It never waits for a peer: sends do not block (a full socket buffer means that the peer does not
 * read; the beat is skipped), connecting is the dialers' work.  It wakes at absolute times, so that
 * a late wake-up does not shift the following ones, and besides for the moment at which a silence
 * becomes suspicious, so that it is noticed then and not at the next beat.
 */
#include "mcd/wire/keepalive-private.h"

#include "common/log.h"

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
	/* The part of the stack that will be used: below this frame, on a thread's populated stack. */
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
	struct sched_param sp = { .sched_priority = r->priority };
	sched_setscheduler(0, r->policy, &sp);
	if (r->locked)
		munlock(r->locked, STACK_LOCK);
}

static void hang_up(struct ka_peer *p)
{
	close(atomic_exchange(&p->tx, -1));
	eventfd_write(p->redial, 1);
}

static void send_beat(struct ka_peer *p)
{
	struct beat b = { ++p->seq, mc_now(), p->k->cfg.interval };
	int fd = p->tx;
	if (fd < 0)
		return;
	uint8_t buf[BEAT_SIZE];
	beat_encode(buf, &b);
	ssize_t n = send(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == BEAT_SIZE || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	/* Broken, or half a beat is in the buffer and the peer could not find the next one. */
	hang_up(p);
}

/* When this peer's silence becomes suspicious. */
static uint64_t suspicious_at(const struct ka_peer *p)
{
	uint64_t heard = p->last_heard;
	return (heard ? heard : p->k->started + FIRST_CONTACT) + keepalive_limit(p);
}

static void judge(struct ka_peer *p, uint64_t now, uint64_t mercy)
{
	struct keepalive_config *cfg = &p->k->cfg;
	uint64_t heard = p->last_heard, at = suspicious_at(p);
	bool silent = at <= now;
	if (silent && !p->suspected && mercy <= now) {
		p->announced = false;
		p->suspected = true;
		if (cfg->suspect)
			cfg->suspect(cfg->ctx, p->cfg.name, heard);
	} else if (!silent && heard && !p->announced) {
		p->suspected = false;
		p->announced = true;
		if (cfg->alive)
			cfg->alive(cfg->ctx, p->cfg.name);
	}
}

static uint64_t next_look(struct keepalive *k, uint64_t next_beat, uint64_t mercy)
{
	uint64_t due = next_beat;
	for (size_t i = 0; i < k->n_peers; i++) {
		struct ka_peer *p = &k->peers[i];
		uint64_t at = suspicious_at(p);
		if (at < mercy)
			at = mercy;
		if (!p->suspected && at < due)
			due = at;
	}
	return due;
}

/* Until that time, or a poke; false = leave. */
static bool wait_until(struct keepalive *k, uint64_t due)
{
	struct itimerspec its = {
		.it_value = { (time_t)(due / MC_SEC), (long)(due % MC_SEC) },
	};
	struct pollfd p[] = {
		{ k->stop, POLLIN, 0 }, { k->poke, POLLIN, 0 }, { k->timer, POLLIN, 0 },
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
	if (r < 0)
		log_warn("keep-alives run without real-time priority (%s): a busy host may look dead to "
			 "its peers; give mcd CAP_SYS_NICE and CAP_IPC_LOCK", strerror(-r));

	uint64_t next_beat = mc_now(), mercy = 0;
	for (uint64_t due = next_beat; wait_until(k, due); due = next_look(k, next_beat, mercy)) {
		uint64_t now = mc_now();
		if (now >= next_beat) {
			for (size_t i = 0; i < k->n_peers; i++)
				send_beat(&k->peers[i]);
			next_beat += k->cfg.interval;
			if (next_beat <= now) /* no burst for what was slept through */
				next_beat = now + k->cfg.interval;
		}
		/* It was this host that stood still.  What the peers sent meanwhile waits in the
		 * sockets: the serving threads get an interval to read it before anyone is judged. */
		if (now > due + k->cfg.interval)
			mercy = now + k->cfg.interval;
		for (size_t i = 0; i < k->n_peers; i++)
			judge(&k->peers[i], now, mercy);
	}
	realtime_leave(&rt);
	return NULL;
}
