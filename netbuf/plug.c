/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plug backend: the kernel's plug qdisc holds the frames.  See plug-internal.h for the files
 * and the counting, netbuf/README.md for the picture and the invariants.
 *
 * The kernel keeps one closed epoch only: a second BUFFER before the release would forget how many
 * frames it has, and later let out frames of an epoch that is not released.  So a second barrier
 * before the release is refused here and never said.
 */
#include "netbuf/plug-internal.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "netbuf/iface.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* that a release waits for its frames to leave, as long as they do */
#define DRAIN   MC_SEC
#define TRIES   10              /* to find the frames that leave standing */
#define STALLED (500 * MC_MSEC) /* without a frame leaving */

static struct plug *plug_of(struct netbuf *nb)
{
	return (struct plug *)nb;
}

static int say(struct plug *p, enum plug_action what, struct mc_error *err)
{
	return plug_act(p->sk, p->ifindex, p->handle, what, err);
}

/* It is 0 in a plug that was mended. */
static int set_limit(struct plug *p, struct mc_error *err)
{
	return plug_set_limit(p->sk, p->ifindex, p->handle, p->limit, err);
}

static int gone(struct plug *p, uint64_t *ret, struct mc_error *err)
{
	struct plug_counters c;
	int r = plug_get_counters(p->ask, p->ifindex, &c, err);
	if (r == 0)
		*ret = c.rx_frames;
	return r;
}

static int look(struct plug *p, struct plug_queue *ret, struct mc_error *err)
{
	int r = plug_get_queue(p->ask, p->ifindex, ret, err);
	if (r < 0)
		return r;
	if (!ret->is_plug || ret->handle != p->handle)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
			"somebody replaced the qdisc of %s, which holds the VM's output",
			p->ifname);
	uint64_t memory = plug_memory(ret);
	if (memory > p->held_max)
		p->held_max = memory;
	return 0;
}

static int check_unbroken(struct plug *p, struct mc_error *err)
{
	plug_watch_see(p); /* its thread may be late */
	return p->broken[0] ? mc_error_set(err, -EIO, MC_ECLASS_FAILED, "%s", p->broken) : 0;
}

/* Until all that was released has left the plug, as long as it moves. -EAGAIN after `patience`. */
static int wait_gone(struct plug *p, uint64_t patience, struct mc_error *err)
{
	uint64_t now = mc_now(), end = now + patience, seen = 0, moved = now;
	for (unsigned nap = 20;; nap = nap < 1000 ? nap * 2 : nap) {
		uint64_t n = 0;
		int r = gone(p, &n, err);
		if (r < 0)
			return r;
		if (n >= p->due) {
			p->drained = true;
			p->left = n;
			return 0;
		}
		now = mc_now();
		if (n != seen)
			moved = now;
		seen = n;
		if (now >= end)
			return -EAGAIN;
		if (now - moved > STALLED)
			return mc_error_set(err, -EBUSY, MC_ECLASS_FAILED,
				"released output does not leave %s: is it up, and its CPU alive?",
				p->ifname);
		usleep(nap);
	}
}

/* The same for all that is there, in a plug that is open.  Best effort. */
static void wait_empty(struct plug *p)
{
	uint64_t end = mc_now() + 100 * MC_MSEC;
	struct plug_queue q;
	struct plug_counters c;
	while (plug_get_queue(p->ask, p->ifindex, &q, NULL) == 0 &&
		plug_get_counters(p->ask, p->ifindex, &c, NULL) == 0 &&
		(q.frames || c.tx_frames != c.rx_frames) && mc_now() < end)
		usleep(100);
}

static void forget_epochs(struct plug *p)
{
	p->closed = false;
	p->due = 0;
	p->drained = false;
	p->pressed = false;
}

/* From OPEN.  The guest's frames pass meanwhile unless it is stopped: those that are on their way
 * through the queue at this moment are in none of the kernel's counts, and must be out of it. */
static int close_the_gate(struct plug *p, struct mc_error *err)
{
	struct plug_queue q;
	int r;
	for (unsigned i = 0; i < 50; i++) {
		wait_empty(p);
		/* Open it is, so this lets out nothing; it sets the counts to 0, one of which a
		 * frame that was leaving while the plug was opened may have spoilt. */
		if ((r = say(p, PLUG_RELEASE_ALL, err)) < 0 || (r = say(p, PLUG_BUFFER, err)) < 0 ||
			(r = look(p, &q, err)) < 0)
			return r;
		if (!q.frames)
			return 0;
		if ((r = say(p, PLUG_RELEASE_ALL, err)) < 0)
			return r;
		usleep(100 * i);
	}
	return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
		"the guest sends without a gap, so the hold cannot begin: stop it for a moment");
}

