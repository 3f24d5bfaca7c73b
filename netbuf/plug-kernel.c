/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/plug-kernel.h"

#include "common/cleanup.h"
#include "netbuf/iface.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/route/act/mirred.h>
#include <netlink/route/action.h>
#include <netlink/route/classifier.h>
#include <netlink/route/cls/matchall.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/qdisc/plug.h>
#include <netlink/route/tc.h>
#include <stdio.h>
#include <string.h>

#define LABEL       "mcd: output of VM "
#define INGRESS     0xffff0000u
#define FILTER_PRIO 1

static int no_memory(struct mc_error *err)
{
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
}

static void qdisc_putp(struct rtnl_qdisc **q)
{
	if (*q)
		rtnl_qdisc_put(*q);
}
static void cls_putp(struct rtnl_cls **c)
{
	if (*c)
		rtnl_cls_put(*c);
}
static void act_putp(struct rtnl_act **a)
{
	if (*a)
		rtnl_act_put(*a);
}
static void cache_freep(struct nl_cache **c)
{
	nl_cache_free(*c);
}

static const char *class_of(int nlerr)
{
	return nlerr == -NLE_PERM    ? MC_ECLASS_PERMISSION
	       : nlerr == -NLE_NOMEM ? MC_ECLASS_MEMORY
				     : MC_ECLASS_KERNEL;
}

/* A module that is not there shows as "no such file or object". */
static int failed(struct mc_error *err, int nlerr, const char *what, const char *module)
{
	bool missing = nlerr == -NLE_OBJ_NOTFOUND || nlerr == -NLE_OPNOTSUPP;
	return mc_error_set(err, missing ? -ENOTSUP : -EIO, class_of(nlerr), "cannot %s: %s%s%s%s",
		what, nl_geterror(nlerr), missing && module ? "; try 'modprobe " : "",
		missing && module ? module : "",
		missing && module ? "', or use a kernel that has it, such as a distribution's (not "
				    "its cloud variant), or netbuf = relay"
				  : "");
}

/* ---- the ifb ---- */

int plug_find_ifb(struct nl_sock *sk, const char *ifname, bool *ret_ours, struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *link = NULL;
	int r = rtnl_link_get_kernel(sk, 0, ifname, &link);
	if (r == -NLE_OBJ_NOTFOUND || r == -NLE_NODEV)
		return 0;
	if (r < 0)
		return failed(err, r, "look for the VM's ifb", NULL);
	const char *type = rtnl_link_get_type(link), *label = rtnl_link_get_ifalias(link);
	/* Without a label: its maker died between two steps. */
	*ret_ours = type && !strcmp(type, "ifb") && (!label || !*label || plug_label_vm(label));
	return rtnl_link_get_ifindex(link);
}

const char *plug_label_vm(const char *alias)
{
	return alias && !strncmp(alias, LABEL, strlen(LABEL)) ? alias + strlen(LABEL) : NULL;
}

int plug_label(struct nl_sock *sk, const char *ifname, const char *vm, struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *change = rtnl_link_alloc();
	char label[200];
	if (!change)
		return no_memory(err);
	snprintf(label, sizeof label, LABEL "%s", vm);
	rtnl_link_set_ifalias(change, label);
	return iface_apply(sk, ifname, change, err);
}

int plug_make_ifb(struct nl_sock *sk, const char *ifname, const char *vm, struct mc_error *err)
{
	_cleanup_(iface_link_putp) struct rtnl_link *link = rtnl_link_alloc();
	if (!link)
		return no_memory(err);
	rtnl_link_set_name(link, ifname);
	rtnl_link_set_txqlen(link, IFACE_QUEUE_LEN);
	int r = rtnl_link_set_type(link, "ifb");
	if (r == 0)
		r = rtnl_link_add(sk, link, NLM_F_CREATE | NLM_F_EXCL);
	if (r == -NLE_EXIST)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"an interface %s exists already: another mcd on this host runs the same "
			"VM, or took the name first; see 'ip link show %s'",
			ifname, ifname);
	if (r < 0)
		return failed(err, r, "make an ifb interface", "ifb");
	/* Its own chatter would be queued among the guest's frames. */
	r = iface_ipv6_off(ifname, err);
	return r < 0 ? r : plug_label(sk, ifname, vm, err);
}

