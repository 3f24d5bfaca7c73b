/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/tap.h"

#include "common/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Names of newer kernels (6.2), tried and done without. */
#define TUN_OFFLOAD_USO 0x60u

#define GUEST_IFNAME   "mcguest"
#define GUEST_MTU      65521 /* the most that a tap takes: the bridge decides what arrives here */
#define QUEUE_LEN      10000 /* frames for a guest that is paused for a checkpoint */
#define CAPTURE_BUFFER (16 << 20) /* the kernel doubles it and counts its own overhead in */
#define SEND_BUFFER    (4 << 20)

/* ---- running a function in another network namespace ---- */

struct ns_job {
	int ns; /* -1: a new one */
	int (*fn)(void *arg, struct mc_error *err);
	void *arg;
	struct mc_error *err;
	int r;
};

static void *ns_main(void *p)
{
	struct ns_job *job = p;
	if (job->ns < 0 ? unshare(CLONE_NEWNET) : setns(job->ns, CLONE_NEWNET)) {
		job->r = mc_error_set(job->err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot enter a network namespace for the VM's tap (%m): "
			"mcd needs root or CAP_SYS_ADMIN and CAP_NET_ADMIN");
		return NULL;
	}
	job->r = job->fn(job->arg, job->err);
	return NULL;
}

/* In a thread of its own, which ends: a namespace is a property of the thread, and coming back
 * could fail halfway. */
static int in_namespace(int ns, int (*fn)(void *, struct mc_error *), void *arg,
	struct mc_error *err)
{
	struct ns_job job = { ns, fn, arg, err, 0 };
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_t t;
	int r = pthread_create(&t, NULL, ns_main, &job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return mc_error_set(
			err, -r, MC_ECLASS_MEMORY, "cannot start a thread: %s", strerror(r));
	pthread_join(t, NULL);
	return job.r;
}

/* ---- one interface ---- */

static int tap_create(const char *ifname, int *ret, struct mc_error *err)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return mc_error_set(err, -errno,
			errno == EACCES || errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot open /dev/net/tun (%m): load the module (modprobe tun) and give "
			"mcd access");
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", ifname);
	if (ioctl(fd, TUNSETIFF, &ifr)) {
		if (errno == EBUSY)
			return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
				"the tap %s exists already: another mcd on this host runs the same "
				"VM; "
				"stop that one first",
				ifname);
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_FAILED,
			"cannot make the tap %s (%m): mcd needs root or CAP_NET_ADMIN", ifname);
	}
	*ret = mc_steal_fd(&fd);
	return 0;
}

/* Must come before the interface is up: an IPv6 stack on it would send frames of its own, which
 * are not the guest's and not the network's.  No such file means no IPv6 at all. */
static int ipv6_off(const char *ifname, struct mc_error *err)
{
	char path[80];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", ifname);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || write(fd, "1", 1) != 1)
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"cannot write %s (%m): mcd needs root and a writable /proc/sys "
			"(ProtectKernelTunables=no in its systemd unit)", path);
	return 0;
}

static int nl_failed(struct mc_error *err, int nlerr, const char *what, const char *ifname)
{
	return mc_error_set(err, -EIO, nlerr == -NLE_PERM ? MC_ECLASS_PERMISSION : MC_ECLASS_FAILED,
		"cannot %s interface %s: %s", what, ifname, nl_geterror(nlerr));
}

static void socket_freep(struct nl_sock **sk)
{
	nl_socket_free(*sk);
}
static void link_putp(struct rtnl_link **l)
{
	if (*l)
		rtnl_link_put(*l);
}

static int netlink_open(struct nl_sock **ret, struct mc_error *err)
{
	_cleanup_(socket_freep) struct nl_sock *sk = nl_socket_alloc();
	if (!sk)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	int r = nl_connect(sk, NETLINK_ROUTE);
	if (r < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_KERNEL,
			"cannot open a netlink socket: %s", nl_geterror(r));
	*ret = mc_steal_ptr(sk);
	return 0;
}

/* Sets what `change` says and takes the interface up. */
static int link_apply(struct nl_sock *sk, const char *ifname, struct rtnl_link *change,
	struct mc_error *err)
{
	_cleanup_(link_putp) struct rtnl_link *orig = rtnl_link_alloc();
	if (!orig)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	rtnl_link_set_ifindex(orig, (int)if_nametoindex(ifname));
	int r = rtnl_link_change(sk, orig, change, 0);
	return r < 0 ? nl_failed(err, r, "configure", ifname) : 0;
}

/* ---- the guest's tap ---- */

/* Runs in the tap's namespace. */
static int capture_open(const char *ifname, int *ret, struct mc_error *err)
{
	_cleanup_close_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot open a packet socket (%m): mcd needs root or CAP_NET_RAW, "
			"and a kernel with CONFIG_PACKET");
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
	struct sockaddr_ll sll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(ifname) };
	if (!sll.sll_ifindex || bind(fd, (struct sockaddr *)&sll, sizeof sll))
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot listen on the guest's tap %s: %m", ifname);
	*ret = mc_steal_fd(&fd);
	return 0;
}

struct guest_job {
	char ifname[IFNAMSIZ];
	int tap;  /* -1: make it */
	int sock;
};

