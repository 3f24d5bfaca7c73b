/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread that looks on while the kernel holds: how much is held (nobody tells), announcements
 * that are due, and whether somebody else touches our interfaces.
 */
#include "netbuf/plug-internal.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "netbuf/iface.h"

#include <errno.h>
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_FAR  (10 * MC_MSEC) /* while little is held */
#define LOOK_NEAR (2 * MC_MSEC)  /* from half of the limit on */
#define SURE      25             /* looks, of which one asks for more than it needs */

bool plug_pressing(struct plug *p, const struct plug_queue *q)
{
	uint64_t wire = q->bytes / 3 * 4, memory = plug_memory(q) / 3 * 4;
	if (p->pressed || p->state != NETBUF_HOLDING ||
		(wire < p->limit && memory < p->memory_limit))
		return false;
	return p->pressed = true;
}

/* ---- for whoever asks ---- */

void plug_get_stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	struct plug *p = (struct plug *)nb;
	struct netbuf_stats s = {.backend = nb->ops->name};
	struct plug_queue q = {0};
	struct plug_counters c = {0};
	pthread_mutex_lock(&p->lock);
	if (plug_get_queue(p->ask, p->ifindex, &q, NULL) == 0) {
		s.held_frames = q.frames;
		s.held_bytes = plug_memory(&q);
		if (s.held_bytes > p->held_max)
			p->held_max = s.held_bytes;
	}
	if (plug_get_counters(p->ask, p->ifindex, &c, NULL) == 0) {
		s.released_frames = c.rx_frames - p->gone_base[0];
		s.released_bytes = c.rx_bytes - p->gone_base[1];
	}
	for (size_t i = 0; i < p->n_nics; i++)
		if (plug_get_counters(p->ask, p->nics[i].ifindex, &c, NULL) == 0) {
			s.input_frames += c.tx_frames - p->nics[i].input_base[0];
			s.input_bytes += c.tx_bytes - p->nics[i].input_base[1];
		}
	bool lossy = p->state != NETBUF_CLOSED || p->adopted;
	s.held_bytes_max = p->held_max;
	s.dropped_frames = p->dropped + (lossy ? 0 : q.drops);
	s.lost_frames = p->lost_base + (lossy ? q.drops : 0);
	pthread_mutex_unlock(&p->lock);
	*ret = s;
}

/* ---- announcements ---- */

/* Milliseconds from one to the next: bridges and switches lose frames while a port is learning, so
 * it is said again. */
static const unsigned announce_gap[] = {50, 100, 150, 250};

