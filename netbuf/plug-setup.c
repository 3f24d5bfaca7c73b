/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making, taking over and mending the interfaces of a plug.
 *
 * The order is the safety: at every moment a tap that is up leads into the ifb, and an ifb that is
 * up has a plug.  So when a process dies in the middle, what it leaves lets nothing out.
 */
#include "netbuf/plug-internal.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "netbuf/iface.h"
#include "netbuf/netns.h"
#include "netbuf/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIRST_HANDLE (1u << 16)

void plug_ifname(const char *vm, char ret[16])
{
	tap_ifname(vm, "", ret);
	ret[1] = 'q'; /* "mq-..." beside the taps' "mc-..." */
}

int plug_renew(struct plug *p, uint32_t limit, bool lossy, struct mc_error *err)
{
	struct plug_queue q = {0};
	int r = plug_get_queue(p->ask, p->ifindex, &q, err);
	if (r < 0)
		return r;
	/* Another handle makes it another qdisc: its counts begin at 0, as no command to the old
	 * one could make them. */
	uint32_t handle = q.is_plug && q.handle == FIRST_HANDLE ? 2 * FIRST_HANDLE : FIRST_HANDLE;
	r = plug_new_qdisc(p->sk, p->ifindex, handle, limit, err);
	if (r < 0)
		return r;
	p->handle = handle;
	p->dropped += q.frames + (lossy ? 0 : q.drops);
	p->lost_base += lossy ? q.drops : 0;
	return 0;
}

int plug_set_taps(struct plug *p, bool up, struct mc_error *err)
{
	int ret = 0;
	for (size_t i = 0; i < p->n_nics; i++) {
		if (!p->nics[i].ifindex)
			continue;
		int r = iface_set_up(p->sk, p->nics[i].ifname, up, ret < 0 ? NULL : err);
		if (r < 0)
			ret = r;
	}
	return ret;
}

/* Frames that another CPU would take from there could be counted to the wrong epoch. Not there in
 * another namespace than /sys was mounted in; then nobody has switched it on either. */
static void keep_on_one_cpu(const char *ifname)
{
	char path[80];
	snprintf(path, sizeof path, "/sys/class/net/%s/queues/rx-0/rps_cpus", ifname);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "0", 1) != 1)
		log_warn("cannot write %s: %m", path);
}

/* The ifb, up, with a plug in it that lets nothing in. */
static int make_ifb(struct plug *p, struct mc_error *err)
{
	bool ours;
	int r = plug_find_ifb(p->sk, p->ifname, &ours, err);
	if (r > 0 && ours) {
		log_notice("removing %s, which a former mcd left", p->ifname);
		plug_delete_ifb(p->sk, p->ifname);
	} else if (r > 0) {
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"the name %s, which mcd wants for the held output of VM %s, is taken by an "
			"interface that is not mcd's: rename that one",
			p->ifname, p->vm);
	}
	if (r < 0 || (r = plug_make_ifb(p->sk, p->ifname, p->vm, err)) < 0)
		return r;
	p->ifindex = (int)if_nametoindex(p->ifname);
	if ((r = plug_renew(p, 0, false, err)) < 0 ||
		(r = iface_set_up(p->sk, p->ifname, true, err)) < 0)
		return r;
	p->gone_base[0] = p->gone_base[1] = 0;
	return 0;
}

static int foreign(const struct plug_nic *n, bool strict, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	mc_error_set(&why, -EBUSY, MC_ECLASS_STATE,
		"%s has ingress filters or a qdisc that mcd did not make, past which output could "
		"escape: see 'tc qdisc show dev %s' and 'tc filter show dev %s ingress', and keep "
		"that program away from interfaces named mc-*",
		n->ifname, n->ifname, n->ifname);
	if (!strict)
		log_warn("%s", why.msg);
	else if (err)
		*err = why;
	return strict ? -EBUSY : 0;
}

