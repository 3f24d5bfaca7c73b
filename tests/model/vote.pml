/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Voting: failover/paxos.c, vote.c and propose.c.  A voter handles a request and its answer is
 * delivered, or lost, in one step: an answer changes only its receiver, whose own steps come as
 * late as they like, so a slow answer is nothing new.
 */
#define FAST 1
#define TOP(a, b) ((a) > (b) -> (a) : (b))
/* With faults over, rounds end: nobody proposes into another's round (back-off does that). */
#define LIMIT     (stable -> 15 : BALLOT)
#define BUSY(h)   (stable && phase[PEER(h)] && REACH(h, PEER(h)))

/* May `next` be decided after `before`?  And may h ask? (possible(), eligible() in paxos.c) */
#ifdef M_UNNAMED_PROPOSES
#define POSSIBLE(before, next) true
#define ELIGIBLE(before, h)    true
#else
#define POSSIBLE(before, next) (OWNER(next) == OWNER(before) || \
	(PAIRED(before) && next == SOLE(PEER(OWNER(before)))))
#define ELIGIBLE(before, h)    (OWNER(before) == h || PAIRED(before))
#endif

inline stop(h)
{
	phase[h] = 0; pg[h] = 0; pr[h] = 0; pb[h] = 0; want[h] = 0; pv[h] = 0; best[h] = 0; yes[h] = 0
}

/* Who learns that the generation is decided no longer proposes for it. */
inline learn(h, g, r)
{
#ifndef M_GENERATION_REUSED /* it is to be caught by what comes of it */
	claim(DECIDED_ONCE, g != kg[h] || r == kv[h]);
#endif
	if
	:: g > kg[h] -> kg[h] = g; kv[h] = r
	:: else
	fi;
	if
	:: phase[h] && kg[h] > pg[h] -> stop(h)
	:: else
	fi
}

inline decided(h, g, r)
{
	claim(DECIDED_ONCE, g != cg || r == cv);
	if
	:: g > cg -> cg = g; cv = r
	:: else
	fi;
	learn(h, g, r)
}

/* The next ballot of h above `above`; none left: undecided by the deadline. */
inline new_round(h, above)
{
	pb[h] = TOP(TOP(above, pb[h]), (dg[h] == pg[h] -> prom[h] : 0)) + 1;
	if
	:: pb[h] < 2 -> pb[h] = 2
	:: else
	fi;
	if
	:: (pb[h] & 1) != h -> pb[h]++
	:: else
	fi;
	best[h] = 0; yes[h] = 0; pv[h] = want[h]; phase[h] = 1;
	if
	:: pb[h] > LIMIT || BUSY(h) -> stop(h)
	:: else
	fi
}

inline send_accept(h)
{
	phase[h] = 2; yes[h] = 0;
	ag[h] = pg[h]; ar[h] = pr[h]; ab[h] = pb[h]; aw[h] = pv[h]
}

/* voter_propose(): what follows the record that h acts by, as far as h knows. */
inline propose(h)
{
	pg[h] = kg[h]; pr[h] = kv[h]; want[h] = WORDS(h);
	if
#ifdef M_FAST_FOR_ALL
	:: true ->
#else
	:: NAMED(kv[h], h) ->
#endif
		pb[h] = FAST; pv[h] = want[h]; send_accept(h)
	:: else -> new_round(h, 0)
	fi
}

/* Own disk follows own knowledge before anything is answered; what the request carries is learned. */
inline catch_up(v, g, r)
{
	learn(v, g, r);
	if
	:: kg[v] > dg[v] -> dg[v] = kg[v]; dv[v] = kv[v]; prom[v] = 0; acc[v] = 0; av[v] = 0
	:: else
	fi
}

#ifdef M_SELF_DELIVERY
#define VOTES(y, h) (((y) & 1) + (((y) >> 1) & 1) + (((y) >> 2) & 1) + (((y) >> (h)) & 1))
#else
#define VOTES(y, h) (((y) & 1) + (((y) >> 1) & 1) + (((y) >> 2) & 1))
#endif

#ifdef M_FORGETS_ACCEPTED
#define TAKES_OVER(v, h) false
#else
#define TAKES_OVER(v, h) (acc[v] > best[h])
#endif