void plug_announce(struct plug *p)
{
	for (size_t i = 0; i < p->n_nics; i++) {
		uint8_t f[64 + ETH_ZLEN] = {0};
		const uint8_t *mac = p->nics[i].mac;
		int head = 10;
		/* QEMU may have made it larger. */
		if (ioctl(p->nics[i].tap, TUNGETVNETHDRSZ, &head) || head < 10 || head > 64)
			continue;
		uint8_t *e = f + head;
		/* RARP "request reverse": Ethernet, IPv4, address lengths 6 and 4, operation 3 */
		static const uint8_t type[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
		memset(e, 0xff, 6);
		memcpy(e + 6, mac, 6);
		memcpy(e + 12, type, sizeof type);
		memcpy(e + 22, mac, 6);
		memcpy(e + 32, mac, 6);
		if (write(p->nics[i].tap, f, (size_t)head + ETH_ZLEN) < 0)
			log_debug("announcing on %s: %m", p->nics[i].ifname);
	}
	unsigned k = p->announce_round++;
	if (k < sizeof announce_gap / sizeof *announce_gap)
		p->announce_at = mc_now() + announce_gap[k] * MC_MSEC;
	else
		p->announce_round = 0;
}

/* ---- others' hands ---- */

static bool is_tap(const struct plug *p, int ifindex)
{
	for (size_t i = 0; i < p->n_nics; i++)
		if (p->nics[i].ifindex == ifindex)
			return true;
	return false;
}

static void breakage(struct plug *p, int ifindex, const char *what)
{
	const char *name = p->ifname;
	if (p->broken[0])
		return;
	for (size_t i = 0; i < p->n_nics; i++)
		if (p->nics[i].ifindex == ifindex)
			name = p->nics[i].ifname;
	snprintf(p->broken, sizeof p->broken,
		"somebody %s %s of VM %s, on which holding its output rests", what, name, p->vm);
	log_error("%s", p->broken);
}

static int see(struct nl_msg *msg, void *arg)
{
	struct plug *p = arg;
	struct nlmsghdr *h = nlmsg_hdr(msg);
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK: {
		if (!nlmsg_valid_hdr(h, sizeof(struct ifinfomsg)))
			return NL_OK;
		const struct ifinfomsg *i = nlmsg_data(h);
		bool ifb = i->ifi_index == p->ifindex;
		/* A DELLINK of another family says that it left a bridge. */
		if (h->nlmsg_type == RTM_DELLINK && i->ifi_family == AF_UNSPEC &&
			(ifb || is_tap(p, i->ifi_index)))
			breakage(p, i->ifi_index, "removed");
		/* What was held is gone then, and the plug's counts are wrong. */
		else if (h->nlmsg_type == RTM_NEWLINK && ifb && !(i->ifi_flags & IFF_UP))
			breakage(p, i->ifi_index, "took down");
		break;
	}
	case RTM_NEWQDISC:
	case RTM_DELQDISC:
	case RTM_NEWTFILTER:
	case RTM_DELTFILTER: {
		if (!nlmsg_valid_hdr(h, sizeof(struct tcmsg)))
			return NL_OK;
		const struct tcmsg *t = nlmsg_data(h);
		/* Ingress, in whatever way.  The kernel's own doing, as when a tap vanishes, has no
		 * sender and comes with a DELLINK. */
		if (is_tap(p, t->tcm_ifindex) && (t->tcm_parent >> 16) == 0xffff && h->nlmsg_pid &&
			h->nlmsg_pid != nl_socket_get_local_port(p->sk))
			breakage(p, t->tcm_ifindex, "changed the traffic control of");
		break;
	}
	default:
		break;
	}
	return NL_OK;
}

/*
 * Only our own interfaces, or on a host with many VMs each would wake up for all.  Of the ifb only
 * links: we ourselves change its qdisc all the time, and notice at the next barrier if it is
 * another. struct tcmsg and struct ifinfomsg have the interface's number in the same place, byte 20
 * of a message.
 */
int plug_watch_filter(struct plug *p)
{
	struct sock_filter f[NETBUF_NICS_MAX + 8];
	unsigned short n = 0, nics = (unsigned short)p->n_nics;
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 20);
	for (unsigned short i = 0; i < nics; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
			htonl((uint32_t)p->nics[i].ifindex), (uint8_t)(nics - i + 4), 0);
	f[n++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JEQ | BPF_K, htonl((uint32_t)p->ifindex), 0, 3);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWLINK), 2, 0);
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELLINK), 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	struct sock_fprog prog = {n, f};
	return setsockopt(
		nl_socket_get_fd(p->events), SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog);
}

void plug_watch_see(struct plug *p)
{
	while (p->events && nl_recvmsgs_default(p->events) >= 0)
		;
}

/* ---- the thread ---- */

struct watch {
	uint64_t held;    /* when the plug was asked last; memory */
	uint64_t sent[2]; /* what the taps had counted then: frames, bytes */
	unsigned looks;
};

/* What the guest has sent since, if nothing was let go meanwhile, is the most that can be held now.
 * The taps' counters are asked for instead of the plug, because whatever listens for changes of
 * qdiscs on this host is told of each question about one. */
