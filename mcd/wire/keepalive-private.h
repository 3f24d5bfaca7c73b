/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the threads of the keep-alives share; everything shared between them is atomic, so that
 * none ever waits for another.
 *
 *   beat   (keepalive-beat.c)   one; real-time: sends to all peers, looks into the slots, notices
 *                               silence.  It waits for no lock, asks for no memory and logs
 *                               nothing: whoever holds it up makes this host look dead to all
 *   tell   (keepalive-tell.c)   one; ordinary: tells the owner what the beat thread has noticed,
 *                               and may be held up
 *   serve  (keepalive-serve.c)  one a connection from a peer; real-time: reads beats, notes when
 *   dial   (keepalive-dial.c)   one a peer; ordinary: connects.  A dead peer delays nobody else.
 *
 * and on hosts that have RDMA (keepalive-rdma.c)
 *
 *   serve  one a queue pair from a peer; ordinary: shows its slot to the beat thread while it lasts
 *   dial   one a peer; ordinary: makes queue pairs.  Not the TCP dialer's work, because an attempt
 *          takes seconds where RDMA is broken, and then TCP is what is needed.
 *
 * Who is heard, and by which path, is decided in keepalive-judge.c.
 */
#pragma once
#include "common/clock.h"
#include "mcd/wire/keepalive-slot.h"
#include "mcd/wire/keepalive.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

/* The slots are looked into so many times an interval. A beat seems younger by one look than it is,
 * so this keeps what two hosts know of a third close together (failover/timing.h, heard_fresh). */
#define LOOKS 4

/* A peer that was never heard gets this much longer: after a restart of this host or of the peer
 * its dialer may be in its longest pause (1 s) and then need a whole connect (1 s). */
#define FIRST_CONTACT (2 * MC_SEC)

#define GAPS 1024 /* remembered for the jitter figures; 51 s at 50 ms */

/* What was heard on one path. */
struct ka_ear {
	_Atomic uint64_t heard, beats;
	_Atomic uint32_t gap_us[GAPS]; /* beyond the interval */
	_Atomic uint64_t n_gaps;
	_Atomic uint32_t worst_us; /* since the dialer last warned */
};

/* A peer's queue pair writes its beats to mem. Under slot_lock, which is held for moments only and
 * which the beat thread only tries to take. */
struct ka_slot {
	const volatile uint8_t *mem; /* NULL: none */
	uint64_t instance;
	struct beat prev;
	uint64_t last; /* when it was seen */
	int leave;     /* eventfd: mem is not looked at any more, close the queue pair */
	const volatile uint8_t *given_up; /* the mem that the beat thread found wrong, and why */
	struct mc_error over;
};

/* What the beat thread has noticed of a peer, and the tell thread has not told yet.  LOST and BACK
 * take turns; where both wait, KA_LOST_LAST says which came last. */
enum { KA_LOST = 1, KA_BACK = 2, KA_LOST_LAST = 4, KA_FELL_BACK = 8 };

enum ka_sending { KA_IDLE, KA_BEATING };

struct ka_peer {
	struct keepalive *k;
	struct keepalive_peer cfg;

	/* Sending.  Only the dialer turns -1 into a descriptor, only the beat thread turns that
	 * into -1 again and closes it. */
	_Atomic int tx;
	uint64_t seq, sent; /* beat thread: of the last beat, and when */
	int redial;         /* eventfd, for the dialer */
	pthread_t dialer;
	bool dialing; /* the thread was started */

	/* Sending by RDMA.  KA_IDLE: rtx and why belong to the dialer; KA_BEATING: to the beat
	 * thread.  Each hands them over by the store. */
	_Atomic int sending;
	struct rd_conn *rtx;
	struct mc_error rtx_over; /* why the beat thread gave it back */
	int redial_rdma;          /* eventfd */
	pthread_t rdma_dialer;
	bool rdma_dialing;
	char rdma_why[200]; /* why there is no RDMA to the peer; under k->lock */