void plug_delete_ifb(struct nl_sock *sk, const char *ifname)
{
	_cleanup_(iface_link_putp) struct rtnl_link *link = rtnl_link_alloc();
	if (!link)
		return;
	rtnl_link_set_name(link, ifname);
	rtnl_link_delete(sk, link);
}

/* ---- the plug ---- */

static struct rtnl_qdisc *qdisc_of(int ifindex, uint32_t parent, uint32_t handle, const char *kind)
{
	struct rtnl_qdisc *q = rtnl_qdisc_alloc();
	if (!q)
		return NULL;
	rtnl_tc_set_ifindex(TC_CAST(q), ifindex);
	rtnl_tc_set_parent(TC_CAST(q), parent);
	rtnl_tc_set_handle(TC_CAST(q), handle);
	rtnl_tc_set_kind(TC_CAST(q), kind);
	return q;
}

static int say(
	struct nl_sock *sk, struct rtnl_qdisc *q, int flags, const char *what, struct mc_error *err)
{
	int r = rtnl_qdisc_add(sk, q, flags);
	return r < 0 ? failed(err, r, what, "sch_plug") : 0;
}

int plug_new_qdisc(
	struct nl_sock *sk, int ifb, uint32_t handle, uint32_t limit, struct mc_error *err)
{
	_cleanup_(qdisc_putp) struct rtnl_qdisc *q = qdisc_of(ifb, TC_H_ROOT, handle, "plug");
	if (!q)
		return no_memory(err);
	/* The limit comes with the making: without one a plug refuses every frame, silently. */
	rtnl_qdisc_plug_set_limit(q, (int)limit);
	return say(sk, q, NLM_F_CREATE | NLM_F_REPLACE, "make a plug that holds output", err);
}

int plug_set_limit(
	struct nl_sock *sk, int ifb, uint32_t handle, uint32_t limit, struct mc_error *err)
{
	_cleanup_(qdisc_putp) struct rtnl_qdisc *q = qdisc_of(ifb, TC_H_ROOT, handle, "plug");
	if (!q)
		return no_memory(err);
	rtnl_qdisc_plug_set_limit(q, (int)limit);
	return say(sk, q, 0, "set the limit of held output", err);
}

int plug_act(
	struct nl_sock *sk, int ifb, uint32_t handle, enum plug_action what, struct mc_error *err)
{
	_cleanup_(qdisc_putp) struct rtnl_qdisc *q = qdisc_of(ifb, TC_H_ROOT, handle, "plug");
	if (!q)
		return no_memory(err);
	switch (what) {
	case PLUG_BUFFER:
		rtnl_qdisc_plug_buffer(q);
		return say(sk, q, 0, "hold the VM's output", err);
	case PLUG_RELEASE_ONE:
		rtnl_qdisc_plug_release_one(q);
		return say(sk, q, 0, "release an epoch's output", err);
	case PLUG_RELEASE_ALL:
		rtnl_qdisc_plug_release_indefinite(q);
		return say(sk, q, 0, "open the VM's network", err);
	}
	return -EINVAL;
}

/* ---- the redirection ---- */

static bool is_ours(struct rtnl_cls *c, int *ret_ifb)
{
	const char *kind = rtnl_tc_get_kind(TC_CAST(c));
	if (!kind || strcmp(kind, "matchall") || rtnl_cls_get_prio(c) != FILTER_PRIO)
		return false;
	struct rtnl_act *a = rtnl_mall_get_first_action(c); /* with a reference */
	if (!a)
		return true; /* the kernel lists a priority once by itself, without filter */
	const char *act = rtnl_tc_get_kind(TC_CAST(a));
	bool ours = act && !strcmp(act, "mirred") &&
		    rtnl_mirred_get_action(a) == TCA_EGRESS_REDIR && !rtnl_act_next(a);
	if (ours) /* 0 in the kernel: it is gone */
		*ret_ifb = rtnl_mirred_get_ifindex(a) ? (int)rtnl_mirred_get_ifindex(a) : -1;
	rtnl_act_put(a);
	return ours;
}

