/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The surroundings of a VM (mcd/vm/env.h), in memory, for unit tests of the roles: voters that
 * decide as the test says, keep-alives that fall silent when it says so, streams that it hands
 * out.  With the fake guest and the fake network a whole protection runs in a test's own thread,
 * in milliseconds.
 *
 * All functions are thread-safe.
 */
#pragma once
#include "mcd/vm/env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct world;

/* Of host `self`, which is one of hostA, hostB and hostC.  Its directories are below a new one in
 * TMPDIR, removed by world_free. */
struct world *world_new(const char *self);
void world_free(struct world *w);
const struct vm_env *world_env(const struct world *w);
struct config *world_config(struct world *w); /* to change a knob, before a VM is made */
/* Writes vms.d/NAME.conf: a guest of 8 MiB with one NIC, and `more` (lines, or NULL). */
void world_add_vm(struct world *w, const char *name, const char *more);
/* below its directory */
const char *world_path(struct world *w, const char *leaf, char *buf, size_t size);

/* --- votes --- */
enum world_vote {
	WORLD_WINS,    /* decided as proposed */
	WORLD_STUCK,   /* no majority answers: -ENOLINK, and nothing was accepted anywhere */
	WORLD_UNHEARD, /* decided as proposed, but the answer is lost: -ENOLINK */
};
/* How the next n proposals go; those after them win.  A proposal of a generation that is decided
 * already is told the newest record (-ESTALE), whatever was said here. */
void world_votes(struct world *w, enum world_vote how, unsigned n);
/* Called before each proposal is answered, by the thread that proposes; may change anything
 * here. */
void world_on_propose(
	struct world *w, void (*fn)(void *ctx, const struct own_record *next), void *ctx);
/* What a majority has decided.  The VM here learns it when it asks, or by vm_learned. */
void world_decide(struct world *w, const struct own_record *rec);
struct own_record world_decided(struct world *w);
/* What this host's own voter has on its disk, for a VM that is made after this. */
void world_know(struct world *w, const struct own_record *rec);
/* All that was proposed so far, the oldest first; returns how many there were. */
size_t world_proposals(struct world *w, struct own_record *ret, size_t max);
struct own_record world_record(uint64_t generation, const char *owner, const char *standby);

/* --- hosts --- */
void world_suspect(struct world *w, const char *host, bool yes); /* the test rings the VM itself */
/* what the other voters say of any host */
void world_others_hear(struct world *w, bool yes);
void world_set_quorate(struct world *w, bool yes);
void world_set_reachable(struct world *w, size_t connected); /* of three voters; at first all */

/* --- streams: what the next connect, welcome and so on give; taken over. NULL: they fail. --- */
void world_give_stream(struct world *w, struct transport *t);
void world_give_disk(struct world *w, struct disklink *l);

/* --- what was said --- */
unsigned world_emitted(struct world *w, const char *event); /* how often */
/* The newest event of that name: its member as text; "" if there is none. */
const char *world_event(
	struct world *w, const char *event, const char *member, char *buf, size_t size);
