/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving frames.  In front of every frame, on both taps and on the socket, is a struct
 * virtio_net_hdr of 10 bytes in native byte order.  What QEMU uses on its own descriptor (12 bytes
 * with num_buffers) is between QEMU and the kernel and never seen here.
 */
#include "netbuf/relay-internal.h"

#include "common/clock.h"
#include "common/log.h"
#include "netbuf/tap.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct virtio_net_hdr) == TAP_VNET_LEN, "the legacy header has 10 bytes");

#define MACS_LEN 12
#define TAG_LEN  4
#define HEAD_LEN (TAP_VNET_LEN + MACS_LEN)

/* A frame as received: a gap behind the MACs lets a VLAN tag be put back without moving data. */
struct slot {
	uint8_t head[HEAD_LEN];
	uint8_t tag[TAG_LEN];
	uint8_t rest[QUEUE_FRAME_MAX - HEAD_LEN - TAG_LEN];
};
_Static_assert(sizeof(struct slot) == QUEUE_FRAME_MAX, "what a slot takes fits into the queue");

struct relay_batch {
	struct mmsghdr msgs[RELAY_BATCH];
	struct iovec iov[RELAY_BATCH][2];
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	} control[RELAY_BATCH];
	struct slot slots[RELAY_BATCH];
};

struct relay_batch *relay_batch_new(void)
{
	return calloc(1, sizeof(struct relay_batch));
}