int plug_get_redirect(struct nl_sock *sk, int tap, enum plug_redirect *ret, bool *ret_qdisc,
	int *ret_ifb, struct mc_error *err)
{
	_cleanup_(cache_freep) struct nl_cache *qdiscs = NULL, *filters = NULL;
	bool ingress = false, foreign = false;
	int ifb = 0, r = rtnl_qdisc_alloc_cache(sk, &qdiscs);
	if (r < 0)
		return failed(err, r, "list queueing disciplines", NULL);
	for (struct nl_object *o = nl_cache_get_first(qdiscs); o; o = nl_cache_get_next(o)) {
		struct rtnl_tc *q = (struct rtnl_tc *)o;
		const char *kind = rtnl_tc_get_kind(q);
		if (rtnl_tc_get_ifindex(q) != tap || rtnl_tc_get_parent(q) != TC_H_INGRESS || !kind)
			continue;
		if (!strcmp(kind, "ingress"))
			ingress = true;
		else
			foreign = true;
	}
	if (ingress) {
		r = rtnl_cls_alloc_cache(sk, tap, INGRESS, &filters);
		if (r < 0)
			return failed(err, r, "list the filters of a tap", NULL);
		for (struct nl_object *o = nl_cache_get_first(filters); o; o = nl_cache_get_next(o))
			foreign = foreign || !is_ours((struct rtnl_cls *)o, &ifb);
	}
	*ret = foreign ? PLUG_FOREIGN : ifb ? PLUG_OURS : PLUG_NONE;
	*ret_qdisc = ingress;
	*ret_ifb = ifb;
	return 0;
}

int plug_set_redirect(struct nl_sock *sk, int tap, bool have_qdisc, int ifb, struct mc_error *err)
{
	_cleanup_(qdisc_putp) struct rtnl_qdisc *q =
		qdisc_of(tap, TC_H_INGRESS, INGRESS, "ingress");
	_cleanup_(cls_putp) struct rtnl_cls *c = rtnl_cls_alloc();
	_cleanup_(act_putp) struct rtnl_act *a = rtnl_act_alloc();
	if (!q || !c || !a)
		return no_memory(err);
	int r = have_qdisc ? 0 : rtnl_qdisc_add(sk, q, NLM_F_CREATE | NLM_F_EXCL);
	if (r < 0)
		return failed(err, r, "look into what the guest sends", "sch_ingress");
	rtnl_tc_set_kind(TC_CAST(a), "mirred");
	rtnl_mirred_set_action(a, TCA_EGRESS_REDIR);
	rtnl_mirred_set_policy(a, TC_ACT_STOLEN);
	rtnl_mirred_set_ifindex(a, (uint32_t)ifb);
	rtnl_tc_set_ifindex(TC_CAST(c), tap);
	rtnl_tc_set_parent(TC_CAST(c), INGRESS);
	rtnl_tc_set_kind(TC_CAST(c), "matchall");
	rtnl_cls_set_prio(c, FILTER_PRIO);
	/* All: a filter for IP would let ARP and IPv6 escape. */
	rtnl_cls_set_protocol(c, ETH_P_ALL);
	r = rtnl_mall_append_action(c, a);
	if (r == 0)
		r = rtnl_cls_add(sk, c, NLM_F_CREATE | NLM_F_EXCL);
	return r < 0 ? failed(err, r, "redirect what the guest sends", "-a cls_matchall act_mirred")
		     : 0;
}

void plug_drop_redirect(struct nl_sock *sk, int tap)
{
	_cleanup_(cls_putp) struct rtnl_cls *c = rtnl_cls_alloc();
	if (!c)
		return;
	rtnl_tc_set_ifindex(TC_CAST(c), tap);
	rtnl_tc_set_parent(TC_CAST(c), INGRESS);
	rtnl_tc_set_kind(TC_CAST(c), "matchall");
	rtnl_cls_set_prio(c, FILTER_PRIO);
	rtnl_cls_set_protocol(c, ETH_P_ALL);
	rtnl_cls_delete(sk, c, 0);
}

/* ---- numbers: one question, one answer, nothing allocated but the question ---- */

