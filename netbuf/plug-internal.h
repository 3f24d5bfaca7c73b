/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plug backend: plug.c decides, plug-setup.c makes and takes over interfaces, plug-watch.c
 * looks on from a thread, plug-kernel.c speaks netlink, plug-check.c looks for what is missing or
 * left over.
 *
 * Unlike the relay this process carries no frame.  It tells the kernel what may pass, and what it
 * told last holds on when it dies.
 *
 * Why the counting below: `closed` and `running` frames are only numbers in the kernel, and
 * releasing adds one to another while frames leave on other CPUs.  So a release is said only when
 * all frames released before have left, which shows in the ifb's counter of frames let go (`gone`):
 *
 *   due    what the counter reads when everything released so far has left
 *   closed_end  what it reads when the closed epoch has left, too
 */
#pragma once
#include "netbuf/netbuf-internal.h"
#include "netbuf/plug-kernel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Memory that the kernel takes for a small frame beside the bytes that the plug counts: a socket
 * buffer, the rest of its page fragment, and what stands in front of the data. */
#define PLUG_FRAME_COST 1400u

struct plug_nic {
	char ifname[16], bridge[16];
	uint8_t mac[6];
	int ifindex;
	int tap; /* QEMU has another descriptor of it: the tap outlives us with the guest */
	uint64_t input_base[2]; /* frames, bytes */
};

struct plug {
	struct netbuf nb;
	char vm[100];
	struct plug_nic nics[NETBUF_NICS_MAX];
	size_t n_nics;
	char ifname[16]; /* of the ifb that all NICs of the VM share, so that a barrier is one
			    barrier */
	int ifindex;
	uint64_t memory_limit;
	uint32_t limit; /* as the kernel counts: bytes on the wire */
	void (*pressure)(void *ctx);
	void *ctx;

	pthread_mutex_t lock; /* guards from here on */
	struct nl_sock *sk, *ask;
	uint32_t handle;
	enum netbuf_state state;
	bool adopted; /* CLOSED, but what a former process held is still there */
	bool closed;  /* an epoch has its barrier, and is not released */
	bool closed_empty;
	bool pressed;
	uint64_t due, closed_end;
	bool drained; /* all that was released has left, and then the counter read `left` */
	uint64_t left;
	uint64_t gone_base[2], lost_base, dropped, held_max; /* [frames, bytes] */
	char broken[200];                                    /* who else interfered; "" */
	unsigned announce_round;                             /* 0 = nothing to announce */
	uint64_t announce_at;

	struct nl_sock *events;
	int wake;
	atomic_bool stop;
	pthread_t thread;
	bool started;
};

static inline uint64_t plug_memory(const struct plug_queue *q)
{
	return q->bytes + q->frames * PLUG_FRAME_COST;
}

/* plug-setup.c */
void plug_ifname(const char *vm, char ret[16]); /* of a VM's ifb */
/* Interfaces for a VM that starts: closed, nothing can pass. */
int plug_make(struct plug *p, const struct netbuf_config *cfg, struct mc_error *err);
/* Takes over those of a guest that runs (descriptors of its taps): what was open is held. */
int plug_take(struct plug *p, const struct netbuf_config *cfg, const int *guest_fds,
	struct mc_error *err);
/* Makes sure that all interfaces lead where they must.  What others took away is made again; what
 * they added on the way (a filter, another qdisc) is refused if `strict`, else only told. */
int plug_fit(struct plug *p, bool strict, struct mc_error *err);
/* A new, empty plug with that limit in place of the old one.  What that held is dropped, and
 * counted as meant; what it refused is counted as lost if `lossy`. */
int plug_renew(struct plug *p, uint32_t limit, bool lossy, struct mc_error *err);
int plug_set_taps(struct plug *p, bool up, struct mc_error *err);

/* plug-watch.c */
int plug_watch_start(struct plug *p, struct mc_error *err);
void plug_watch_stop(struct plug *p);
/* The interfaces are not the same any more. */
int plug_watch_filter(struct plug *p);
/* With the lock held: takes in what the kernel has told about others' changes. */
void plug_watch_see(struct plug *p);
void plug_watch_wake(struct plug *p); /* state or announcement changed */
/* With the lock held.  It goes in at the guest's end, so only while the VM is OPEN. */
void plug_announce(struct plug *p);
/* With the lock held: whether the VM must hear of pressure now; true once an epoch. */
bool plug_pressing(struct plug *p, const struct plug_queue *q);

void plug_get_stats(struct netbuf *nb, struct netbuf_stats *ret);

/* plug-check.c */
int plug_probe(struct mc_error *err);