inline take_promise(v, h)
{
	yes[h] = yes[h] | (1 << v);
	if
	:: TAKES_OVER(v, h) -> best[h] = acc[v]; pv[h] = av[v]
	:: else
	fi;
	/* Our own promise must be among them: paxos.c, 3. */
	if
	:: (yes[h] & (1 << h)) && VOTES(yes[h], h) >= 2 -> send_accept(h)
	:: else
	fi
}

inline on_prepare(v, h)
{
	catch_up(v, pg[h], pr[h]);
	if
	:: dg[v] > pg[h] -> /* STALE */
		if
		:: learn(h, dg[v], dv[v])
		:: FAULTS && v != h
		fi
	:: dg[v] == pg[h] && pb[h] < prom[v] -> /* REJECTED */
		if
		:: new_round(h, prom[v])
		:: FAULTS && v != h
		fi
	:: else ->
		prom[v] = pb[h];
		if
		:: take_promise(v, h)
		:: FAULTS && v != h
		fi
	fi
}

#define WAITS(h) (phase[h] == 2)

inline on_accept(v, h)
{
	catch_up(v, ag[h], ar[h]);
	if
	:: dg[v] > ag[h] -> /* STALE */
		if
		:: WAITS(h) -> learn(h, dg[v], dv[v])
		:: !WAITS(h) || (FAULTS && v != h)
		fi
	:: dg[v] == ag[h] && ab[h] < prom[v] -> /* REJECTED */
		if
		:: WAITS(h) -> new_round(h, prom[v])
		:: !WAITS(h) || (FAULTS && v != h)
		fi
	:: else ->
		claim(ONE_VALUE, acc[v] != ab[h] || av[v] == aw[h]);
		prom[v] = ab[h]; acc[v] = ab[h]; av[v] = aw[h];
		if
		:: WAITS(h) ->
			yes[h] = yes[h] | (1 << v);
			if
			:: VOTES(yes[h], h) >= 2 -> decided(h, pg[h] + 1, pv[h])
			:: else
			fi
		:: !WAITS(h) || (FAULTS && v != h)
		fi
	fi
}

/* Is there something to be gained from handing h's ACCEPT to v? */
#define USEFUL(v, h) (ab[h] && POSSIBLE(ar[h], aw[h]) && ELIGIBLE(ar[h], h) && \
	((kg[v] <= ag[h] && (dg[v] < ag[h] || acc[v] != ab[h]) && (dg[v] < ag[h] || prom[v] <= ab[h])) || \
	 (WAITS(h) && !(yes[h] & (1 << v)))))

/* A crash forgets what is known but not yet on disk: it may have been put there just in time. */
inline voter_crash(v)
{
	if
	:: kg[v] > dg[v] -> dg[v] = kg[v]; dv[v] = kv[v]; prom[v] = 0; acc[v] = 0; av[v] = 0
	:: kg[v] > dg[v] -> kg[v] = dg[v]; kv[v] = dv[v]
	:: else
	fi;
#ifdef M_GRANT_NOT_PERSISTED
	prom[v] = 0; acc[v] = 0; av[v] = 0
#endif
}

proctype Voter(byte v)
{
end:	do
	:: done -> break
	:: atomic { !done && phase[A] == 1 && !(yes[A] & (1 << v)) && REACH(A, v) -> on_prepare(v, A) }
	:: atomic { !done && phase[B] == 1 && !(yes[B] & (1 << v)) && REACH(B, v) -> on_prepare(v, B) }
	:: atomic { !done && USEFUL(v, A) && REACH(A, v) -> on_accept(v, A) }
	:: atomic { !done && USEFUL(v, B) && REACH(B, v) -> on_accept(v, B) }
	/* DECIDED, and the greeting of reconnected hosts: from anyone who knows */
	:: atomic { !done && kg[A] > kg[v] && REACH(A, v) -> learn(v, kg[A], kv[A]) }
	:: atomic { !done && kg[B] > kg[v] && REACH(B, v) -> learn(v, kg[B], kv[B]) }
	:: atomic { !done && kg[C] > kg[v] && REACH(C, v) -> learn(v, kg[C], kv[C]) }
	:: atomic { v == C && FAULTS && crashes < CRASHES -> crashes++; voter_crash(C) }
	od
}
