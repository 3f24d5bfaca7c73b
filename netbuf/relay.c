/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The relay backend: mcd itself carries the frames between the guest's tap and the bridge's, and
 * keeps the guest's in a queue until their epoch is released.  See relay-internal.h for threads,
 * locks and memory, relay-io.c for the moving, tap.h for the interfaces.
 *
 * Nothing passes by itself: the guest's tap leads nowhere else, so a relay that is stuck, stopped
 * or dead holds everything.
 */
#include "netbuf/relay-internal.h"

#include "common/cleanup.h"
#include "common/thread.h"
#include "netbuf/tap.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <linux/if_packet.h>

static struct relay *relay_of(struct netbuf *nb)
{
	return (struct relay *)nb;
}

static int relay_probe(struct mc_error *err)
{
	/* By doing it, in a namespace that is gone afterwards. */
	_cleanup_close_ int tap = -1, sock = -1, again = -1;
	int r = tap_open_guest(&tap, &sock, err);
	if (r < 0)
		return r;
	return tap_adopt_guest(tap, &again, err);
}

static void relay_set_input(struct relay *r, bool open)
{
	pthread_mutex_lock(&r->in_lock);
	r->in_open = open;
	pthread_mutex_unlock(&r->in_lock);
}

static int relay_hold(struct netbuf *nb, uint64_t first, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_lock(r);
	/* By the old rules first: what a closed netbuf was sent is dropped, not kept.  A guest that
	 * sends on makes this end early, and what is left is held: never the unsafe way round. */
	relay_drain(r);
	assert(r->state != NETBUF_HOLDING);
	r->state = NETBUF_HOLDING;
	r->epoch = first;
	r->mark = first;
	r->pressed = false;
	relay_unlock(r);
	relay_set_input(r, true);
	return 0;
}

static int relay_barrier(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_lock(r);
	assert(r->state == NETBUF_HOLDING && r->epoch == epoch);
	/* The guest's tap hands frames to the socket within the write(2) that sends them, so with
	 * QEMU stopped the sockets hold all that is missing. */
	int ret = relay_drain(r);
	if (ret >= 0) {
		r->epoch = epoch + 1;
		/* If the held output is large already, the new epoch hears of it at once: at the
		 * limit nothing would be read and so nobody else would say it. */
		r->pressed = false;
	}
	relay_unlock(r);
	if (ret == -EBUSY)
		return mc_error_set(err, ret, MC_ECLASS_STATE,
			"the guest goes on sending during the barrier of epoch %llu: it was not "
			"stopped",
			(unsigned long long)epoch);
	if (ret < 0)
		return mc_error_set(err, ret, MC_ECLASS_FAILED,
			"cannot read the guest's output: %s", strerror(-ret));
	return 0;
}

static int relay_release(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_lock(r);
	/* Only what has its barrier, so never the running epoch: the mark stays at or below it. */
	assert(r->state == NETBUF_HOLDING && epoch < r->epoch);
	if (r->mark <= epoch)
		r->mark = epoch + 1;
	assert(r->mark <= r->epoch);
	relay_flush(r);
	relay_unlock(r);
	return 0;
}

static int relay_pass(struct netbuf *nb, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_lock(r);
	relay_drain(r);
	queue_set_free(&r->q);
	assert(r->q.newest == QUEUE_FREE_TO_GO);
	r->state = NETBUF_OPEN;
	r->epoch = QUEUE_FREE_TO_GO;
	r->mark = UINT64_MAX;
	relay_flush(r);
	relay_unlock(r);
	relay_set_input(r, true);
	return 0;
}

static int relay_shut(struct netbuf *nb, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_set_input(r, false);
	relay_lock(r);
	r->state = NETBUF_CLOSED;
	r->mark = 0;
	r->announce_round = 0;
	r->dropped += queue_clear(&r->q);
	relay_flush(r); /* only to stop waiting for a blocked tap */
	relay_drain(r);
	relay_unlock(r);
	return 0;
}

static int relay_start_announce(struct netbuf *nb, struct mc_error *err)
{
	struct relay *r = relay_of(nb);
	relay_lock(r);
	r->announce_round = 0;
	relay_announce(r);
	relay_unlock(r);
	relay_wake(r->out_wake); /* so that the thread sees when the next one is due */
	return 0;
}

static int relay_guest_fd(struct netbuf *nb, size_t i)
{
	return relay_of(nb)->nics[i].guest;
}

static void relay_get_stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	struct relay *r = relay_of(nb);
	for (size_t i = 0; i < r->n_nics; i++) {
		struct tpacket_stats st = {0};
		socklen_t len = sizeof st;
		/* Reading resets them; that makes adding up right whoever reads. */
		if (!getsockopt(r->nics[i].sock, SOL_PACKET, PACKET_STATISTICS, &st, &len))
			r->lost += st.tp_drops;
	}
	*ret = (struct netbuf_stats){
		.backend = nb->ops->name,
		.held_bytes = r->held_bytes,
		.held_frames = r->held_frames,
		.held_bytes_max = r->held_max,
		.released_frames = r->released_frames,
		.released_bytes = r->released_bytes,
		.input_frames = r->input_frames,
		.input_bytes = r->input_bytes,
		.dropped_frames = r->dropped,
		.lost_frames = r->lost,
	};
}

