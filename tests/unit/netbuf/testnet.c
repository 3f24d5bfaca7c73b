/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testnet.h"

#include "common/clock.h"
#include "netbuf/tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

const uint8_t tn_broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
const uint8_t tn_mac[6] = {0x52, 0x54, 0, 0, 0, 1};
const uint8_t tn_peer[6] = {0x52, 0x54, 0, 0, 1, 1};

const char *tn_backend = "relay";

int tn_enter(void **state)
{
	if (geteuid()) {
		printf("SKIP: needs root to make network namespaces and taps\n");
		exit(77);
	}
	if (unshare(CLONE_NEWNET)) {
		printf("SKIP: cannot make a network namespace: %s\n", strerror(errno));
		exit(77);
	}
	struct mc_error err = MC_ERROR_INIT;
	if (netbuf_probe(tn_backend, NULL, &err) < 0) {
		printf("SKIP: %s\n", err.msg);
		exit(77);
	}
	return 0;
}

int tn_enter_bridge(void **state)
{
	tn_enter(state);
	/* IPv6 and snooping off: the host's and the bridge's own frames would be in the way. */
	tn_run("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	tn_run("ip link add br0 address 02:00:00:00:00:01 type bridge mcast_snooping 0");
	tn_run("ip link add v0 type veth peer name v1");
	tn_run("ip link set v0 master br0 && ip link set br0 up");
	tn_run("ip link set v0 up && ip link set v1 up");
	return 0;
}

void tn_run(const char *fmt, ...)
{
	char cmd[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof cmd, fmt, ap);
	va_end(ap);
	if (system(cmd))
		fail_msg("failed: %s", cmd);
}

static void on_pressure(void *ctx)
{
	((struct tn *)ctx)->pressed++;
}

/* A test that failed leaves its relay behind: the next one must not stumble over it. */
static struct tn *current;

struct tn *tn_open(size_t n, const char *bridge, uint64_t limit, const char *watch_if)
{
	if (current)
		tn_close(current);
	struct tn *t = current = calloc(1, sizeof *t);
	assert_non_null(t);
	t->watch = -1;
	for (size_t i = 0; i < n; i++) {
		snprintf(t->nics[i].id, sizeof t->nics[i].id, "net%zu", i);
		snprintf(t->nics[i].bridge, sizeof t->nics[i].bridge, "%s", bridge);
		memcpy(t->nics[i].mac, tn_mac, 6);
		t->nics[i].mac[5] = (uint8_t)(1 + i);
		tap_ifname("vm1", t->nics[i].id, t->ifname[i]);
	}
	t->cfg = (struct netbuf_config){.vm = "vm1",
		.backend = tn_backend,
		.nics = t->nics,
		.n_nics = n,
		.limit = limit,
		.pressure = on_pressure,
		.ctx = t};
	struct mc_error err = MC_ERROR_INIT;
	if (netbuf_open(&t->cfg, &t->nb, &err) < 0)
		fail_msg("%s", err.msg);
	t->watch = tn_watch(watch_if);
	return t;
}

void tn_close(struct tn *t)
{
	current = NULL;
	netbuf_close(t->nb);
	if (t->watch >= 0)
		close(t->watch);
	free(t);
}

void tn_build(uint8_t *buf, size_t len, const uint8_t dst[6], uint16_t ethertype, uint32_t number)
{
	memset(buf, 0, len);
	memcpy(buf, dst, 6);
	memcpy(buf + 6, tn_mac, 6);
	buf[12] = (uint8_t)(ethertype >> 8);
	buf[13] = (uint8_t)ethertype;
	memcpy(buf + 14, &number, 4);
}

uint32_t tn_number(const struct tn_frame *f)
{
	uint32_t n;
	memcpy(&n, f->data + (f->tagged ? 18 : 14), 4);
	return n;
}

void tn_guest_raw(int fd, const struct virtio_net_hdr *h, size_t hlen, const uint8_t *f, size_t len)
{
	uint8_t head[12] = {0};
	if (h)
		memcpy(head, h, sizeof *h);
	struct iovec iov[2] = {{head, hlen}, {(void *)f, len}};
	ssize_t n = writev(fd, iov, 2);
	if (n != (ssize_t)(hlen + len))
		fail_msg("guest cannot send: %s", strerror(errno));
}

void tn_send(struct tn *t, size_t nic, uint32_t number)
{
	uint8_t f[60];
	tn_build(f, sizeof f, tn_peer, TN_LOCAL, number);
	tn_guest_raw(netbuf_guest_fd(t->nb, nic), NULL, 10, f, sizeof f);
}

static bool wait_readable(int fd, int timeout_ms)
{
	struct pollfd p = {fd, POLLIN, 0};
	return poll(&p, 1, timeout_ms) == 1;
}

bool tn_guest_read(int fd, struct tn_frame *ret, int timeout_ms)
{
	if (!wait_readable(fd, timeout_ms))
		return false;
	struct iovec iov[2] = {{&ret->vnet, sizeof ret->vnet}, {ret->data, sizeof ret->data}};
	ssize_t n = readv(fd, iov, 2);
	if (n < (ssize_t)sizeof ret->vnet)
		return false;
	ret->len = (size_t)n - sizeof ret->vnet;
	ret->tagged = ret->data[12] == 0x81 && ret->data[13] == 0;
	ret->tci = (uint16_t)(ret->data[14] << 8 | ret->data[15]);
	return true;
}

int tn_watch(const char *ifname)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, buf = 64 << 20;
	assert_true(fd >= 0);
	assert_return_code(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), errno);
	assert_return_code(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on), errno);
	assert_return_code(
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on), errno);
	assert_return_code(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buf, sizeof buf), errno);
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = ifname ? (int)if_nametoindex(ifname) : 0};
	assert_return_code(bind(fd, (struct sockaddr *)&sll, sizeof sll), errno);
	return fd;
}