static int guest_setup(void *arg, struct mc_error *err)
{
	struct guest_job *job = arg;
	_cleanup_close_ int made = -1, sock = -1;
	_cleanup_(socket_freep) struct nl_sock *sk = NULL;
	_cleanup_(link_putp) struct rtnl_link *change = rtnl_link_alloc();
	if (!change)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	int r;
	if (job->tap < 0 && (r = tap_create(job->ifname, &made, err)) < 0)
		return r;
	if ((r = ipv6_off(job->ifname, err)) < 0 || (r = netlink_open(&sk, err)) < 0)
		return r;
	rtnl_link_set_mtu(change, GUEST_MTU);
	rtnl_link_set_txqlen(change, QUEUE_LEN);
	rtnl_link_set_flags(change, IFF_UP | IFF_NOARP);
	if ((r = link_apply(sk, job->ifname, change, err)) < 0 ||
		(r = capture_open(job->ifname, &sock, err)) < 0)
		return r;
	job->sock = mc_steal_fd(&sock);
	if (job->tap < 0)
		job->tap = mc_steal_fd(&made);
	return 0;
}

int tap_open_guest(int *ret_tap, int *ret_sock, struct mc_error *err)
{
	struct guest_job job = { GUEST_IFNAME, -1, -1 };
	int r = in_namespace(-1, guest_setup, &job, err);
	if (r < 0)
		return r;
	*ret_tap = job.tap;
	*ret_sock = job.sock;
	return 0;
}

int tap_adopt_guest(int tap, int *ret_sock, struct mc_error *err)
{
	struct ifreq ifr = { 0 };
	if (ioctl(tap, TUNGETIFF, &ifr))
		return mc_error_set(err, -errno, MC_ECLASS_GUEST,
			"the descriptor taken from QEMU is not a tap (%m): this QEMU was not "
			"started by mcd");
	int want = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if ((ifr.ifr_flags & want) != want)
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %s has no vnet headers: this QEMU was not started by mcd",
			ifr.ifr_name);
	_cleanup_close_ int ns = ioctl(tap, TUNGETDEVNETNS);
	if (ns < 0)
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot find the namespace of QEMU's tap %s (%m): this needs Linux 5.3 and "
			"CAP_NET_ADMIN",
			ifr.ifr_name);
	struct stat theirs, ours;
	if (fstat(ns, &theirs) || stat("/proc/thread-self/ns/net", &ours))
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot compare namespaces: %m");
	/* A tap in the host's namespace has other ways out: its output was never held. */
	if (theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev)
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %s is in the host's own network namespace, where its output "
			"cannot be held: start the VM with mcd",
			ifr.ifr_name);
	struct guest_job job = { .tap = tap, .sock = -1 };
	memcpy(job.ifname, ifr.ifr_name, sizeof job.ifname);
	int r = in_namespace(ns, guest_setup, &job, err);
	if (r < 0)
		return r;
	*ret_sock = job.sock;
	return 0;
}

/* ---- the bridge's tap ---- */

static int find_bridge(struct nl_sock *sk, const char *bridge, int *ret_index, unsigned *ret_mtu,
	struct mc_error *err)
{
	_cleanup_(link_putp) struct rtnl_link *link = NULL;
	int r = rtnl_link_get_kernel(sk, 0, bridge, &link);
	if (r < 0)
		return mc_error_set(err, -ENODEV, MC_ECLASS_CONFIG,
			"the bridge %s was not found on this host (%s): create it, or correct "
			"'bridge' in the VM's [nic] section", bridge, nl_geterror(r));
	const char *type = rtnl_link_get_type(link);
	if (!type || strcmp(type, "bridge"))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s is not a Linux bridge: name a bridge in the VM's [nic] section",
			bridge);
	*ret_index = rtnl_link_get_ifindex(link);
	*ret_mtu = rtnl_link_get_mtu(link);
	return 0;
}

int tap_open_bridge(const char *ifname, const char *bridge, const uint8_t mac[6], int *ret_tap,
	struct mc_error *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_(socket_freep) struct nl_sock *sk = NULL;
	_cleanup_(link_putp) struct rtnl_link *change = rtnl_link_alloc();
	_cleanup_(link_putp) struct rtnl_link *up = rtnl_link_alloc();
	if (!change || !up)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	int r, index = 0;
	unsigned mtu = 0;
	if ((r = netlink_open(&sk, err)) < 0)
		return r;
	if (bridge[0] && (r = find_bridge(sk, bridge, &index, &mtu, err)) < 0)
		return r;
	if ((r = tap_create(ifname, &fd, err)) < 0 || (r = ipv6_off(ifname, err)) < 0)
		return r;
	int vnet = TAP_VNET_LEN;
	unsigned offload = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	if (ioctl(fd, TUNSETVNETHDRSZ, &vnet) ||
		(ioctl(fd, TUNSETOFFLOAD, offload | TUN_OFFLOAD_USO) &&
			ioctl(fd, TUNSETOFFLOAD, offload)))
		return mc_error_set(err, -errno, MC_ECLASS_KERNEL,
			"cannot set the offloads of the tap %s: %m", ifname);

	/* Not the guest's own MAC, or the bridge would take the guest's frames for the host's; and
	 * a high one, because a bridge takes the lowest MAC of its ports for its own. */
	uint8_t own[6];
	memcpy(own, mac, 6);
	own[0] = mac[0] == 0xfe ? 0xfa : 0xfe;
	struct nl_addr *addr = nl_addr_build(AF_LLC, own, 6);
	if (!addr)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	rtnl_link_set_addr(change, addr);
	nl_addr_put(addr);
	/* Before it joins: the MTU of a bridge follows the smallest of its ports. */
	if (mtu)
		rtnl_link_set_mtu(change, mtu);
	rtnl_link_set_txqlen(change, QUEUE_LEN);
	if ((r = link_apply(sk, ifname, change, err)) < 0)
		return r;
	if (index) {
		r = rtnl_link_enslave_ifindex(sk, index, (int)if_nametoindex(ifname));
		if (r < 0)
			return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
				"cannot join the tap %s to the bridge %s: %s", ifname, bridge,
				nl_geterror(r));
	}
	rtnl_link_set_flags(up, IFF_UP | IFF_NOARP);
	if ((r = link_apply(sk, ifname, up, err)) < 0)
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
