/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two taps of a NIC and the namespace that the guest's one is locked up in.
 *
 * The guest's tap lives in a network namespace of its own, without addresses, routes or other
 * interfaces: what the guest sends can go nowhere but to the AF_PACKET socket bound to it.
 * The bridge's tap lives in the caller's namespace; it vanishes when its descriptor is closed, so
 * also when this process dies.
 */
#pragma once
#include "common/error.h"
#include <stdint.h>

#define TAP_VNET_LEN 10 /* struct virtio_net_hdr, in front of every frame on our side */

/* Makes a guest tap in a new namespace (which lives as long as a descriptor of the tap does).
 * ret_sock: AF_PACKET, non-blocking, with vnet headers, sees only what the guest sends. */
int tap_open_guest(int *ret_tap, int *ret_sock, struct mc_error *err);
/* The socket for a guest tap that already exists. */
int tap_adopt_guest(int tap, int *ret_sock, struct mc_error *err);

/* Makes a bridge tap, non-blocking, joined to the bridge unless that is "", and up. */
int tap_open_bridge(const char *ifname, const char *bridge, const uint8_t mac[6], int *ret_tap,
	struct mc_error *err);

/* "mc-" and 12 hex digits from the names of the VM and the NIC. */
void tap_ifname(const char *vm, const char *nic, char ret[16]);
