/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the threads of the keep-alives share; everything shared between them is atomic, so that
 * none ever waits for another.
 *
 *   beat   (keepalive-beat.c)   one; real-time: sends to all peers, notices silence, tells the owner
 *   serve  (keepalive-serve.c)  one a connection from a peer; real-time: reads beats, notes when
 *   dial   (keepalive-dial.c)   one a peer; ordinary: connects.  A dead peer delays nobody else.
 */
#pragma once
#include "common/clock.h"
#include "mcd/wire/keepalive.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define BEAT_SIZE         40
#define BEAT_INTERVAL_MIN MC_MSEC
#define BEAT_INTERVAL_MAX (60 * MC_SEC)

/* A peer that was never heard gets this much longer: after a restart of this host or of the peer
 * its dialer may be in its longest pause (1 s) and then need a whole connect (1 s). */
#define FIRST_CONTACT (2 * MC_SEC)

#define GAPS 1024 /* remembered for the jitter figures; 51 s at 50 ms */

struct beat {
	uint64_t seq;      /* counts intervals: a beat that could not be sent leaves a gap */
	uint64_t time;     /* of the sender's CLOCK_MONOTONIC, ns */
	uint64_t interval; /* of the sender, ns */
};

struct ka_peer {
	struct keepalive *k;
	struct keepalive_peer cfg;

	/* Sending.  Only the dialer turns -1 into a descriptor, only the beat thread turns that
	 * into -1 again and closes it. */
	_Atomic int tx;
	uint64_t seq; /* beat thread */
	int redial;   /* eventfd, for the dialer */
	pthread_t dialer;
	bool dialing; /* the thread was started */

	/* Hearing; written by the serving thread. */
	_Atomic uint64_t last_heard, instance, interval, beats;
	_Atomic uint32_t connection; /* the newest one counts, an older one is a leftover */
	_Atomic uint32_t gap_us[GAPS]; /* beyond the interval */
	_Atomic uint64_t n_gaps;
	_Atomic uint32_t worst_us; /* since the dialer last warned */

	/* Judging; written by the beat thread. */
	_Atomic bool suspected;
	_Atomic bool announced; /* alive() was called since the last suspect() or the start */
};

struct keepalive {
	struct keepalive_config cfg; /* pointers into the fields below */
	struct link_key key;
	char self[LINK_NAME_MAX + 1], local[64];
	uint64_t started;
	int stop;  /* eventfd, readable from the moment everybody has to leave */
	int poke;  /* eventfd: the beat thread should look at once */
	int timer; /* timerfd of the beat thread */
	pthread_t beater;
	bool beating;
	pthread_mutex_t lock; /* of the next two only */
	pthread_cond_t idle;
	unsigned serving;
	size_t n_peers;
	struct ka_peer peers[];
};

void beat_encode(uint8_t buf[BEAT_SIZE], const struct beat *b);
/* prev: the connection's last beat, seq 0 before the first. */
int beat_decode(const uint8_t buf[BEAT_SIZE], const struct beat *prev, struct beat *ret,
	struct mc_error *err);

struct ka_peer *keepalive_find(struct keepalive *k, const char *name);
/* Silence after which this peer is suspected. */
uint64_t keepalive_limit(const struct ka_peer *p);

void *keepalive_beat_thread(void *keepalive);
void *keepalive_dial_thread(void *ka_peer);

/* Makes the calling thread real-time and locks its stack where it is now; undone by _leave.
 * Returns 0, or the negative errno of what was not permitted (the thread goes on as it was). */
struct realtime { int policy, priority; void *locked; };
int realtime_enter(struct realtime *ret);
void realtime_leave(const struct realtime *r);
