/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the plug backend needs of the host, and what former processes left behind. */
#include "netbuf/plug-internal.h"

#include "common/cleanup.h"
#include "netbuf/iface.h"
#include "netbuf/netns.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>
#include <unistd.h>

/* One frame that must stay, and go when it is let. */
static int hold_one(struct plug *p, struct mc_error *err)
{
	uint8_t frame[10 + ETH_ZLEN] = {0};
	struct plug_queue q = {0};
	struct plug_counters c = {0};
	memset(frame + 10, 0xff, 6);
	frame[16] = 2; /* from a locally administered address */
	frame[22] = 0x88;
	frame[23] = 0xb5; /* the ethertype for experiments */
	int r = plug_renew(p, 1 << 20, false, err);
	if (r == 0)
		r = plug_set_taps(p, true, err);
	if (r < 0)
		return r;
	if (write(p->nics[0].tap, frame, sizeof frame) != sizeof frame)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "a tap takes no frames: %m");
	r = plug_get_queue(p->ask, p->ifindex, &q, err);
	if (r == 0 && q.frames != 1)
		r = mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"this kernel's plug did not hold a frame sent into a tap: use netbuf = "
			"relay, and report this kernel");
	if (r == 0)
		r = plug_act(p->sk, p->ifindex, p->handle, PLUG_RELEASE_ALL, err);
	for (unsigned i = 0; r == 0 && c.tx_frames != 1 && i < 1000; i++) {
		usleep(100);
		r = plug_get_counters(p->ask, p->ifindex, &c, err);
	}
	if (r == 0 && c.tx_frames != 1)
		r = mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"this kernel's plug did not let a frame go: use netbuf = relay, and report "
			"this kernel");
	return r;
}

static int try_it(void *arg, struct mc_error *err)
{
	struct netbuf_nic nic = {.id = "net0", .mac = {2, 0, 0, 0, 0, 1}};
	struct netbuf_config cfg = {.vm = "probe", .nics = &nic, .n_nics = 1, .limit = 1 << 20};
	struct plug *p = arg;
	p->n_nics = 1;
	p->nics[0].tap = -1;
	plug_ifname(cfg.vm, p->ifname);
	memcpy(p->vm, "probe", sizeof "probe");
	int r = iface_netlink_open(&p->sk, err);
	if (r == 0)
		r = plug_ask_open(&p->ask, err);
	if (r == 0)
		r = plug_make(p, &cfg, err);
	if (r == 0)
		r = hold_one(p, err);
	mc_closep(&p->nics[0].tap); /* and with it the namespace, when this thread has ended */
	nl_socket_free(p->sk);
	nl_socket_free(p->ask);
	return r;
}

int plug_probe(struct mc_error *err)
{
	_cleanup_free_ struct plug *p = calloc(1, sizeof *p);
	if (!p)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	return netns_run(-1, try_it, p, err);
}

int netbuf_find_interfaces(
	struct netbuf_interface *ret, size_t cap, size_t *ret_n, struct mc_error *err)
{
	_cleanup_(iface_socket_freep) struct nl_sock *sk = NULL;
	struct nl_cache *links;
	size_t n = 0;
	int r = iface_netlink_open(&sk, err);
	if (r < 0)
		return r;
	r = rtnl_link_alloc_cache(sk, AF_UNSPEC, &links);
	if (r < 0)
		return mc_error_set(
			err, -EIO, MC_ECLASS_FAILED, "cannot list interfaces: %s", nl_geterror(r));
	for (struct nl_object *o = nl_cache_get_first(links); o && n < cap;
		o = nl_cache_get_next(o)) {
		struct rtnl_link *l = (struct rtnl_link *)o;
		const char *vm = plug_label_vm(rtnl_link_get_ifalias(l));
		if (!vm)
			continue;
		snprintf(ret[n].ifname, sizeof ret[n].ifname, "%s", rtnl_link_get_name(l));
		snprintf(ret[n].vm, sizeof ret[n].vm, "%s", vm);
		n++;
	}
	nl_cache_free(links);
	*ret_n = n;
	return 0;
}
