/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The relay backend: relay.c decides what may pass, relay-io.c moves the frames.
 *
 * Two threads, so that letting out a large epoch never makes input wait:
 *   out  guest's socket -> queue -> bridge's tap.  Everything under out_lock, also when the VM's
 *        thread does it (barrier, release): whoever holds the lock captures and lets out in order.
 *   in   bridge's tap -> guest's socket.  Under in_lock, which the barrier never takes.
 * Lock order: none is taken while the other is held.
 *
 * Memory, beside the fixed scratch buffers: while the guest runs, the queue holds at most `limit`
 * bytes and one frame (queue.h says what that costs).  A barrier adds what the sockets hold at that
 * moment, at most 32 MiB a NIC; the sockets themselves may then fill again.  So never more than
 * limit + 64 MiB a NIC in all, and limit + 32 MiB a NIC while the VM stops the guest on pressure.
 */
#pragma once
#include "netbuf/netbuf-internal.h"
#include "netbuf/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define RELAY_BATCH     32         /* frames per system call */
#define RELAY_DRAIN_MAX (1u << 20) /* frames: more than the sockets can hold */

struct relay_batch;

struct relay_nic {
	uint8_t mac[6];
	char ifname[16]; /* of the bridge's tap */
	int guest;       /* the guest's tap, for QEMU */
	int sock;        /* the other end of it */
	int tap;         /* the bridge's tap */
};

struct relay {
	struct netbuf nb;
	struct relay_nic nics[NETBUF_NICS_MAX];
	size_t n_nics;
	uint64_t limit;
	void (*pressure)(void *ctx);
	void *ctx;

	pthread_mutex_t out_lock; /* guards from here on */
	enum netbuf_state state;
	struct queue q;
	uint64_t epoch;          /* of frames captured now */
	uint64_t mark;           /* frames of epochs < mark may go */
	bool pressed;            /* pressure() was called in this epoch */
	bool full;               /* out_epoll does not watch the sockets, because of the limit */
	int blocked;             /* NIC whose tap took no more; out_epoll waits for it; -1 = none */
	unsigned announce_round; /* 0 = nothing to announce */
	uint64_t announce_at;
	struct relay_batch *out;
	int out_epoll;

	pthread_mutex_t in_lock; /* guards these */
	bool in_open;
	struct relay_batch *in;
	int in_epoll;

	int out_wake, in_wake; /* eventfds */
	atomic_bool stop;
	pthread_t out_thread, in_thread;
	bool out_started, in_started;

	/* For netbuf_get_stats, which must not wait for the locks. */
	_Atomic uint64_t held_bytes, held_frames, held_max, released_frames, released_bytes;
	_Atomic uint64_t input_frames, input_bytes, dropped, lost;
};

/* relay-io.c.  The first four need out_lock. */

/* Takes at most max (<= RELAY_BATCH) frames from a NIC's socket, and passes, queues or drops them
 * as the state says.  Returns how many, 0 when the socket is empty, a negative errno otherwise. */
int relay_capture(struct relay *r, size_t nic, unsigned max);
/* Captures until all sockets are empty, whatever the limit.  -EBUSY if that does not end. */
int relay_drain(struct relay *r);
/* One batch from each NIC, within the limit. */
void relay_capture_round(struct relay *r);
/* Lets out what may go. */
void relay_flush(struct relay *r);
/* Says once more where the MACs are. */
void relay_announce(struct relay *r);

void *relay_out_main(void *relay);
void *relay_in_main(void *relay);
void relay_lock(struct relay *r);
/* Publishes the numbers, stops or resumes reading at the limit, unlocks, then calls pressure(). */
void relay_unlock(struct relay *r);

struct relay_batch *relay_batch_new(void);
/* Watches or unwatches fd in an epoll set. */
int relay_watch(int epoll, int fd, uint32_t events, uint32_t tag);
void relay_unwatch(int epoll, int fd);
void relay_wake(int eventfd);

#define RELAY_TAG_WAKE 0x100u /* else: the NIC's number, or that plus RELAY_TAG_TAP */
#define RELAY_TAG_TAP  0x200u