static int plug_hold(struct netbuf *nb, uint64_t first, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	pthread_mutex_lock(&p->lock);
	assert(p->state != NETBUF_HOLDING);
	int r = plug_fit(p, true, err);
	p->announce_round = 0;
	if (r == 0 && p->state == NETBUF_OPEN) {
		r = set_limit(p, err);
		if (r == 0)
			r = close_the_gate(p, err);
	} else if (r == 0)
		/* What was sent while it was closed never happened. */
		r = plug_renew(p, p->limit, p->adopted, err);
	if (r == 0 && p->state == NETBUF_CLOSED)
		r = plug_set_taps(p, true, err);
	if (r == 0) {
		forget_epochs(p);
		p->state = NETBUF_HOLDING;
		p->adopted = false;
	}
	pthread_mutex_unlock(&p->lock);
	if (r == 0)
		plug_watch_wake(p);
	return r;
}

static int barrier(struct plug *p, struct plug_queue *q, uint64_t epoch, struct mc_error *err)
{
	assert(p->state == NETBUF_HOLDING);
	int r = check_unbroken(p, err);
	if (r < 0)
		return r;
	if (p->closed)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"cannot end epoch %llu: the one before is not released, and the kernel's "
			"plug can keep only one",
			(unsigned long long)epoch);
	uint64_t before = 0, after = p->left;
	if ((r = look(p, q, err)) < 0)
		return r;
	if (!q->frames) {
		/* Every frame since the last barrier would still be here. */
		p->closed = p->closed_empty = true;
		p->pressed = false;
		return 0;
	}
	/* What is here belongs to this epoch, or to released ones and is leaving. */
	for (unsigned i = 0; !p->drained; i++) {
		if ((r = gone(p, &before, err)) < 0 || (r = look(p, q, err)) < 0 ||
			(r = gone(p, &after, err)) < 0)
			return r;
		if (before == after)
			break;
		/* a guess would let the next release wait for frames that never were */
		if (i == TRIES)
			return mc_error_set(err, -EBUSY, MC_ECLASS_FAILED,
				"released output is still leaving %s after %d ms: is its CPU "
				"overloaded?",
				p->ifname, (int)(DRAIN / MC_MSEC));
	}
	/* A second BUFFER would make the kernel forget what it is to let out. */
	assert(!p->closed);
	if ((r = say(p, PLUG_BUFFER, err)) < 0)
		return r;
	p->closed_end = after + q->frames;
	p->closed = true;
	p->closed_empty = false;
	p->pressed = false;
	return 0;
}

static int plug_barrier(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	struct plug_queue q;
	pthread_mutex_lock(&p->lock);
	int r = barrier(p, &q, epoch, err);
	bool press = r == 0 && plug_pressing(p, &q);
	pthread_mutex_unlock(&p->lock);
	if (press && p->pressure)
		p->pressure(p->ctx);
	return r;
}

static int release(struct plug *p, struct mc_error *err)
{
	assert(p->state == NETBUF_HOLDING);
	int r = check_unbroken(p, err);
	if (r < 0 || !p->closed)
		return r;
	if (!p->closed_empty) {
		r = wait_gone(p, UINT64_MAX / 2, err);
		/* While released frames leave, one more would be counted with them. */
		assert(r < 0 || (p->closed && p->drained && p->left >= p->due));
		if (r == 0)
			r = say(p, PLUG_RELEASE_ONE, err);
		if (r < 0)
			return r;
		p->due = p->closed_end;
		p->drained = false;
	}
	p->closed = false;
	/* Here and not in the barrier, which is in the pause, and which can count only what
	 * stands. */
	r = wait_gone(p, DRAIN, err);
	return r == -EAGAIN ? 0 : r;
}

