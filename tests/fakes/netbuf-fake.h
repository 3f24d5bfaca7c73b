/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network backend for tests of other modules, on both sides of the VM: the same rules and queues
 * as the relay's, in memory.  A test that links it opens it with backend = "fake"; no other program
 * knows that name.  All functions are thread-safe.
 */
#pragma once
#include "netbuf/netbuf.h"
#include <stdbool.h>
#include <sys/types.h>

#define NETBUF_FAKE_FRAME_MAX (64 * 1024)

enum netbuf_fake_op {
	NETBUF_FAKE_HOLD,
	NETBUF_FAKE_BARRIER,
	NETBUF_FAKE_RELEASE,
	NETBUF_FAKE_PASS,
	NETBUF_FAKE_SHUT,
	NETBUF_FAKE_ANNOUNCE,
	NETBUF_FAKE_OP_MAX,
};

/* The fake opened for that VM by the code under test, NULL if there is none. */
struct netbuf *netbuf_fake_find(const char *vm);

/* The guest sends.  0; -EAGAIN at the limit (nothing was taken; a real guest's frame would wait in
 * the kernel); -EMSGSIZE, -ENOMEM. */
int netbuf_fake_send(struct netbuf *nb, size_t nic, const void *frame, size_t len);
/* The oldest frame that came out on the network side, all NICs in order: its length (which may be
 * 0), or -EAGAIN if there is none, or -EMSGSIZE.  ret_nic and ret_epoch (0 = sent while open) may
 * be NULL. */
ssize_t netbuf_fake_take(
	struct netbuf *nb, void *buf, size_t size, size_t *ret_nic, uint64_t *ret_epoch);

/* The network sends to the guest: true if it passed. */
bool netbuf_fake_input(struct netbuf *nb, size_t nic, const void *frame, size_t len);

/* Who wants to see what is asked, of every fake: op before each call, by whoever calls (epoch: 0
 * where there is none), also if it is to fail; out for each frame that comes out, with the fake's
 * lock held, so it asks nothing of it.  NULL: nobody.  Not while a fake is in use. */
struct netbuf_fake_watcher {
	void (*op)(void *ctx, enum netbuf_fake_op op, uint64_t epoch);
	void (*out)(void *ctx, uint64_t epoch, const void *frame, size_t len);
	void *ctx;
};
void netbuf_fake_watch(const struct netbuf_fake_watcher *w);
const char *netbuf_fake_op_name(enum netbuf_fake_op op); /* "hold", ... */

/* Lets the call after `skip` more calls of that kind, and only that one, fail with -code. */
void netbuf_fake_fail(struct netbuf *nb, enum netbuf_fake_op op, unsigned skip, int code);
/* How often that call succeeded. */
unsigned netbuf_fake_calls(struct netbuf *nb, enum netbuf_fake_op op);
