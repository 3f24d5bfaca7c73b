/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/tap.h"

#include "common/cleanup.h"
#include "netbuf/iface.h"
#include "netbuf/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Names of newer kernels (6.2), tried and done without. */
#define TUN_OFFLOAD_USO 0x60u

#define GUEST_IFNAME   "mcguest"
#define GUEST_MTU      65521 /* the most that a tap takes: the bridge decides what arrives here */
#define CAPTURE_BUFFER (16 << 20) /* the kernel doubles it and counts its own overhead in */
#define SEND_BUFFER    (4 << 20)

/* ---- the guest's tap ---- */

/* Runs in the tap's namespace. */
static int capture_open(const char *ifname, int *ret, struct mc_error *err)
{
	_cleanup_close_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot open a packet socket (%m): mcd needs root or CAP_NET_RAW, and a "
			"kernel with CONFIG_PACKET");
	int on = 1, in = CAPTURE_BUFFER, out = SEND_BUFFER;
	/* The vnet header keeps the guest's large segments whole; auxdata gives back the VLAN tag
	 * that the kernel takes off; what we send ourselves must not come back as the guest's. */
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) ||
		setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on))
		return mc_error_set(err, -errno, MC_ECLASS_KERNEL,
			"this kernel's packet sockets lack an option that the relay needs (%m): "
			"use Linux 4.20 or later");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &in, sizeof in) ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &out, sizeof out))
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"cannot give a packet socket its buffer (%m): mcd needs CAP_NET_ADMIN");
	/* The protocol comes with bind, not with socket(): an unbound socket would collect the
	 * frames of every interface in between. */
	struct sockaddr_ll sll = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(ifname)};
	if (!sll.sll_ifindex || bind(fd, (struct sockaddr *)&sll, sizeof sll))
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot listen on the guest's tap %s: %m", ifname);
	*ret = mc_steal_fd(&fd);
	return 0;
}

struct guest_job {
	char ifname[IFNAMSIZ];
	int tap; /* -1: make it */
	int sock;
};

static int guest_setup(void *arg, struct mc_error *err)
{
	struct guest_job *job = arg;
	_cleanup_close_ int made = -1, sock = -1;
	_cleanup_(iface_socket_freep) struct nl_sock *sk = NULL;
	_cleanup_(iface_link_putp) struct rtnl_link *change = rtnl_link_alloc();
	if (!change)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	int r;
	if (job->tap < 0 && (r = iface_make_tap(job->ifname, &made, err)) < 0)
		return r;
	if ((r = iface_ipv6_off(job->ifname, err)) < 0 || (r = iface_netlink_open(&sk, err)) < 0)
		return r;
	rtnl_link_set_mtu(change, GUEST_MTU);
	rtnl_link_set_txqlen(change, IFACE_QUEUE_LEN);
	rtnl_link_set_flags(change, IFF_UP | IFF_NOARP);
	if ((r = iface_apply(sk, job->ifname, change, err)) < 0 ||
		(r = capture_open(job->ifname, &sock, err)) < 0)
		return r;
	job->sock = mc_steal_fd(&sock);
	if (job->tap < 0)
		job->tap = mc_steal_fd(&made);
	return 0;
}

int tap_open_guest(int *ret_tap, int *ret_sock, struct mc_error *err)
{
	struct guest_job job = {GUEST_IFNAME, -1, -1};
	int r = netns_run(-1, guest_setup, &job, err);
	if (r < 0)
		return r;
	*ret_tap = job.tap;
	*ret_sock = job.sock;
	return 0;
}

int tap_adopt_guest(int tap, int *ret_sock, struct mc_error *err)
{
	struct ifreq ifr = {0};
	if (ioctl(tap, TUNGETIFF, &ifr))
		return mc_error_set(err, -errno, MC_ECLASS_GUEST,
			"the descriptor taken from QEMU is not a tap (%m): this QEMU was not "
			"started by mcd");
	int want = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if ((ifr.ifr_flags & want) != want)
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %s has no vnet headers: this QEMU was not started by mcd",
			ifr.ifr_name);
	_cleanup_close_ int ns = netns_of_tap(tap, err);
	if (ns < 0)
		return ns;
	/* A tap in the host's namespace has other ways out: its output was never held. */
	int r = netns_has_tap(tap, err);
	if (r < 0)
		return r;
	if (r)
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %s is in the host's own network namespace, where its output "
			"cannot be held: start the VM with mcd",
			ifr.ifr_name);
	struct guest_job job = {.tap = tap, .sock = -1};
	memcpy(job.ifname, ifr.ifr_name, sizeof job.ifname);
	r = netns_run(ns, guest_setup, &job, err);
	if (r < 0)
		return r;
	*ret_sock = job.sock;
	return 0;
}

/* ---- the bridge's tap ---- */

int tap_open_bridge(const char *ifname, const char *bridge, const uint8_t mac[6], int *ret_tap,
	struct mc_error *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_(iface_socket_freep) struct nl_sock *sk = NULL;
	int r;
	if ((r = iface_netlink_open(&sk, err)) < 0 || (r = iface_make_tap(ifname, &fd, err)) < 0 ||
		(r = iface_ipv6_off(ifname, err)) < 0)
		return r;
	int vnet = TAP_VNET_LEN;
	unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	if (ioctl(fd, TUNSETVNETHDRSZ, &vnet) ||
		(ioctl(fd, TUNSETOFFLOAD, offload | TUN_OFFLOAD_USO) &&
			ioctl(fd, TUNSETOFFLOAD, offload)))
		return mc_error_set(err, -errno, MC_ECLASS_KERNEL,
			"cannot set the offloads of the tap %s: %m", ifname);
	if ((r = iface_join_bridge(sk, ifname, bridge, mac, err)) < 0 ||
		(r = iface_set_up(sk, ifname, true, err)) < 0)
		return r;
	*ret_tap = mc_steal_fd(&fd);
	return 0;
}

void tap_ifname(const char *vm, const char *nic, char ret[16])
{
	/* FNV-1a; the NUL between the names keeps "a"+"bc" and "ab"+"c" apart. */
	uint64_t h = 0xcbf29ce484222325ull;
	for (const char *s = vm;; s++) {
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
		if (!*s)
			break;
	}
	for (const char *s = nic; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
	h ^= h >> 48;
	snprintf(ret, 16, "mc-%012llx", (unsigned long long)(h & 0xffffffffffffull));
}