static int fit_nic(struct plug *p, struct plug_nic *n, bool strict, struct mc_error *err)
{
	enum plug_redirect what;
	bool qdisc;
	int ifb, r = plug_get_redirect(p->sk, n->ifindex, &what, &qdisc, &ifb, err);
	if (r < 0)
		return r;
	if (what == PLUG_FOREIGN)
		return foreign(n, strict, err);
	if (what == PLUG_OURS && ifb == p->ifindex)
		return 0;
	if (what == PLUG_NONE)
		return plug_set_redirect(p->sk, n->ifindex, qdisc, p->ifindex, err);
	/* It leads to an ifb that is gone.  Down while it leads nowhere else. */
	unsigned flags = 0;
	struct ifreq ifr = {0};
	memcpy(ifr.ifr_name, n->ifname, sizeof n->ifname);
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &ifr) == 0)
		flags = (unsigned short)ifr.ifr_flags;
	r = iface_set_up(p->sk, n->ifname, false, err);
	if (r < 0)
		return r;
	plug_drop_redirect(p->sk, n->ifindex);
	r = plug_set_redirect(p->sk, n->ifindex, true, p->ifindex, err);
	if (r == 0 && (flags & IFF_UP))
		r = iface_set_up(p->sk, n->ifname, true, err);
	return r;
}

/* Before anything is changed: a hold that is refused leaves an open network open. */
static int check_nics(struct plug *p, struct mc_error *err)
{
	for (size_t i = 0; i < p->n_nics; i++) {
		enum plug_redirect what;
		bool qdisc;
		int ifb, r = plug_get_redirect(p->sk, p->nics[i].ifindex, &what, &qdisc, &ifb, err);
		if (r < 0)
			return r;
		if (what == PLUG_FOREIGN)
			return foreign(&p->nics[i], true, err);
	}
	return 0;
}

int plug_fit(struct plug *p, bool strict, struct mc_error *err)
{
	struct plug_queue q = {0};
	int r = strict ? check_nics(p, err) : 0;
	if (r < 0)
		return r;
	if ((int)if_nametoindex(p->ifname) != p->ifindex || !p->ifindex)
		r = make_ifb(p, err);
	else if ((r = plug_get_queue(p->ask, p->ifindex, &q, err)) == 0 &&
		 (!q.is_plug || q.handle != p->handle))
		r = plug_renew(p, 0, true, err);
	else if (r == 0 && p->broken[0])
		/* Perhaps it was taken down, which empties the plug and leaves its counts. */
		r = plug_renew(p, p->limit, true, err);
	if (r == 0 && p->broken[0])
		r = iface_set_up(p->sk, p->ifname, true, err);
	for (size_t i = 0; i < p->n_nics && r == 0; i++)
		r = fit_nic(p, &p->nics[i], strict, err);
	if (r == 0 && p->events && plug_watch_filter(p) < 0)
		r = mc_error_set(
			err, -EIO, MC_ECLASS_KERNEL, "cannot watch the interfaces of VM %s", p->vm);
	if (r == 0) {
		plug_watch_see(p); /* of our own mending, too */
		p->broken[0] = 0;
	}
	return r;
}

/* vhost-net without a copy would keep the guest's buffers until its frame has left the plug, and
 * QEMU's stop waits for them: for ever, since the frame waits for the checkpoint. */
static int check_vhost(struct mc_error *err)
{
	_cleanup_fclose_ FILE *f =
		fopen("/sys/module/vhost_net/parameters/experimental_zcopytx", "re");
	if (f && fgetc(f) == '1')
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"vhost_net is loaded with experimental_zcopytx=1, with which a VM whose "
			"output is held cannot be stopped: load it with 0, or use netbuf = relay");
	return 0;
}

