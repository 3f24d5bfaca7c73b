/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host's copy of the VM: mcd/primary/, mcd/standby/, mcd/life/.  failover/README.md says what of them
 * each step stands for.
 */

inline is_seen(position)
{
	if
	:: position > seen -> seen = position
	:: else
	fi
}

/* The network of h's running guest passes: what it says now will be part of the next epoch. */
inline speak(h)
{
	claim(ONE_VISIBLE, live == h);
	is_seen(AT(ses[h], n[h] + 1))
}

inline open_network(h)
{
	claim(ONE_VISIBLE, !passes[PEER(h)]);
	passes[h] = true;
	speak(h)
}

/* Held output leaves.  A host that was frozen between the ACK and this may be late: then the live
 * copy went on from an image that contains it. */
inline let_out(h, position)
{
#ifdef W_LATE_RELEASE
	claim(WITNESS, live == h);
#endif
	claim(RELEASED_IS_KEPT, live == h || position <= base);
	is_seen(position)
}

inline adopt(h)
{
	rg[h] = kg[h]; rr[h] = kv[h]
}

inline gone(h)
{
	stop(h);
	passes[h] = false; up[h] = false; st[h] = IDLE;
	rg[h] = 0; rr[h] = 0; ses[h] = 0; n[h] = 0; applied[h] = 0; staged[h] = false
}

/* begin_protection(), up to the greeting: the peer has no copy, and no newer record. */
inline begin_session(h)
{
	sessions++;
	ses[h] = rg[h] + 1; n[h] = 0;
	up[h] = true; up[PEER(h)] = true; queue = 0; ack = 0;
	st[h] = BEGIN;
	st[PEER(h)] = RECV; ses[PEER(h)] = ses[h]; n[PEER(h)] = 0; applied[PEER(h)] = 0; staged[PEER(h)] = false
}

inline capture(h)
{
	n[h]++; queue++;
	st[h] = SEND;
	if
	:: passes[h] -> speak(h) /* it goes on after the capture */
	:: else
	fi
}

inline release(h)
{
#ifdef W_RELEASED
	claim(WITNESS, n[h] < 2);
#endif
#ifdef W_REPROTECTED
	claim(WITNESS, h == A);
#endif
	let_out(h, AT(ses[h], n[h]));
	st[h] = EPOCH
}

/* The standby is lost to us, in whatever way: on alone, which takes the vote. */
inline standby_lost(h)
{
	stop(h);
	up[h] = false;
	st[h] = ALONE;
#ifdef M_ALONE_UNASKED
	st[h] = OPEN; open_network(h);
#endif
#ifdef M_UNDECIDED_IS_LOST
	/* The standby was not named as far as we know: back to the record before, as if nothing was. */
	if
	:: ses[h] == rg[h] + 1 -> st[h] = OPEN; open_network(h)
	:: else
	fi
#endif
}

inline unprotected(h)
{
	adopt(h);
	st[h] = OPEN; ses[h] = rg[h]; n[h] = 0;
	open_network(h)
}

/* primary/ends.c: one look at the answer. */
inline alone(h)
{
	if
	:: OWNER(kv[h]) != h -> gone(h)
	:: OWNER(kv[h]) == h && kg[h] == rg[h] + 1 && !PAIRED(kv[h]) ->
#ifdef W_ALONE
		claim(WITNESS, !PAIRED(rr[h]));
#endif
		unprotected(h)
	:: else -> adopt(h) /* an earlier proposal of ours got through: on from it */
	fi
}

/* takeover_run() */
inline activate(h)
{
#ifdef W_TAKEOVER
	claim(WITNESS, false);
#endif
#ifdef W_RESUMED
	claim(WITNESS, !resumed[h]);
#endif
#ifdef W_THERE_AND_BACK
	claim(WITNESS, h == B);
#endif
	claim(WHOLE_IMAGE, n[h] > 0 && applied[h] == n[h]);
	claim(RELEASED_IS_KEPT, AT(ses[h], n[h]) >= seen);
	adopt(h);
	base = AT(ses[h], n[h]);
	live = h;
	st[h] = OPEN; ses[h] = rg[h]; n[h] = 0; applied[h] = 0; staged[h] = false; up[h] = false;
	open_network(h)
}

inline receive(h)
{
	queue--;
	if
	:: !staged[h] -> staged[h] = true
	:: else -> staged[h] = false; n[h]++; ack = n[h]; st[h] = APPLY
	fi
}

