/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the plug backend says to the kernel: one function for each thing said, by netlink.
 *
 *   guest --write--> tap --ingress: matchall, redirect--> ifb --root: plug--> back into the tap's
 *   receive path, behind its ingress --> bridge
 *
 * The kernel's plug (net/sched/sch_plug.c) counts frames: those of the running epoch, those of the
 * last closed one, those to be let out.  Each of the three calls below moves the counts; none of
 * them is locked against the frames that pass meanwhile, nor are the counts reset with the queue.
 * plug.c is written around that.
 */
#pragma once
#include "common/error.h"
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdint.h>

struct plug_queue {             /* of an ifb */
	bool is_plug;           /* its root qdisc is a plug; else the rest is 0 */
	uint32_t handle;        /* (major << 16) */
	uint64_t frames, bytes; /* waiting now; bytes on the wire */
	uint64_t drops;         /* refused at the limit, since this qdisc was made */
};

struct plug_counters {                /* of an interface, since it was made */
	uint64_t rx_frames, rx_bytes; /* of an ifb: that its qdisc let go */
	uint64_t tx_frames, tx_bytes; /* of an ifb: that it gave back to the tap; of a tap: input */
};

enum plug_action { PLUG_BUFFER, PLUG_RELEASE_ONE, PLUG_RELEASE_ALL };

/* A socket for questions, which are answered within the call; for the plug_get_* only. */
int plug_ask_open(struct nl_sock **ret, struct mc_error *err);

/* The interface's number, 0 if there is none of that name. ret_ours: it is an ifb that a netbuf
 * made. */
int plug_find_ifb(struct nl_sock *sk, const char *ifname, bool *ret_ours, struct mc_error *err);
/* Makes an ifb, down, without a way out as long as it is. */
int plug_make_ifb(struct nl_sock *sk, const char *ifname, const char *vm, struct mc_error *err);
void plug_delete_ifb(struct nl_sock *sk, const char *ifname);
/* Notes on an interface whose it is; reads that (NULL: not ours). */
const char *plug_label_vm(const char *alias);
int plug_label(struct nl_sock *sk, const char *ifname, const char *vm, struct mc_error *err);

/* Puts a new, plugged plug with that limit in place of the ifb's qdisc, dropping what that holds.
 * The handle must differ from the old one's, or the old one would merely be changed. */
int plug_new_qdisc(
	struct nl_sock *sk, int ifb, uint32_t handle, uint32_t limit, struct mc_error *err);
int plug_set_limit(
	struct nl_sock *sk, int ifb, uint32_t handle, uint32_t limit, struct mc_error *err);
int plug_act(
	struct nl_sock *sk, int ifb, uint32_t handle, enum plug_action what, struct mc_error *err);

/* The way from the tap into the ifb. */
enum plug_redirect { PLUG_NONE, PLUG_OURS, PLUG_FOREIGN };
/* What is on the tap's ingress. ret_ifb: where ours leads to (-1: that
 * is gone), ret_qdisc: there is an ingress qdisc. */
int plug_get_redirect(struct nl_sock *sk, int tap, enum plug_redirect *ret, bool *ret_qdisc,
	int *ret_ifb, struct mc_error *err);
int plug_set_redirect(struct nl_sock *sk, int tap, bool have_qdisc, int ifb, struct mc_error *err);
void plug_drop_redirect(struct nl_sock *sk, int tap); /* the filter only */

int plug_get_queue(struct nl_sock *ask, int ifb, struct plug_queue *ret, struct mc_error *err);
int plug_get_counters(
	struct nl_sock *ask, int ifindex, struct plug_counters *ret, struct mc_error *err);
