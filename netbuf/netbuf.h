/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's network output, held per epoch.
 *
 * A netbuf is CLOSED (nothing passes in either direction: a standby, a loser), OPEN (everything
 * passes: this host owns the VM and it is not protected) or HOLDING (input passes; output is kept
 * until the epoch that caused it is released).  It starts CLOSED.  No error path ever opens it.
 *
 * If this process dies, what is held is never let out by itself.  With the relay nothing passes any
 * more in any state, and what was held is gone.  With the plug the kernel goes on as it was told
 * last: held output stays held and grows until its limit, and an OPEN one stays open.  That is as
 * safe: it was opened because a decided record makes this host owner and names nobody beside, and
 * only this host can propose another (failover/README.md, 8); an adopting process holds it again at
 * once.
 *
 * All calls come from the VM's own thread, except netbuf_get_stats (any thread).
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct netbuf;

#define NETBUF_NICS_MAX 16

struct netbuf_nic {
	char id[64];     /* QEMU's netdev id */
	char bridge[16]; /* bridge of this host to join; "" = none (unit tests) */
	uint8_t mac[6];
};

struct netbuf_config {
	const char *vm;      /* name, for interface names and messages */
	const char *backend; /* "auto" (plug if it works here, else relay), "plug", "relay" */
	const struct netbuf_nic *nics;
	size_t n_nics;
	uint64_t limit; /* bytes of held output at most */
	/* Called from any thread, once per epoch, when held output passes 3/4 of the limit: end the
	 * epoch early, or stop the guest until the epoch is acknowledged.  An epoch that begins
	 * above that mark has its call at once, within netbuf_barrier.  It must not block. */
	void (*pressure)(void *ctx);
	void *ctx;
};

struct netbuf_stats {
	const char *backend;
	uint64_t held_bytes, held_frames;         /* now; memory, as the limit counts it */
	uint64_t held_bytes_max;                  /* since opened */
	uint64_t released_frames, released_bytes; /* in all; passed-through frames count too */
	uint64_t input_frames, input_bytes;       /* bridge -> guest */
	uint64_t dropped_frames;                  /* by shut or close: meant to be dropped */
	uint64_t lost_frames;                     /* overruns: must stay 0; an alarm otherwise */
};

/* Whether the backend can work here: 0, or the reason and the cure. ret_name: which one "auto"
 * takes. */
int netbuf_probe(const char *backend, const char **ret_name, struct mc_error *err);

int netbuf_open(const struct netbuf_config *cfg, struct netbuf **ret, struct mc_error *err);
/* The tap descriptor of NIC i for QEMU to inherit (-netdev tap,fd=N).  Owned by the netbuf and
 * close-on-exec: clear that in the child. */
int netbuf_guest_fd(const struct netbuf *nb, size_t i);
/* Takes over the taps of a QEMU that a former mcd started (fds: one per NIC, duplicated here), with
 * the backend that they are made for.  Nothing leaves from here on.  What a plug held stays held:
 * netbuf_pass lets it out, netbuf_shut and netbuf_hold drop it. */
int netbuf_adopt(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err);

/* -> HOLDING.  Output from here on belongs to epoch `first`. Idempotent while holding.  -EBUSY:
 * the guest sends without a gap and must be stopped while this is called (plug, if it was
 * OPEN).  After a failure from OPEN the network may be closed until netbuf_pass. */
int netbuf_hold(struct netbuf *nb, uint64_t first, struct mc_error *err);
/* What the guest sent before this call belongs to `epoch` (the running one); what comes later, to
 * epoch + 1.  The guest is stopped while it is called.  The plug refuses a second one before the
 * release of the first (-EBUSY): the kernel keeps one closed epoch. */
int netbuf_barrier(struct netbuf *nb, uint64_t epoch, struct mc_error *err);
/* Lets out, in order, all output of epochs <= `epoch`, each of which is closed by a barrier. */
int netbuf_release(struct netbuf *nb, uint64_t epoch, struct mc_error *err);
/* -> OPEN: lets all held output out and passes everything from now on.  Only an owner that needs no
 * acknowledgement any more calls this (failover/README.md).  Idempotent: it can be tried again. */
int netbuf_pass(struct netbuf *nb, struct mc_error *err);
/* -> CLOSED: drops what is held. */
int netbuf_shut(struct netbuf *nb, struct mc_error *err);
/* Tells the network where the VM's MACs are now (RARP per NIC, on the bridge). Only when OPEN or
 * HOLDING (the plug says nothing while HOLDING: what goes in at its only end would be held). */
int netbuf_announce(struct netbuf *nb, struct mc_error *err);

void netbuf_get_stats(struct netbuf *nb, struct netbuf_stats *ret);
/* Ends, while the guest goes on without this process: as if it had died, so the plug's interfaces
 * and what they hold stay for netbuf_adopt. NULL is fine. */
void netbuf_leave(struct netbuf *nb);
/* Removes every interface it made. NULL is fine. */
void netbuf_close(struct netbuf *nb);

struct netbuf_interface {
	char ifname[16];
	char vm[100]; /* for whose output it was made */
};
/* The interfaces on this host that outlive the process that made them (the plug's). At most cap. */
int netbuf_find_interfaces(
	struct netbuf_interface *ret, size_t cap, size_t *ret_n, struct mc_error *err);