/* standby/ends.c: by the newest record known here. */
#define WON(h)    (kg[h] > ses[h] && kv[h] == SOLE(h))
#define NOT_NEEDED(h) (n[h] == 0 || cg != ses[h] || !NAMED(cv, h))
#define TAKES(h)  (kg[h] == ses[h] && NAMED(kv[h], h))
#ifdef M_DISCARDS_UNKNOWN
#define WORTHLESS(h) (!WON(h) && !TAKES(h))
#else
#define WORTHLESS(h) (!WON(h) && !TAKES(h) && (kg[h] >= ses[h] || n[h] == 0))
#endif
#ifdef M_UNNAMED_PROPOSES
#define MAY_ASK(h) (n[h] > 0 && !WON(h) && OWNER(kv[h]) != h)
#else
#define MAY_ASK(h) TAKES(h)
#endif

/* mcd on h dies, or its host with it, and starts from disk. */
inline crash(h)
{
	crashes++;
	stop(h);
	passes[h] = false;
	voter_crash(h);
	if
	:: st[h] == OPEN || st[h] == BEGIN || st[h] == SEND || st[h] == WAIT || st[h] == NAME || st[h] == EPOCH ||
		st[h] == MOVE || st[h] == ALONE -> /* mcd only: QEMU lives, nobody hears it */
		up[h] = false;
		if
		:: OWNER(kv[h]) != h -> gone(h)
#ifdef M_WAKES_UNASKED
		:: else -> adopt(h); st[h] = OPEN; open_network(h)
#else
		:: else -> adopt(h); st[h] = ALONE
#endif
		fi
	/* mcd only, asking or told of a hand-over: QEMU has the memory, a file the device state, and
	 * the next mcd asks again (vm/takeover-file.h). */
	:: st[h] == ASK || (st[h] == AFTER && n[h] > 0) ->
#ifdef W_RESUMED
		resumed[h] = true;
#endif
#ifdef M_KEPT_IMAGE_DROPPED
		st[h] = STUCK
#else
		st[h] = AFTER
#endif
	:: gone(h)
	fi
}

/* What voter_current() of h and v makes of two answers without the record of h's session. */
#define OLD_NEWS(h, v)  (REACH(h, v) && kg[h] < ses[h] && kg[v] < ses[h] && \
	!(acc[h] && acc[v] == acc[h] && dg[v] == dg[h]))
#define HOLDING(h)  (st[h] == SEND || st[h] == WAIT || st[h] == NAME || st[h] == EPOCH || st[h] == MOVE)
/* With faults over, only a link that is really broken is seen as broken. */
#define LINKED(h)   (up[h] && up[PEER(h)] && REACH(h, PEER(h)))
#define MAY_LOSE(h) (FAULTS || !LINKED(h))

/* Is there a ballot left for h to begin with? */
#define NEXT_OF(h, b)  ((b) < 2 -> 2 + (h) : ((((b) + 1) & 1) == (h) -> (b) + 1 : (b) + 2))
#define CAN_BEGIN(h)   (!BUSY(h) && (NAMED(kv[h], h) || \
	NEXT_OF(h, (dg[h] == kg[h] -> prom[h] : 0)) <= LIMIT))