static int plug_release(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	pthread_mutex_lock(&p->lock);
	assert(epoch < nb->running);
	/* An epoch before the closed one was released already. */
	int r = epoch + 1 < nb->running ? 0 : release(p, err);
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int plug_pass(struct netbuf *nb, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	pthread_mutex_lock(&p->lock);
	int r = plug_fit(p, false, err);
	if (r == 0 && p->state == NETBUF_CLOSED && !p->adopted)
		r = plug_renew(p, p->limit, false, err);
	else if (r == 0)
		r = set_limit(p, err);
	if (r == 0 && p->state == NETBUF_CLOSED)
		r = plug_set_taps(p, true, err);
	if (r == 0)
		r = say(p, PLUG_RELEASE_ALL, err);
	if (r == 0) {
		forget_epochs(p);
		p->state = NETBUF_OPEN;
		p->adopted = false;
		/* A guest that has ended has its last words out when this returns. */
		wait_empty(p);
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int plug_shut(struct netbuf *nb, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	struct mc_error ignored = MC_ERROR_INIT;
	pthread_mutex_lock(&p->lock);
	p->announce_round = 0;
	/* The limit of 0 keeps out what a tap might let through that is going down. */
	int r = plug_renew(p, 0, p->state != NETBUF_CLOSED || p->adopted, err);
	int taps = plug_set_taps(p, false, r < 0 ? &ignored : err);
	if (r == 0)
		r = taps;
	if (r == 0) {
		forget_epochs(p);
		p->state = NETBUF_CLOSED;
		p->adopted = false;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

static int plug_start_announce(struct netbuf *nb, struct mc_error *err)
{
	struct plug *p = plug_of(nb);
	pthread_mutex_lock(&p->lock);
	p->announce_round = 0;
	if (p->state == NETBUF_OPEN)
		plug_announce(p);
	pthread_mutex_unlock(&p->lock);
	plug_watch_wake(p);
	return 0;
}

static int plug_guest_fd(struct netbuf *nb, size_t i)
{
	return plug_of(nb)->nics[i].tap;
}

static void plug_free(struct plug *p)
{
	for (size_t i = 0; i < p->n_nics; i++)
		mc_closep(&p->nics[i].tap);
	nl_socket_free(p->sk);
	nl_socket_free(p->ask);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void plug_close(struct netbuf *nb)
{
	struct plug *p = plug_of(nb);
	plug_watch_stop(p);
	/* Before the ifb: should a QEMU be left, its tap must lead nowhere.  (It would not anyway:
	 * what is redirected to an interface that is gone is dropped.) */
	if (p->sk)
		plug_set_taps(p, false, NULL);
	if (p->ifindex)
		plug_delete_ifb(p->sk, p->ifname);
	plug_free(p);
}

static void plug_leave(struct netbuf *nb)
{
	struct plug *p = plug_of(nb);
	plug_watch_stop(p);
	plug_free(p);
}

static int plug_open(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err)
{
	struct plug *p = calloc(1, sizeof *p);
	if (!p)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	pthread_mutex_init(&p->lock, NULL);
	p->nb.ops = &netbuf_plug_ops;
	p->wake = -1;
	snprintf(p->vm, sizeof p->vm, "%s", cfg->vm);
	plug_ifname(cfg->vm, p->ifname);
	p->memory_limit = cfg->limit;
	p->limit = cfg->limit < INT32_MAX ? (uint32_t)cfg->limit : INT32_MAX;
	p->pressure = cfg->pressure;
	p->ctx = cfg->ctx;
	p->n_nics = cfg->n_nics;
	for (size_t i = 0; i < p->n_nics; i++) {
		struct plug_nic *n = &p->nics[i];
		n->tap = -1;
		memcpy(n->mac, cfg->nics[i].mac, 6);
		memcpy(n->bridge, cfg->nics[i].bridge, sizeof n->bridge);
	}
	int r = iface_netlink_open(&p->sk, err);
	if (r == 0)
		r = plug_ask_open(&p->ask, err);
	if (r == 0)
		r = guest_fds ? plug_take(p, cfg, guest_fds, err) : plug_make(p, cfg, err);
	if (r == 0)
		r = plug_watch_start(p, err);
	if (r < 0) {
		if (guest_fds)
			plug_leave(&p->nb); /* the guest lives: what holds its output stays */
		else
			plug_close(&p->nb);
		return r;
	}
	*ret = &p->nb;
	return 0;
}

const struct netbuf_ops netbuf_plug_ops = {
	.name = "plug",
	.probe = plug_probe,
	.open = plug_open,
	.guest_fd = plug_guest_fd,
	.hold = plug_hold,
	.barrier = plug_barrier,
	.release = plug_release,
	.pass = plug_pass,
	.shut = plug_shut,
	.announce = plug_start_announce,
	.get_stats = plug_get_stats,
	.leave = plug_leave,
	.close = plug_close,
};