static void relay_close(struct netbuf *nb)
{
	struct relay *r = relay_of(nb);
	r->stop = true;
	if (r->out_started) {
		relay_wake(r->out_wake);
		pthread_join(r->out_thread, NULL);
	}
	if (r->in_started) {
		relay_wake(r->in_wake);
		pthread_join(r->in_thread, NULL);
	}
	for (size_t i = 0; i < r->n_nics; i++) {
		mc_closep(&r->nics[i].sock);
		mc_closep(&r->nics[i].guest);
		mc_closep(&r->nics[i].tap);
	}
	mc_closep(&r->out_epoll);
	mc_closep(&r->in_epoll);
	mc_closep(&r->out_wake);
	mc_closep(&r->in_wake);
	queue_destroy(&r->q);
	free(r->out);
	free(r->in);
	pthread_mutex_destroy(&r->out_lock);
	pthread_mutex_destroy(&r->in_lock);
	free(r);
}

static int open_nic(struct relay *r, size_t i, const struct netbuf_config *cfg, int guest_fd,
	struct mc_error *err)
{
	const struct netbuf_nic *nic = &cfg->nics[i];
	struct relay_nic *n = &r->nics[i];
	int ret;
	memcpy(n->mac, nic->mac, 6);
	tap_ifname(cfg->vm, nic->id, n->ifname);
	if (guest_fd < 0) {
		ret = tap_open_guest(&n->guest, &n->sock, err);
	} else {
		n->guest = fcntl(guest_fd, F_DUPFD_CLOEXEC, 3);
		if (n->guest < 0)
			return mc_error_set(err, -errno, MC_ECLASS_FAILED,
				"cannot keep QEMU's tap of NIC %s: %m", nic->id);
		ret = tap_adopt_guest(n->guest, &n->sock, err);
	}
	if (ret < 0)
		return ret;
	ret = tap_open_bridge(n->ifname, nic->bridge, nic->mac, &n->tap, err);
	if (ret < 0)
		return ret;
	ret = relay_watch(r->out_epoll, n->sock, EPOLLIN, (uint32_t)i);
	if (ret >= 0)
		ret = relay_watch(r->in_epoll, n->tap, EPOLLIN, (uint32_t)i);
	if (ret < 0)
		return mc_error_set(
			err, ret, MC_ECLASS_FAILED, "cannot watch a tap: %s", strerror(-ret));
	return 0;
}

static int start_threads(struct relay *r, struct mc_error *err)
{
	int ret = mc_thread_start(&r->out_thread, "netbuf-out", relay_out_main, r);
	r->out_started = ret == 0;
	if (ret == 0) {
		ret = mc_thread_start(&r->in_thread, "netbuf-in", relay_in_main, r);
		r->in_started = ret == 0;
	}
	if (ret < 0)
		return mc_error_set(err, ret, MC_ECLASS_MEMORY,
			"cannot start the relay's threads: %s", strerror(-ret));
	return 0;
}

static int relay_open(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err)
{
	struct relay *r = calloc(1, sizeof *r);
	if (!r)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	pthread_mutex_init(&r->out_lock, NULL);
	pthread_mutex_init(&r->in_lock, NULL);
	r->limit = cfg->limit;
	r->pressure = cfg->pressure;
	r->ctx = cfg->ctx;
	r->blocked = -1;
	r->n_nics = cfg->n_nics;
	for (size_t i = 0; i < r->n_nics; i++)
		r->nics[i].guest = r->nics[i].sock = r->nics[i].tap = -1;
	r->out_epoll = epoll_create1(EPOLL_CLOEXEC);
	r->in_epoll = epoll_create1(EPOLL_CLOEXEC);
	r->out_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->in_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r->out = relay_batch_new();
	r->in = relay_batch_new();
	int code = 0;
	if (!r->out || !r->in ||
		relay_watch(r->out_epoll, r->out_wake, EPOLLIN, RELAY_TAG_WAKE) < 0 ||
		relay_watch(r->in_epoll, r->in_wake, EPOLLIN, RELAY_TAG_WAKE) < 0)
		code = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"out of memory or descriptors: raise LimitNOFILE");
	for (size_t i = 0; i < r->n_nics && code >= 0; i++)
		code = open_nic(r, i, cfg, guest_fds ? guest_fds[i] : -1, err);
	if (code >= 0)
		code = start_threads(r, err);
	if (code < 0) {
		relay_close(&r->nb);
		return code;
	}
	*ret = &r->nb;
	return 0;
}

const struct netbuf_ops netbuf_relay_ops = {
	.name = "relay",
	.probe = relay_probe,
	.open = relay_open,
	.guest_fd = relay_guest_fd,
	.hold = relay_hold,
	.barrier = relay_barrier,
	.release = relay_release,
	.pass = relay_pass,
	.shut = relay_shut,
	.announce = relay_start_announce,
	.get_stats = relay_get_stats,
	.close = relay_close,
};