static bool may_press(struct plug *p, struct watch *w, uint64_t sent[2])
{
	struct plug_counters c;
	sent[0] = sent[1] = 0;
	for (size_t i = 0; i < p->n_nics; i++) {
		if (plug_get_counters(p->ask, p->nics[i].ifindex, &c, NULL) < 0)
			return true;
		sent[0] += c.rx_frames;
		sent[1] += c.rx_bytes;
	}
	uint64_t most = w->held + (sent[0] - w->sent[0]) * PLUG_FRAME_COST + sent[1] - w->sent[1];
	return ++w->looks % SURE == 0 || most >= p->memory_limit / 2;
}

/* Returns whether the VM must be told. */
static bool look(struct plug *p, struct watch *w, int *ret_wait)
{
	struct plug_queue q;
	bool press = false;
	uint64_t wait = 0, sent[2];
	pthread_mutex_lock(&p->lock);
	bool broken = p->broken[0];
	plug_watch_see(p);
	if (p->broken[0] && !broken && p->state == NETBUF_HOLDING)
		press = true; /* the epoch ends now, and its barrier says why */
	if (p->state == NETBUF_HOLDING) {
		wait = LOOK_FAR;
		if (may_press(p, w, sent) && plug_get_queue(p->ask, p->ifindex, &q, NULL) == 0) {
			w->held = plug_memory(&q);
			memcpy(w->sent, sent, sizeof sent);
			if (w->held > p->held_max)
				p->held_max = w->held;
			press = plug_pressing(p, &q) || press;
		}
		if (w->held >= p->memory_limit / 2)
			wait = LOOK_NEAR;
	}
	if (p->announce_round && mc_now() >= p->announce_at)
		plug_announce(p);
	*ret_wait = wait                ? (int)(wait / MC_MSEC)
		    : p->announce_round ? mc_ms_left(p->announce_at)
					: -1;
	pthread_mutex_unlock(&p->lock);
	return press;
}

static void *watch_main(void *plug)
{
	struct plug *p = plug;
	struct watch w = {0};
	int wait = -1;
	while (!p->stop) {
		struct pollfd fds[] = {
			{p->wake, POLLIN, 0}, {nl_socket_get_fd(p->events), POLLIN, 0}};
		uint64_t count;
		if (poll(fds, 2, wait) > 0 && (fds[0].revents & POLLIN) &&
			read(p->wake, &count, sizeof count) < 0)
			continue;
		if (look(p, &w, &wait) && p->pressure)
			p->pressure(p->ctx);
	}
	return NULL;
}

void plug_watch_wake(struct plug *p)
{
	uint64_t one = 1;
	while (write(p->wake, &one, sizeof one) < 0 && errno == EINTR)
		;
}

int plug_watch_start(struct plug *p, struct mc_error *err)
{
	int r = iface_netlink_open(&p->events, err);
	if (r < 0)
		return r;
	nl_socket_disable_seq_check(p->events);
	nl_socket_modify_cb(p->events, NL_CB_VALID, NL_CB_CUSTOM, see, p);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake < 0 || plug_watch_filter(p) < 0 || nl_socket_set_nonblocking(p->events) < 0 ||
		nl_socket_add_memberships(p->events, RTNLGRP_LINK, RTNLGRP_TC, 0) < 0)
		return mc_error_set(
			err, -EIO, MC_ECLASS_KERNEL, "cannot watch the interfaces of VM %s", p->vm);
	r = mc_thread_start(&p->thread, "netbuf-plug", watch_main, p);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_MEMORY, "cannot start the plug's thread: %s",
			strerror(-r));
	p->started = true;
	return 0;
}

void plug_watch_stop(struct plug *p)
{
	p->stop = true;
	if (p->started) {
		plug_watch_wake(p);
		pthread_join(p->thread, NULL);
	}
	nl_socket_free(p->events);
	p->events = NULL;
	mc_closep(&p->wake);
	p->wake = -1;
}
