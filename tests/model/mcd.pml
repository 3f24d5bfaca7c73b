/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ownership, epochs and release of one VM: hosts A and B, which can run it, and the voter C.
 * failover/README.md says what is modelled and what not; `run` checks it and its mutations.
 *
 * The adversary: a message that is not delivered is lost, one that is delivered later was slow, a
 * host whose steps are not chosen for a while is frozen, a time-out may fire at any moment.  So
 * loss, delay, freezes, cut links and wrong suspicion need no state and have no bound.  Only what
 * makes the model infinite is bounded:
 *
 *   SESSIONS   protections begun (each makes up to two generations)
 *   EPOCHS     epochs per session
 *   CRASHES    crashes with restart from disk (host, mcd, QEMU, in all)
 *   MOVES      planned moves
 *   BALLOT     highest ballot of a generation: 1 is the fast one, 2r of A and 2r+1 of B in round r
 *
 * `run` searches all of what these bounds leave, in several combinations of them; it prints which
 * searches keep whole states and which keep 64 bits of hash.  M_... are the mutations, W_... look
 * for something that must be possible.
 */
#ifndef SESSIONS
#define SESSIONS 2
#endif
#ifndef EPOCHS
#define EPOCHS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef MOVES
#define MOVES 0
#endif
#ifndef BALLOT
#define BALLOT 3
#endif

/*
 * The properties.  Each is a false expression with a number of its own, by which `run` tells from
 * pan's message which one was violated.  One more, "somebody runs", is in live.pml.
 */
#define DECIDED_ONCE     (0 == 101) /* a generation is decided once, whoever comes to know of it */
#define ONE_VALUE        (0 == 102) /* a ballot carries one value */
#define ONE_VISIBLE      (0 == 103) /* one copy's network passes, and it is the newest owner's */
#define RELEASED_IS_KEPT (0 == 104) /* what was let out is in the copy of whoever owns the VM next */
#define WHOLE_IMAGE      (0 == 105) /* what is activated was committed and applied as a whole */
#define IMAGE_KEPT       (0 == 106) /* an image is not thrown away while its host may be named */
#define WITNESS          (0 == 107) /* not a property: something that must be possible */
#define claim(property, condition) assert((property) || (condition))

/* Hosts are numbered; PEER() is of A and B only. */
#define A       0
#define B       1
#define C       2
#define PEER(h) (1 - (h))

/* A record: who owns the VM, and whether the peer is its standby.  0 = none. */
#define SOLE(h)   (1 + (h))
#define PAIR(h)   (3 + (h))
#define OWNER(r)  (((r) - 1) & 1)
#define PAIRED(r) ((r) > 2)

/* What is visible, as a position in the VM's history: epoch n of a session; live output is part of
 * the epoch that is captured next. */
#define AT(session, epoch) ((session) * 4 + (epoch))

#define NAMED(r, h) (PAIRED(r) && OWNER(r) == PEER(h)) /* h is the standby in record r */

mtype = {
	IDLE,    /* no copy here */
	OPEN,    /* owner, unprotected: its network passes */
	BEGIN,   /* the same; a session with the peer has begun */
	SEND,    /* holding; an epoch is captured and partly sent */
	WAIT,    /* holding; the epoch is sent, its ACK awaited */
	NAME,    /* holding; the first epoch is acknowledged, {self, peer} is proposed */
	EPOCH,   /* protected, everything captured is released */
	MOVE,    /* protected; {peer, none} is proposed by the administrator's wish */
	ALONE,   /* holding; {self, none} is proposed until it is decided either way */
	DEAD,    /* QEMU ended; {peer, none} is proposed until it is decided */
	RECV,    /* standby, receiving */
	APPLY,   /* standby, an epoch is committed and acknowledged, partly applied */
	AFTER,   /* standby without its stream, deciding */
	ASK,     /* standby, {self, none} is proposed until it is decided either way */
	STUCK    /* only by mutation */
};

/* Every host as a voter.  Known: newest decided record heard of, in memory.  The rest is on disk. */
byte kg[3], kv[3];               /* known: generation, record */
byte dg[3], dv[3];               /* decided, on disk */
byte prom[3], acc[3], av[3];     /* for generation dg + 1: promised; accepted ballot, its record */

/* A and B as proposers (C never is one, and its place stays empty). */
byte phase[3];                   /* 0 nothing, 1 preparing, 2 accepting */
byte pg[3], pr[3];               /* the decided record before */
byte pb[3], want[3], pv[3], best[3], yes[3];
/* The last ACCEPT sent: it may arrive at any time, also when its sender has given up or died. */
byte ag[2], ar[2], ab[2], aw[2];

/* A and B as hosts of a copy. */
mtype st[2] = IDLE;
bool passes[2];                  /* the VM's network passes, in both directions, without a hold */
byte rg[2], rr[2];               /* the record this copy acts by */
byte ses[2];                     /* generation of its session, in either role */
byte n[2];                       /* epochs captured (primary), committed (standby) */
byte applied[2];                 /* epochs applied as a whole */
bool staged[2];                  /* half of the next epoch is here */
#ifdef W_RESUMED
bool resumed[2];                 /* by an mcd that came after the one that asked */
#endif

/* The replication connection: each end's view, messages under way, ACK under way. */
bool up[2];
byte queue, ack;

byte sessions, crashes, moves;

/* Ghosts: nobody acts on them. */
byte live;                       /* whose copy is the VM, as the world sees it */
byte seen;                       /* position of the newest output that anyone may have seen */
byte base;                       /* what the live copy went on from, when it was activated */
byte cg = 1, cv = SOLE(A);       /* the newest decision anyone came to */

/* Liveness (live.pml): from a moment on no faults, but one host or one link may stay away. */
bool stable, done;
byte away = 9;
bool cut;
#define REACH(u, v)  (!stable || (u) == (v) || ((u) != away && (v) != away && !(cut && (u) + (v) == 1)))
#define FAULTS       (!stable)

/* Who is waiting for a vote, and what it asks for. */
#define ASKS(h)     (st[h] == NAME || st[h] == MOVE || st[h] == ALONE || st[h] == DEAD || st[h] == ASK)
#define WORDS(h)    (st[h] == NAME -> PAIR(h) : ((st[h] == MOVE || st[h] == DEAD) -> SOLE(PEER(h)) : SOLE(h)))

#include "vote.pml"
#include "copy.pml"
#include "live.pml"

init {
	d_step {
		byte i = 0;
		do
		:: i < 3 -> kg[i] = 1; kv[i] = SOLE(A); dg[i] = 1; dv[i] = SOLE(A); i++
		:: else -> break
		od;
		i = 0;
		st[A] = OPEN; passes[A] = true; rg[A] = 1; rr[A] = SOLE(A); ses[A] = 1;
		live = A; seen = AT(1, 1)
	}
	atomic {
		run Copy(A); run Copy(B);
		run Voter(A); run Voter(B); run Voter(C);
#ifdef LIVE
		run Judge()
#endif
	}
}