int plug_ask_open(struct nl_sock **ret, struct mc_error *err)
{
	int r = iface_netlink_open(ret, err);
	if (r == 0)
		nl_socket_disable_msg_peek(*ret); /* the answers are short */
	return r;
}

static int end_of_answer(struct nl_msg *msg, void *arg)
{
	*(bool *)arg = true;
	return NL_STOP;
}

/* `take` is called with the answer, unless that is empty: a qdisc of the kernel's own has none.
 * Without ECHO the answer about a qdisc goes to all who listen for changes, and not to who asked.
 */
static int ask(struct nl_sock *sk, int type, void *head, size_t len,
	int (*take)(struct nl_msg *msg, void *arg), void *arg)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO);
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	bool ended = false;
	int r = msg && cb ? nlmsg_append(msg, head, len, NLMSG_ALIGNTO) : -NLE_NOMEM;
	if (r == 0)
		r = nl_send_auto(sk, msg);
	if (r >= 0)
		r = nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, take, arg);
	if (r == 0)
		r = nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, end_of_answer, &ended);
	while (r >= 0 && !ended)
		r = nl_recvmsgs(sk, cb);
	nlmsg_free(msg);
	nl_cb_put(cb);
	return r < 0 ? r : 0;
}

static int take_queue(struct nl_msg *msg, void *arg)
{
	struct plug_queue *q = arg;
	struct nlattr *at[TCA_MAX + 1], *st[TCA_STATS_MAX + 1];
	struct nlmsghdr *h = nlmsg_hdr(msg);
	if (h->nlmsg_type != RTM_NEWQDISC || !nlmsg_valid_hdr(h, sizeof(struct tcmsg)) ||
		nlmsg_parse(h, sizeof(struct tcmsg), at, TCA_MAX, NULL) < 0 || !at[TCA_KIND])
		return NL_SKIP;
	q->is_plug = !nla_strcmp(at[TCA_KIND], "plug");
	q->handle = ((struct tcmsg *)nlmsg_data(h))->tcm_handle;
	if (!q->is_plug || !at[TCA_STATS2] ||
		nla_parse_nested(st, TCA_STATS_MAX, at[TCA_STATS2], NULL) < 0 ||
		!st[TCA_STATS_QUEUE])
		return NL_OK;
	struct gnet_stats_queue s = {0};
	nla_memcpy(&s, st[TCA_STATS_QUEUE], sizeof s);
	q->frames = s.qlen;
	q->bytes = s.backlog;
	q->drops = s.drops;
	return NL_OK;
}

int plug_get_queue(struct nl_sock *sk, int ifb, struct plug_queue *ret, struct mc_error *err)
{
	struct tcmsg t = {.tcm_family = AF_UNSPEC, .tcm_ifindex = ifb, .tcm_parent = TC_H_ROOT};
	struct plug_queue q = {0};
	int r = ask(sk, RTM_GETQDISC, &t, sizeof t, take_queue, &q);
	if (r < 0)
		return failed(err, r, "look at the held output", NULL);
	*ret = q;
	return 0;
}

static int take_counters(struct nl_msg *msg, void *arg)
{
	struct plug_counters *c = arg;
	struct nlattr *at[IFLA_STATS_MAX + 1];
	struct nlmsghdr *h = nlmsg_hdr(msg);
	struct rtnl_link_stats64 s = {0};
	if (h->nlmsg_type != RTM_NEWSTATS ||
		nlmsg_parse(h, sizeof(struct if_stats_msg), at, IFLA_STATS_MAX, NULL) < 0 ||
		!at[IFLA_STATS_LINK_64])
		return NL_SKIP;
	nla_memcpy(&s, at[IFLA_STATS_LINK_64], sizeof s);
	*c = (struct plug_counters){s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes};
	return NL_OK;
}

int plug_get_counters(
	struct nl_sock *sk, int ifindex, struct plug_counters *ret, struct mc_error *err)
{
	struct if_stats_msg m = {.ifindex = (uint32_t)ifindex,
		.filter_mask = IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)};
	struct plug_counters c = {0};
	int r = ask(sk, RTM_GETSTATS, &m, sizeof m, take_counters, &c);
	if (r < 0)
		return failed(err, r, "read an interface's counters", NULL);
	*ret = c;
	return 0;
}
