/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * [somebody runs]  At any moment the faults may end; then every message arrives, and time-outs come
 * only for what is really away: nothing, one host, or the link between A and B.  All ways on from
 * there are finite, and each must end with the VM visible on a host of the majority and no other
 * copy left in doubt, unless nobody of the majority has the VM.  A way that ends otherwise is an
 * invalid end state: this process cannot finish.
 */
#define RUNS(h) (h != away && (st[h] == OPEN || st[h] == BEGIN || (st[h] == EPOCH && LINKED(h) && st[PEER(h)] == RECV)))
#define SURE(h) (h == away || st[h] == IDLE || ((st[h] == RECV || st[h] == APPLY) && LINKED(h)))

/* A copy that the newest decision lets go on, as far as the majority can know of that decision. */
#define HEARD      ((away != A && kg[A] >= cg) || (away != B && kg[B] >= cg) || (away != C && kg[C] >= cg))
#define STANDBY(h) (st[h] == RECV || st[h] == APPLY || st[h] == AFTER || st[h] == ASK || st[h] == STUCK)
#define IMAGE(h)   (STANDBY(h) && n[h] > 0 && ((cg == ses[h] && NAMED(cv, h)) || (cg > ses[h] && cv == SOLE(h))))
#define PRIMARY(h) (live == h && !STANDBY(h) && st[h] != IDLE && st[h] != DEAD)
#ifdef W_UNHEARD
#define HAS(h)     (h != away && (PRIMARY(h) || IMAGE(h)))
#else
#define HAS(h)     (h != away && (PRIMARY(h) || (IMAGE(h) && HEARD)))
#endif

#ifdef LIVE
proctype Judge()
{
	atomic {
		if
		:: away = A
		:: away = B
		:: away = C
		:: cut = true
		:: skip
		fi;
		stable = true
	}
accept_held:
	atomic {
		if
		:: RUNS(A) && SURE(B)
		:: RUNS(B) && SURE(A)
		:: timeout && !HAS(A) && !HAS(B)
		fi;
		done = true
	}
}
#endif