	/* Hearing. The serving thread writes ear[KA_TCP], the beat thread ear[KA_RDMA]. */
	struct ka_ear ear[KA_PATHS];
	_Atomic uint64_t instance, interval;
	_Atomic uint32_t connection; /* the newest one counts, an older one is a leftover */
	pthread_mutex_t slot_lock;
	struct ka_slot slot;
	_Atomic bool slot_shown; /* slot.mem is not NULL */

	/* Judging; written by the beat thread. */
	_Atomic bool suspected;
	_Atomic bool announced; /* alive() was called since the last suspect() or the start */
	_Atomic int path;       /* the ear that counts */
	uint64_t rdma_instance; /* whose beats ear[KA_RDMA] has heard */
	uint64_t trust_after;   /* an earlier beat does not end the suspicion */

	_Atomic unsigned news;       /* KA_* */
	_Atomic uint64_t lost_heard; /* of KA_LOST */
};

struct keepalive {
	struct keepalive_config cfg; /* pointers into the fields below */
	struct link_key key;
	char self[LINK_NAME_MAX + 1], local[64];
	uint64_t started;
	int stop;  /* eventfd, readable from the moment everybody has to leave */
	int poke;  /* eventfd: the beat thread should look at once */
	int timer; /* timerfd of the beat thread */
	int news;  /* eventfd: some peer has news, or everybody leaves */
	pthread_t beater, teller;
	bool beating, telling;
	_Atomic int not_realtime; /* why the beat thread is not: an errno, told once */
	pthread_mutex_t lock;     /* of the next two only */
	pthread_cond_t idle;
	unsigned serving;
	size_t n_peers;
	struct ka_peer peers[];
};

/* Who we are and whom we dial, for a handshake. */
static inline struct link_self keepalive_self(const struct keepalive_config *cfg)
{
	return (struct link_self){cfg->self, cfg->key, cfg->instance, cfg->local_address};
}
static inline struct link_target keepalive_target(const struct keepalive_peer *p)
{
	return (struct link_target){p->name, p->address, p->port, LINK_KEEPALIVE, NULL};
}

struct ka_peer *keepalive_find(struct keepalive *k, const char *name);
/* Silence after which this peer is suspected. */
uint64_t keepalive_limit(const struct ka_peer *p);
/* On the path that counts; 0 = never. */
uint64_t keepalive_last_heard(const struct ka_peer *p);

/* A beat was heard now.  last: the one before on this connection, 0 if it is the first; coarse: how
 * much later than it came this may be. */
void keepalive_hear(struct ka_peer *p, enum ka_path path, uint64_t now, uint64_t last,
	uint64_t interval, uint64_t coarse);

/* The beat thread's. */
void keepalive_look(struct ka_peer *p, uint64_t now); /* into the slot */
uint64_t keepalive_suspicious_at(const struct ka_peer *p);
/* Whoever was heard or fell silent is announced; no suspicion before `mercy`. */
void keepalive_judge(struct ka_peer *p, uint64_t now, uint64_t mercy);

/* The tell thread's: calls the owner. */
void keepalive_tell(struct ka_peer *p);

/* From now on mem is looked at; whose memory it replaces is told to leave. */
void keepalive_slot_show(
	struct ka_peer *p, const volatile uint8_t *mem, uint64_t instance, int leave);
void keepalive_slot_hide(struct ka_peer *p, const volatile uint8_t *mem);

void keepalive_serve_rdma(struct ka_peer *p, int fd, const struct link_peer *peer);
void keepalive_rdma_end(struct ka_peer *p); /* once the beat thread and the dialer have left */

void *keepalive_beat_thread(void *keepalive);
void *keepalive_tell_thread(void *keepalive);
void *keepalive_dial_thread(void *ka_peer);
void *keepalive_rdma_dial_thread(void *ka_peer);

/* Makes the calling thread real-time and locks its stack where it is now; undone by _leave.
 * Returns 0, or the negative errno of what was not permitted (the thread goes on as it was). */
struct realtime {
	int policy, priority;
	void *locked;
};
int realtime_enter(struct realtime *ret);
void realtime_leave(const struct realtime *r);
