/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Setting up network interfaces in the caller's namespace: what both real backends need. */
#pragma once
#include "common/error.h"
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <stdint.h>

#define IFACE_QUEUE_LEN 10000 /* frames for a guest that is paused for a checkpoint */

int iface_netlink_open(struct nl_sock **ret, struct mc_error *err);
/* For _cleanup_. */
void iface_socket_freep(struct nl_sock **sk);
void iface_link_putp(struct rtnl_link **l);

/* Makes a tap, non-blocking, with vnet headers.  It is gone with the last descriptor of it. */
int iface_make_tap(const char *ifname, int *ret, struct mc_error *err);
/* Must come before the interface is up: an IPv6 stack on it would send frames of its own, which
 * are not the guest's and not the network's. */
int iface_ipv6_off(const char *ifname, struct mc_error *err);
/* Sets what `change` says. */
int iface_apply(
	struct nl_sock *sk, const char *ifname, struct rtnl_link *change, struct mc_error *err);
/* Takes it up or down. */
int iface_set_up(struct nl_sock *sk, const char *ifname, int up, struct mc_error *err);
/* Gives a port of the bridge for `mac`, still down, its address, MTU and queue, and joins it to the
 * bridge unless that is "". */
int iface_join_bridge(struct nl_sock *sk, const char *ifname, const char *bridge,
	const uint8_t mac[6], struct mc_error *err);