bool tn_read(struct tn *t, struct tn_frame *ret, int timeout_ms)
{
	if (!wait_readable(t->watch, timeout_ms))
		return false;
	struct sockaddr_ll from;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	} control;
	struct iovec iov[2] = {{&ret->vnet, sizeof ret->vnet}, {ret->data, sizeof ret->data - 4}};
	struct msghdr m = {.msg_name = &from,
		.msg_namelen = sizeof from,
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = &control,
		.msg_controllen = sizeof control};
	ssize_t n = recvmsg(t->watch, &m, 0);
	if (n < (ssize_t)sizeof ret->vnet)
		return false;
	ret->len = (size_t)n - sizeof ret->vnet;
	ret->tagged = false;
	ret->nic = 99;
	char name[IF_NAMESIZE] = "";
	if_indextoname((unsigned)from.sll_ifindex, name);
	for (size_t i = 0; i < t->cfg.n_nics; i++)
		if (!strcmp(name, t->ifname[i]))
			ret->nic = i;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct tpacket_auxdata aux;
	assert_non_null(c);
	memcpy(&aux, CMSG_DATA(c), sizeof aux);
	if (aux.tp_status & TP_STATUS_VLAN_VALID) {
		uint16_t tpid = aux.tp_vlan_tpid;
		memmove(ret->data + 16, ret->data + 12, ret->len - 12);
		ret->data[12] = (uint8_t)(tpid >> 8);
		ret->data[13] = (uint8_t)tpid;
		ret->data[14] = (uint8_t)(aux.tp_vlan_tci >> 8);
		ret->data[15] = (uint8_t)aux.tp_vlan_tci;
		ret->len += 4;
		ret->tagged = true;
		ret->tci = aux.tp_vlan_tci;
	}
	return true;
}

void tn_inject(const char *ifname, const struct virtio_net_hdr *h, const uint8_t *f, size_t len)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int on = 1;
	assert_true(fd >= 0);
	assert_return_code(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on), errno);
	struct sockaddr_ll sll = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(ifname)};
	struct virtio_net_hdr none = {0};
	struct iovec iov[2] = {{(void *)(h ? h : &none), sizeof none}, {(void *)f, len}};
	struct msghdr m = {
		.msg_name = &sll, .msg_namelen = sizeof sll, .msg_iov = iov, .msg_iovlen = 2};
	assert_return_code(sendmsg(fd, &m, 0), errno);
	close(fd);
}

void tn_expect(struct tn *t, size_t nic, uint32_t number)
{
	static struct tn_frame f;
	if (!tn_read(t, &f, 2000))
		fail_msg("frame %u of NIC %zu did not come out", number, nic);
	assert_int_equal(tn_number(&f), number);
	assert_int_equal(f.nic, nic);
}

void tn_expect_none(struct tn *t)
{
	static struct tn_frame f;
	if (tn_read(t, &f, 0))
		fail_msg("a frame (number %u, %zu bytes) leaked", tn_number(&f), f.len);
}

struct netbuf_stats tn_stats(struct tn *t)
{
	struct netbuf_stats st;
	netbuf_get_stats(t->nb, &st);
	return st;
}

int tn_pressed(struct tn *t)
{
	return t->pressed;
}

void tn_wait_held(struct tn *t, uint64_t frames)
{
	uint64_t deadline = mc_now() + 5 * MC_SEC;
	while (tn_stats(t).held_frames != frames) {
		if (mc_now() > deadline)
			fail_msg("%llu frames are held, not %llu",
				(unsigned long long)tn_stats(t).held_frames,
				(unsigned long long)frames);
		usleep(200);
	}
}

size_t tn_build_tso(
	uint8_t *buf, size_t payload, uint16_t mss, bool vlan, struct virtio_net_hdr *ret)
{
	size_t tag = vlan ? 4 : 0;
	memset(buf, 0, 54 + tag + payload);
	memcpy(buf, tn_peer, 6);
	memcpy(buf + 6, tn_mac, 6);
	if (vlan)
		memcpy(buf + 12, "\x81\x00\x20\x64", 4); /* priority 1, VLAN 100 */
	uint8_t *ip = buf + 14 + tag;
	ip[-2] = 0x08;
	ip[0] = 0x45;
	ip[2] = (uint8_t)((40 + payload) >> 8);
	ip[3] = (uint8_t)(40 + payload);
	ip[6] = 0x40;
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, "\x0a\x09\x00\x01\x0a\x09\x00\x02", 8);
	uint32_t sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = ~((sum & 0xffff) + (sum >> 16));
	ip[10] = (uint8_t)(sum >> 8);
	ip[11] = (uint8_t)sum;
	memcpy(ip + 20, "\x30\x39\x00\x50", 4);
	ip[32] = 0x50;
	ip[33] = 0x10;
	memset(ip + 40, 0x5a, payload);
	/* What the checksum starts from: the folded sum of the pseudo header. */
	sum = 6 + 20 + (uint32_t)payload;
	for (int i = 12; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	ip[36] = (uint8_t)(sum >> 8);
	ip[37] = (uint8_t)sum;
	*ret = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = (uint16_t)(54 + tag),
		.gso_size = mss,
		.csum_start = (uint16_t)(34 + tag),
		.csum_offset = 16};
	return 54 + tag + payload;
}