proctype Copy(byte h)
{
end:	do
	:: done -> break

	/* --- primary --- */
	:: atomic { FAULTS && st[h] == OPEN && st[PEER(h)] == IDLE && sessions < SESSIONS && kg[PEER(h)] <= rg[h] &&
		!up[PEER(h)] -> begin_session(h) }
	:: atomic { !done && st[h] == BEGIN && LINKED(h) ->
#ifndef M_HOLD_AFTER_PROPOSAL
		passes[h] = false;
#endif
		capture(h) }
	:: atomic { !done && st[h] == BEGIN && MAY_LOSE(h) -> /* nothing has begun */
		st[h] = OPEN; up[h] = false; ses[h] = rg[h]; n[h] = 0 }
	:: atomic { !done && st[h] == SEND ->
		queue = (up[PEER(h)] -> queue + 1 : queue); st[h] = WAIT;
#ifdef M_RELEASE_BEFORE_ACK
		if
		:: ses[h] == rg[h] -> let_out(h, AT(ses[h], n[h]))
		:: else
		fi
#endif
	   }
	:: atomic { !done && st[h] == WAIT && up[h] && ack == n[h] ->
		ack = 0;
		if
		:: ses[h] == rg[h] -> release(h)
		:: else -> st[h] = NAME
		fi }
	:: atomic { st[h] == NAME && kg[h] > rg[h] ->
		if
		:: kg[h] == rg[h] + 1 && kv[h] == PAIR(h) -> adopt(h); passes[h] = false; release(h)
		:: else -> standby_lost(h)
		fi }
	:: atomic { FAULTS && st[h] == EPOCH && n[h] < EPOCHS && up[h] -> capture(h) }
	:: atomic { FAULTS && st[h] == EPOCH && moves < MOVES && up[h] && kg[h] == rg[h] -> moves++; st[h] = MOVE }
	:: atomic { !done && HOLDING(h) && MAY_LOSE(h) -> standby_lost(h) }
	:: atomic { HOLDING(h) && kg[h] > rg[h] && OWNER(kv[h]) != h ->
#ifdef W_MOVED
		claim(WITNESS, st[h] != MOVE);
#endif
		gone(h) }
	:: atomic { (st[h] == ALONE || st[h] == DEAD) && kg[h] > rg[h] -> alone(h) }
	:: atomic { FAULTS && HOLDING(h) && rr[h] == PAIR(h) && crashes < CRASHES ->
		crashes++; stop(h); st[h] = DEAD } /* QEMU crashed */
#ifdef M_GENERATION_REUSED
	/* {self, none} replaces {self, peer} under the same number, at a majority */
	:: atomic { st[h] == ALONE && rr[h] == PAIR(h) && kg[h] == rg[h] && dg[h] == rg[h] && dg[C] == rg[h] &&
		kg[C] == rg[h] && acc[C] == 0 && prom[C] == 0 ->
		kv[h] = SOLE(h); dv[h] = SOLE(h); kv[C] = SOLE(h); dv[C] = SOLE(h); unprotected(h) }
#endif
	/* Sole owner, and somebody else was made owner: "cannot happen" (vm-life.c). */
	:: atomic { st[h] == OPEN && kg[h] > rg[h] && OWNER(kv[h]) != h ->
		claim(ONE_VISIBLE, false) }

	/* --- standby --- */
	:: atomic { !done && st[h] == RECV && up[h] && queue > 0 && REACH(h, PEER(h)) -> receive(h) }
	:: atomic { !done && st[h] == APPLY -> applied[h] = n[h]; st[h] = RECV }
#ifdef M_HALF_APPLIED
	:: atomic { FAULTS && st[h] == APPLY -> up[h] = false; staged[h] = false; st[h] = AFTER }
#endif
	:: atomic { !done && st[h] == RECV && (FAULTS || !REACH(h, PEER(h)) || (!up[PEER(h)] && queue == 0)) ->
		up[h] = false; staged[h] = false; st[h] = AFTER } /* the link is closed before the first word */
	:: atomic { st[h] == AFTER && WON(h) -> activate(h) }
	:: atomic { st[h] == AFTER && WORTHLESS(h) ->
		claim(IMAGE_KEPT, NOT_NEEDED(h));
		gone(h) }
	/* The primary offers another session: this one will not be named any more (`superseded`). */
	:: atomic { !done && st[h] == AFTER && n[h] > 0 && kg[h] < ses[h] && st[PEER(h)] == OPEN &&
		sessions < SESSIONS && REACH(h, PEER(h)) ->
		claim(IMAGE_KEPT, NOT_NEEDED(h));
		gone(h) }
#ifdef M_KEPT_IMAGE_DROPPED
	:: atomic { st[h] == STUCK && (OLD_NEWS(h, C) || OLD_NEWS(h, PEER(h))) ->
		claim(IMAGE_KEPT, NOT_NEEDED(h));
		gone(h) }
	:: atomic { st[h] == STUCK && kg[h] >= ses[h] -> st[h] = AFTER }
#endif
	:: atomic { !done && st[h] == AFTER && MAY_ASK(h) -> st[h] = ASK }
	/* voter_current(): accepted by a majority, of which we are one */
	:: atomic { st[h] == AFTER && acc[h] && kg[h] == dg[h] && acc[PEER(h)] == acc[h] && dg[PEER(h)] == dg[h] &&
		av[PEER(h)] == av[h] && REACH(h, PEER(h)) -> decided(h, dg[h] + 1, av[h]) }
	:: atomic { st[h] == AFTER && acc[h] && kg[h] == dg[h] && acc[C] == acc[h] && dg[C] == dg[h] &&
		av[C] == av[h] && REACH(h, C) -> decided(h, dg[h] + 1, av[h]) }
#ifdef M_ADOPTS_UNNAMED
	/* ask() adopts whatever record is newest, also one that does not name it */
	:: atomic { st[h] == ASK && phase[h] == 0 && !MAY_ASK(h) && !WON(h) -> adopt(h); st[h] = STUCK }
	:: atomic { st[h] == STUCK && kg[h] > rg[h] -> st[h] = AFTER }
	:: atomic { st[h] == ASK && phase[h] == 0 && WON(h) -> st[h] = AFTER }
#else
	:: atomic { st[h] == ASK && phase[h] == 0 && !MAY_ASK(h) -> st[h] = AFTER }
#endif

	/* --- both --- */
	:: atomic { !done && ASKS(h) && phase[h] == 0 && (st[h] == ASK -> MAY_ASK(h) : kg[h] == rg[h]) && CAN_BEGIN(h) ->
		propose(h) }
	:: atomic { FAULTS && phase[h] && ASKS(h) -> stop(h) } /* undecided by the deadline */
	:: atomic { FAULTS && crashes < CRASHES && (st[h] != IDLE || acc[h] || prom[h] || kg[h] > dg[h]) -> crash(h) }
	od
}