int plug_make(struct plug *p, const struct netbuf_config *cfg, struct mc_error *err)
{
	int r = check_vhost(err);
	/* The taps first, because their names are the lock against another mcd; down, without a way
	 * anywhere. */
	for (size_t i = 0; i < p->n_nics && r == 0; i++) {
		struct plug_nic *n = &p->nics[i];
		tap_ifname(p->vm, cfg->nics[i].id, n->ifname);
		if ((r = iface_make_tap(n->ifname, &n->tap, err)) < 0)
			return r;
		n->ifindex = (int)if_nametoindex(n->ifname);
		if ((r = iface_ipv6_off(n->ifname, err)) < 0 ||
			(r = plug_label(p->sk, n->ifname, p->vm, err)) < 0)
			return r;
		keep_on_one_cpu(n->ifname);
	}
	if (r == 0)
		r = make_ifb(p, err);
	for (size_t i = 0; i < p->n_nics && r == 0; i++) {
		r = fit_nic(p, &p->nics[i], true, err);
		if (r == 0)
			r = iface_join_bridge(
				p->sk, p->nics[i].ifname, p->nics[i].bridge, p->nics[i].mac, err);
	}
	return r;
}

/* ---- what a former process left ---- */

static int take_nic(struct plug *p, const struct netbuf_nic *nic, struct plug_nic *n, int fd,
	struct mc_error *err)
{
	struct ifreq ifr = {0};
	char want[16];
	struct plug_counters c;
	n->tap = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (n->tap < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot keep QEMU's tap of NIC %s: %m", nic->id);
	if (ioctl(n->tap, TUNGETIFF, &ifr))
		return mc_error_set(err, -errno, MC_ECLASS_GUEST,
			"the descriptor taken from QEMU is not a tap (%m): this QEMU was not "
			"started by mcd");
	if (!(ifr.ifr_flags & IFF_VNET_HDR))
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %.15s has no vnet headers: this QEMU was not started by mcd",
			ifr.ifr_name);
	tap_ifname(p->vm, nic->id, want);
	if (strcmp(want, ifr.ifr_name))
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"QEMU's tap %.15s is in the host's own network namespace and not one that "
			"mcd made for NIC %s, so its output cannot be held: start the VM with mcd",
			ifr.ifr_name, nic->id);
	memcpy(n->ifname, want, sizeof n->ifname);
	n->ifindex = (int)if_nametoindex(want);
	int r = plug_get_counters(p->ask, n->ifindex, &c, err);
	if (r == 0) {
		n->input_base[0] = c.tx_frames;
		n->input_base[1] = c.tx_bytes;
	}
	return r;
}

int plug_take(
	struct plug *p, const struct netbuf_config *cfg, const int *guest_fds, struct mc_error *err)
{
	struct plug_queue q = {0};
	struct plug_counters c = {0};
	bool ours = false;
	int r = plug_find_ifb(p->sk, p->ifname, &ours, err);
	if (r < 0)
		return r;
	if (r > 0 && ours) {
		p->ifindex = r;
		if ((r = plug_get_queue(p->ask, p->ifindex, &q, err)) < 0 ||
			(r = plug_get_counters(p->ask, p->ifindex, &c, err)) < 0)
			return r;
		p->handle = q.handle;
		/* Before all else: if it was open, it is not from here on.  If frames of an epoch
		 * that was released are still leaving, they go on. */
		if (q.is_plug && (r = plug_act(p->sk, p->ifindex, p->handle, PLUG_BUFFER, err)) < 0)
			return r;
		p->gone_base[0] = c.rx_frames;
		p->gone_base[1] = c.rx_bytes;
	}
	for (size_t i = 0; i < p->n_nics; i++)
		if ((r = take_nic(p, &cfg->nics[i], &p->nics[i], guest_fds[i], err)) < 0)
			return r;
	p->adopted = true;
	if (q.drops)
		log_warn("VM %s: %llu frames of its output were lost before this mcd took it over",
			p->vm, (unsigned long long)q.drops);
	return plug_fit(p, true, err);
}
