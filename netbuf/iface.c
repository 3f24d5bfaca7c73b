/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/iface.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

void iface_socket_freep(struct nl_sock **sk)
{
	nl_socket_free(*sk);
}

void iface_link_putp(struct rtnl_link **l)
{
	if (*l)
		rtnl_link_put(*l);
}

static int no_memory(struct mc_error *err)
{
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
}

int iface_netlink_open(struct nl_sock **ret, struct mc_error *err)
{
	_cleanup_(iface_socket_freep) struct nl_sock *sk = nl_socket_alloc();
	if (!sk)
		return no_memory(err);
	int r = nl_connect(sk, NETLINK_ROUTE);
	if (r < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_KERNEL, "cannot open a netlink socket: %s",
			nl_geterror(r));
	*ret = mc_steal_ptr(sk);
	return 0;
}

int iface_make_tap(const char *ifname, int *ret, struct mc_error *err)
{
	_cleanup_close_ int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return mc_error_set(err, -errno,
			errno == EACCES || errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot open /dev/net/tun (%m): load the module (modprobe tun) and give "
			"mcd access");
	/* EXCL: a persistent tap that somebody made under this name is not ours to use. */
	struct ifreq ifr = {
		.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL)};
	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", ifname);
	if (ioctl(fd, TUNSETIFF, &ifr)) {
		if (errno == EBUSY || errno == EEXIST || errno == EINVAL)
			return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
				"the tap %s exists already: another mcd on this host, or a QEMU "
				"that one left, runs the same VM; stop that one first",
				ifname);
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_FAILED,
			"cannot make the tap %s (%m): mcd needs root or CAP_NET_ADMIN", ifname);
	}
	*ret = mc_steal_fd(&fd);
	return 0;
}

int iface_ipv6_off(const char *ifname, struct mc_error *err)
{
	char path[80];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", ifname);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) /* no IPv6 at all */
		return 0;
	if (fd < 0 || write(fd, "1", 1) != 1)
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"cannot write %s (%m): mcd needs root and a writable /proc/sys "
			"(ProtectKernelTunables=no in its systemd unit)",
			path);
	return 0;
}

int iface_apply(
	struct nl_sock *sk, const char *ifname, struct rtnl_link *change, struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *orig = rtnl_link_alloc();
	if (!orig)
		return no_memory(err);
	rtnl_link_set_ifindex(orig, (int)if_nametoindex(ifname));
	int r = rtnl_link_change(sk, orig, change, 0);
	if (r < 0)
		return mc_error_set(err, -EIO,
			r == -NLE_PERM ? MC_ECLASS_PERMISSION : MC_ECLASS_FAILED,
			"cannot configure interface %s: %s", ifname, nl_geterror(r));
	return 0;
}

int iface_set_up(struct nl_sock *sk, const char *ifname, int up, struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *change = rtnl_link_alloc();
	if (!change)
		return no_memory(err);
	if (up)
		rtnl_link_set_flags(change, IFF_UP | IFF_NOARP);
	else
		rtnl_link_unset_flags(change, IFF_UP);
	return iface_apply(sk, ifname, change, err);
}

static int find_bridge(struct nl_sock *sk, const char *bridge, int *ret_index, unsigned *ret_mtu,
	struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *link = NULL;
	int r = rtnl_link_get_kernel(sk, 0, bridge, &link);
	if (r < 0)
		return mc_error_set(err, -ENODEV, MC_ECLASS_CONFIG,
			"the bridge %s was not found on this host (%s): create it, or correct "
			"'bridge' in the VM's [nic] section",
			bridge, nl_geterror(r));
	const char *type = rtnl_link_get_type(link);
	if (!type || strcmp(type, "bridge"))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s is not a Linux bridge: name a bridge in the VM's [nic] section",
			bridge);
	*ret_index = rtnl_link_get_ifindex(link);
	*ret_mtu = rtnl_link_get_mtu(link);
	return 0;
}

int iface_join_bridge(struct nl_sock *sk, const char *ifname, const char *bridge,
	const uint8_t mac[6], struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *change = rtnl_link_alloc();
	int r, index = 0;
	unsigned mtu = 0;
	if (!change)
		return no_memory(err);
	if (bridge[0] && (r = find_bridge(sk, bridge, &index, &mtu, err)) < 0)
		return r;
	/* Not the guest's own MAC, or the bridge would take the guest's frames for the host's; and
	 * a high one, because a bridge takes the lowest MAC of its ports for its own. */
	uint8_t own[6];
	memcpy(own, mac, 6);
	own[0] = mac[0] == 0xfe ? 0xfa : 0xfe;
	struct nl_addr *addr = nl_addr_build(AF_LLC, own, 6);
	if (!addr)
		return no_memory(err);
	rtnl_link_set_addr(change, addr);
	nl_addr_put(addr);
	/* Before it joins: the MTU of a bridge follows the smallest of its ports. */
	if (mtu)
		rtnl_link_set_mtu(change, mtu);
	rtnl_link_set_txqlen(change, IFACE_QUEUE_LEN);
	if ((r = iface_apply(sk, ifname, change, err)) < 0)
		return r;
	if (!index)
		return 0;
	r = rtnl_link_enslave_ifindex(sk, index, (int)if_nametoindex(ifname));
	if (r < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
			"cannot join the tap %s to the bridge %s: %s", ifname, bridge,
			nl_geterror(r));
	return 0;
}
