/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest, a relay and a network to test it on, in a network namespace of the test's own.
 *
 * Frames carry a 32-bit number in their first payload bytes, so that order and origin show.
 */
#pragma once
#include "netbuf/netbuf.h"
#include <linux/virtio_net.h>
#include <stdbool.h>

#define MIB (1024 * 1024)

/* A call with &err_ as its last argument, which must not fail; after <cmocka.h>. */
#define OK(call)                                                                                   \
	do {                                                                                       \
		struct mc_error err_ = MC_ERROR_INIT;                                              \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err_.msg);                                       \
	} while (0)

#define TN_FRAME_MAX 70000
#define TN_LOCAL     0x88b5 /* for experiments; what claims to be IP is inspected by bridges */

/* The backend that tn_enter probes and tn_open opens: "relay" unless the test says otherwise. */
extern const char *tn_backend;

/* cmocka group setup: enters a new namespace; ends the program with 77 if that is not possible. */
int tn_enter(void **state);
/* The same, with bridge br0, whose port v0 leads to v1, where a test hears what leaves. */
int tn_enter_bridge(void **state);
/* Runs a command (ip ...) in it; the test fails if the command does. */
void tn_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct tn {
	struct netbuf *nb;
	struct netbuf_nic nics[2];
	struct netbuf_config cfg;
	char ifname[2][16];
	int watch; /* sees what comes into all interfaces of the namespace, in order */
	_Atomic int pressed;
};
/* Opens a relay with n NICs, on `bridge` ("" = none); the watch sees frames that leave the host, or
 * on a bridge all that enter `watch_if`. */
struct tn *tn_open(size_t n, const char *bridge, uint64_t limit, const char *watch_if);
void tn_close(struct tn *t);

/* A frame as seen on an interface; data starts at the MACs and has its VLAN tag inside. */
struct tn_frame {
	size_t nic; /* index in tn.nics by interface, 99 if none */
	struct virtio_net_hdr vnet;
	bool tagged;
	uint16_t tci;
	size_t len;
	uint8_t data[TN_FRAME_MAX];
};

/* Builds an Ethernet frame of len bytes (>= 18) with the number behind the ethertype. */
void tn_build(uint8_t *buf, size_t len, const uint8_t dst[6], uint16_t ethertype, uint32_t number);
uint32_t tn_number(const struct tn_frame *f);
extern const uint8_t tn_broadcast[6], tn_mac[6], tn_peer[6];

/* The guest's end. */
void tn_guest_raw(
	int fd, const struct virtio_net_hdr *h, size_t hlen, const uint8_t *f, size_t len);
void tn_send(struct tn *t, size_t nic, uint32_t number); /* one small frame */
bool tn_guest_read(int fd, struct tn_frame *ret, int timeout_ms);

/* The network's end. */
int tn_watch(const char *ifname); /* NULL: all interfaces */
bool tn_read(struct tn *t, struct tn_frame *ret, int timeout_ms);
void tn_inject(const char *ifname, const struct virtio_net_hdr *h, const uint8_t *f, size_t len);

/* Expects exactly this frame next / that nothing has come. */
void tn_expect(struct tn *t, size_t nic, uint32_t number);
void tn_expect_none(struct tn *t);
/* Waits until so many frames are held. */
void tn_wait_held(struct tn *t, uint64_t frames);
struct netbuf_stats tn_stats(struct tn *t);
int tn_pressed(struct tn *t); /* calls of pressure() */

/* An IPv4 TCP segment to be cut into pieces of `mss`; returns its length. */
size_t tn_build_tso(
	uint8_t *buf, size_t payload, uint16_t mss, bool vlan, struct virtio_net_hdr *ret);
