/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who owns a VM: one record per generation, each decided once, for good, by a majority of the
 * configured voters (single-decree Paxos per generation; failover/README.md argues why this is
 * enough).  Every mcd is a voter; a voter's answers are on its disk before they are sent.
 *
 * "learned" is called for every newer record, also our own, without locks held; calls from several
 * threads may come in another order than the generations: compare.
 *
 * Thread-safe; voter_propose and friends block up to their deadline and are called from the VM's
 * thread, voter_serve from the thread of an accepted connection.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOTERS_MAX 16

struct own_record {
	uint64_t generation;             /* 0 = the VM was never started */
	char owner[LINK_NAME_MAX + 1];   /* "" = none (stopped) */
	char standby[LINK_NAME_MAX + 1]; /* "" = none (unprotected) */
};

struct voter_peer {
	char name[LINK_NAME_MAX + 1];
	char address[64]; /* numeric */
	uint16_t port;
};

struct voter_config {
	const char *self;                /* our name; must be among the voters */
	const struct voter_peer *voters; /* all of them, self included; same list on every host */
	size_t n_voters;
	const char *state_dir; /* records live in STATE_DIR/votes/VM */
	const struct link_key *key;
	uint64_t instance;
	const char *local_address; /* to connect from */
	/* How long ago (ns) a keep-alive of that host was heard; UINT64_MAX = never. Any thread. */
	uint64_t (*heard_age)(void *ctx, const char *host);
	/* We learned of a newer decided record (from anyone). Any thread; must not block. */
	void (*learned)(void *ctx, const char *vm, const struct own_record *rec);
	/* May this host ask for votes and grant them now (is it in the cluster's quorate part)?
	 * NULL: always.  Any thread; must not block.  It makes attempts rarer that cannot succeed;
	 * safety does not rest on it. */
	bool (*may_grant)(void *ctx);
	void *ctx;
};

struct voter;
int voter_open(const struct voter_config *cfg, struct voter **ret, struct mc_error *err);
/* Ends every call (-ENOLINK) and every voter_serve, and lets none begin.  The caller then joins the
 * threads that may be on their way into one, and closes. */
void voter_shutdown(struct voter *v);
/* Shuts down, waits for whoever is inside, frees.  Bounded by about a second (a connection attempt
 * under way).  NULL is fine. */
void voter_close(struct voter *v);

/* Serves one accepted LINK_VOTE connection until it ends or voter_shutdown; never touches fd
 * afterwards. */
void voter_serve(struct voter *v, int fd, const struct link_peer *peer);

/* How many voters (self included) are connected now, of how many: for checks up front. */
void voter_reachable(struct voter *v, size_t *ret_connected, size_t *ret_total);

/* The newest decided record this host knows, without asking anyone (generation 0: none).  A host
 * that reconnects is told by the others what it missed. */
void voter_known(struct voter *v, const char *vm, struct own_record *ret);

/* Asks the voters; returns the newest decided record that any of an answering majority knows of, or
 * that this majority proves decided (accepted by all of them) though nobody was told.
 * What it returns is decided; something newer may be decided too (accepted by a majority of which
 * only some answered, or decided a moment later).  So it is for looking and for choosing what to
 * propose; only voter_propose gives the right to act.
 * -ENOLINK (class NoMajority): no majority answered by the deadline. */
int voter_current(struct voter *v, const char *vm, uint64_t deadline, struct own_record *ret,
	struct mc_error *err);

/* clang-format off */
/*
 * Proposes `next` (whose generation must be known generation + 1) and drives that generation to a
 * decision, retrying lost or split rounds until the deadline.
 *
 *	0         decided, and it is exactly `next` (now, or found so: asking again is harmless)
 *	-ESTALE   that generation is decided otherwise, or a newer one exists; ret_decided is the
 *	          newest decided record (class NotOwner)
 *	-EPERM    this host may not propose that: it is not named in the record before
 *	-ENOLINK  undecided by the deadline, also when may_grant said no until then (class
 *	          NoMajority)
 *	-EIO      this host cannot write its own votes; otherwise as -ENOLINK
 *	-EINVAL   malformed, or not the generation after the known one
 *
 * ret_decided is filled with 0 and -ESTALE.
 *
 * After -ENOLINK and -EIO it MAY yet be decided as proposed: the caller must go on asking, and must
 * not act on either outcome.  (Asking for another record of the same generation is safe: the answer
 * is then -ESTALE with what was decided, if that is not what was asked.)
 */
/* clang-format on */
int voter_propose(struct voter *v, const char *vm, const struct own_record *next, uint64_t deadline,
	struct own_record *ret_decided, struct mc_error *err);

/*
 * The operator's word in place of the majority's: `next` becomes the decided record here, on
 * disk, and is told to every voter that can be reached, now or later.  Safe only if the hosts
 * that cannot be reached are really off, or will never show the VM again under the record
 * before: that is what the operator vouches for.  -EBUSY (class NotOwner): this host itself has
 * voted for another record of that generation, so that it may be decided already; -ESTALE,
 * -EPERM, -EIO as voter_propose.
 */
int voter_force(struct voter *v, const char *vm, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err);

/* Asks the other voters, but not `host` itself, how long ago each heard `host`; the smallest answer
 * (UINT64_MAX if nobody answered or heard).  Waits for all connected voters, at most until the
 * deadline. */
uint64_t voter_ask_heard(struct voter *v, const char *host, uint64_t deadline);