int relay_watch(int epoll, int fd, uint32_t events, uint32_t tag)
{
	struct epoll_event ev = {.events = events, .data.u32 = tag};
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void relay_unwatch(int epoll, int fd)
{
	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

void relay_wake(int eventfd)
{
	uint64_t one = 1;
	while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* ---- out: to the bridge ---- */

/* false: the tap takes no more now, try again later.  Otherwise the frame is gone, and counted. */
static bool bridge_write(
	struct relay *r, size_t nic, const struct iovec *iov, int n_iov, size_t len)
{
	ssize_t n;
	do
		n = writev(r->nics[nic].tap, iov, n_iov);
	while (n < 0 && errno == EINTR);
	if (n >= 0) {
		r->released_frames++;
		r->released_bytes += len - TAP_VNET_LEN;
	} else if (errno == EAGAIN) {
		return false;
	} else if (errno == EINVAL) {
		r->dropped++; /* nonsense in the guest's vnet header: no NIC could have sent it */
	} else {
		if (!r->lost++)
			log_error("%s takes no frames (%m): the VM's output is being lost; set the "
				  "interface up again",
				r->nics[nic].ifname);
	}
	return true;
}

void relay_flush(struct relay *r)
{
	if (r->blocked >= 0) {
		relay_unwatch(r->out_epoll, r->nics[r->blocked].tap);
		r->blocked = -1;
	}
	/* Not more than there is now; meanwhile the sockets are looked after: the guest runs. */
	uint64_t todo = r->q.frames;
	for (uint64_t i = 1; i <= todo; i++) {
		struct queue_frame *f = queue_head(&r->q);
		if (f->epoch >= r->mark)
			return;
		assert(r->state != NETBUF_CLOSED && f->nic < r->n_nics);
		struct iovec iov = {f->data, f->len};
		if (!bridge_write(r, f->nic, &iov, 1, f->len)) {
			if (!relay_watch(r->out_epoll, r->nics[f->nic].tap, EPOLLOUT,
				    f->nic | RELAY_TAG_TAP))
				r->blocked = f->nic;
			return;
		}
		queue_pop(&r->q);
		if (i % 256 == 0)
			relay_capture_round(r);
	}
	struct queue_frame *f = queue_head(&r->q);
	if (f && f->epoch < r->mark)
		relay_wake(r->out_wake);
}

static void dispose(struct relay *r, size_t nic, const struct iovec *iov, size_t len)
{
	if (r->state == NETBUF_CLOSED) {
		r->dropped++;
		return;
	}
	/* What is captured while holding can never be what may go already. */
	assert(r->state == NETBUF_OPEN ? r->mark == UINT64_MAX : r->epoch >= r->mark);
	/* Behind frames that are waiting it must wait too, or it would overtake them. */
	if (r->state == NETBUF_OPEN && !r->q.frames && bridge_write(r, nic, iov, 2, len))
		return;
	if (queue_push(&r->q, r->epoch, nic, iov, 2) < 0 && !r->lost++)
		log_error("out of memory: the VM's output is being lost");
}

/* ---- out: from the guest ---- */

/* The kernel has taken the outer VLAN tag off; the offsets in the vnet header count without it. */
static void put_tag_back(struct slot *s, const struct tpacket_auxdata *aux)
{
	uint16_t tpid =
		aux->tp_status & TP_STATUS_VLAN_TPID_VALID ? aux->tp_vlan_tpid : ETH_P_8021Q;
	s->tag[0] = (uint8_t)(tpid >> 8);
	s->tag[1] = (uint8_t)tpid;
	s->tag[2] = (uint8_t)(aux->tp_vlan_tci >> 8);
	s->tag[3] = (uint8_t)aux->tp_vlan_tci;
	struct virtio_net_hdr h;
	memcpy(&h, s->head, sizeof h);
	if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		h.csum_start += TAG_LEN;
	if (h.gso_type != VIRTIO_NET_HDR_GSO_NONE)
		h.hdr_len += TAG_LEN;
	memcpy(s->head, &h, sizeof h);
}

static bool has_tag(struct msghdr *m, struct tpacket_auxdata *ret)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(ret, CMSG_DATA(c), sizeof *ret);
		return ret->tp_status & TP_STATUS_VLAN_VALID;
	}
	return false;
}

int relay_capture(struct relay *r, size_t nic, unsigned max)
{
	struct relay_batch *b = r->out;
	assert(nic < r->n_nics && max <= RELAY_BATCH);
	for (unsigned i = 0; i < max; i++) {
		b->iov[i][0] = (struct iovec){b->slots[i].head, HEAD_LEN};
		b->iov[i][1] = (struct iovec){b->slots[i].rest, sizeof b->slots[i].rest};
		b->msgs[i].msg_hdr = (struct msghdr){.msg_iov = b->iov[i],
			.msg_iovlen = 2,
			.msg_control = &b->control[i],
			.msg_controllen = sizeof b->control[i]};
	}
	int n = recvmmsg(r->nics[nic].sock, b->msgs, max, MSG_DONTWAIT, NULL);
	if (n < 0) {
		switch (errno) {
		case EAGAIN:
			return 0;
		case EINVAL: /* one frame that a vnet header cannot describe: it is lost */
			if (!r->lost++)
				log_error("a frame of the guest cannot be relayed: turn off "
					  "segmentation offload for tunnels in the guest or on "
					  "QEMU's command line");
			return 1;
		case EINTR:
		case ENETDOWN: /* told once per taking down, and no frame went with it */
			return 1;
		default:
			return -errno;
		}
	}
	for (int i = 0; i < n; i++) {
		struct tpacket_auxdata aux;
		size_t len = b->msgs[i].msg_len;
		if ((b->msgs[i].msg_hdr.msg_flags & MSG_TRUNC) || len < HEAD_LEN + 2) {
			r->dropped++; /* larger than IP allows, or not even an Ethernet header */
			continue;
		}
		b->iov[i][1].iov_len = len - HEAD_LEN;
		if (has_tag(&b->msgs[i].msg_hdr, &aux)) {
			put_tag_back(&b->slots[i], &aux);
			b->iov[i][0].iov_len += TAG_LEN;
			len += TAG_LEN;
		}
		dispose(r, nic, b->iov[i], len);
	}
	return n;
}

int relay_drain(struct relay *r)
{
	unsigned left = RELAY_DRAIN_MAX;
	for (size_t i = 0; i < r->n_nics; i++)
		for (;;) {
			int n = relay_capture(r, i, RELAY_BATCH);
			if (n < 0)
				return n;
			if (n == 0)
				break;
			if (left <= (unsigned)n)
				return -EBUSY;
			left -= (unsigned)n;
		}
	return 0;
}

/* How many frames may be taken without passing the limit by more than one. */
static unsigned room(const struct relay *r)
{
	if (r->q.bytes >= r->limit)
		return 0;
	uint64_t n = (r->limit - r->q.bytes) / queue_cost(QUEUE_FRAME_MAX);
	return n < 1 ? 1 : n > RELAY_BATCH ? RELAY_BATCH : (unsigned)n;
}

void relay_capture_round(struct relay *r)
{
	for (size_t i = 0; i < r->n_nics; i++) {
		unsigned max = room(r);
		if (!max)
			return;
		int n = relay_capture(r, i, max);
		assert(r->q.bytes <= r->limit + queue_cost(QUEUE_FRAME_MAX));
		if (n < 0) {
			/* Left on the socket; the next barrier meets the error again and fails. */
			log_error("cannot read the guest's output: %s", strerror(-n));
			relay_unwatch(r->out_epoll, r->nics[i].sock);
		}
	}
}

/* ---- out: the thread ---- */

void relay_lock(struct relay *r)
{
	pthread_mutex_lock(&r->out_lock);
}

void relay_unlock(struct relay *r)
{
	uint64_t bytes = r->q.bytes;
	r->held_bytes = bytes;
	r->held_frames = r->q.frames;
	if (bytes > r->held_max)
		r->held_max = bytes;
	bool full = bytes >= r->limit;
	if (full != r->full) {
		for (size_t i = 0; i < r->n_nics; i++)
			if (full)
				relay_unwatch(r->out_epoll, r->nics[i].sock);
			else
				relay_watch(r->out_epoll, r->nics[i].sock, EPOLLIN, (uint32_t)i);
		r->full = full;
	}
	bool press = r->state == NETBUF_HOLDING && !r->pressed && bytes >= r->limit / 4 * 3;
	if (press)
		r->pressed = true;
	pthread_mutex_unlock(&r->out_lock);
	/* Outside of the lock: it may ask for the statistics, or for the VM's own locks. */
	if (press && r->pressure)
		r->pressure(r->ctx);
}

/* Milliseconds from one announcement to the next: bridges and switches lose frames while a port is
 * learning, so it is said again. */
static const unsigned announce_gap[] = {50, 100, 150, 250};

void relay_announce(struct relay *r)
{
	for (size_t i = 0; i < r->n_nics; i++) {
		uint8_t f[TAP_VNET_LEN + ETH_ZLEN] = {0};
		uint8_t *p = f + TAP_VNET_LEN;
		const uint8_t *mac = r->nics[i].mac;
		memset(p, 0xff, 6);
		memcpy(p + 6, mac, 6);
		/* RARP "request reverse": Ethernet, IPv4, address lengths 6 and 4, operation 3 */
		static const uint8_t head[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
		memcpy(p + 12, head, sizeof head);
		memcpy(p + 22, mac, 6);
		memcpy(p + 32, mac, 6);
		ssize_t n = write(r->nics[i].tap, f, sizeof f);
		if (n < 0)
			log_debug("announcing on %s: %m", r->nics[i].ifname);
	}
	unsigned k = r->announce_round++;
	if (k < sizeof announce_gap / sizeof *announce_gap)
		r->announce_at = mc_now() + announce_gap[k] * MC_MSEC;
	else
		r->announce_round = 0;
}

void *relay_out_main(void *relay)
{
	struct relay *r = relay;
	int wait_ms = -1;
	while (!r->stop) {
		struct epoll_event ev[2 * NETBUF_NICS_MAX + 1];
		int n = epoll_wait(r->out_epoll, ev, sizeof ev / sizeof *ev, wait_ms);
		bool flush = false;
		for (int i = 0; i < n; i++) {
			uint32_t tag = ev[i].data.u32;
			uint64_t count;
			if (tag == RELAY_TAG_WAKE && read(r->out_wake, &count, sizeof count) < 0)
				continue;
			flush = flush || tag == RELAY_TAG_WAKE || (tag & RELAY_TAG_TAP);
		}
		relay_lock(r);
		if (flush)
			relay_flush(r);
		if (r->announce_round && mc_now() >= r->announce_at)
			relay_announce(r);
		relay_capture_round(r);
		wait_ms = r->announce_round ? mc_ms_left(r->announce_at) : -1;
		relay_unlock(r);
	}
	return NULL;
}

/* ---- in ---- */

/* in_lock is held.  Returns how many frames came, 0 when there are none, negative: tap is gone. */
static int input_batch(struct relay *r, size_t nic)
{
	struct relay_batch *b = r->in;
	unsigned n = 0;
	int gone = 0;
	for (; n < RELAY_BATCH; n++) {
		ssize_t len = read(r->nics[nic].tap, &b->slots[n], sizeof b->slots[n]);
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			gone = -errno;
		if (len < 0)
			break;
		b->iov[n][0] = (struct iovec){&b->slots[n], (size_t)len};
		b->msgs[n].msg_hdr = (struct msghdr){.msg_iov = b->iov[n], .msg_iovlen = 1};
	}
	if (!r->in_open) {
		r->dropped += n;
		return gone ? gone : (int)n;
	}
	for (unsigned done = 0; done < n;) {
		int k = sendmmsg(r->nics[nic].sock, b->msgs + done, n - done, MSG_DONTWAIT);
		if (k <= 0) {
			if (k < 0 && errno == EINTR)
				continue;
			done++; /* the guest cannot take it: lost, as on any network */
			continue;
		}
		for (int i = 0; i < k; i++)
			r->input_bytes += b->iov[done + (unsigned)i][0].iov_len - TAP_VNET_LEN;
		r->input_frames += (unsigned)k;
		done += (unsigned)k;
	}
	return gone ? gone : (int)n;
}

void *relay_in_main(void *relay)
{
	struct relay *r = relay;
	while (!r->stop) {
		struct epoll_event ev[NETBUF_NICS_MAX + 1];
		int n = epoll_wait(r->in_epoll, ev, NETBUF_NICS_MAX + 1, -1);
		for (int i = 0; i < n; i++) {
			uint32_t nic = ev[i].data.u32;
			if (nic == RELAY_TAG_WAKE)
				continue; /* only written to for stop, and so never read */
			pthread_mutex_lock(&r->in_lock);
			int k = input_batch(r, nic);
			pthread_mutex_unlock(&r->in_lock);
			if (k < 0) {
				log_error("%s is gone (%s): somebody removed the VM's interface; "
					  "restart mcd to have it made anew",
					r->nics[nic].ifname, strerror(-k));
				relay_unwatch(r->in_epoll, r->nics[nic].tap);
			}
		}
	}
	return NULL;
}
