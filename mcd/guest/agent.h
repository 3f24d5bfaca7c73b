/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's own clock, set by its agent (QEMU's guest agent, qemu-ga).
 *
 * A guest that was taken over goes on where its last checkpoint was: its clock is late by the
 * outage.  And while it is protected it loses every pause, some percent of the time.  Whoever keeps
 * time inside of it mends that, sooner or later; the agent does it at once.
 *
 * Nothing here may delay a VM, or rely on what a guest says: a thread of its own asks, every answer
 * is bounded and checked, and whatever goes wrong is a sentence for the log.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct guest_agent;

/* What came of it.  behind: by how much the guest's clock was late, in ns, INT64_MIN if the agent
 * did not say; set: whether it was set, and then left: by how much it is late now (INT64_MIN: not
 * known). */
struct guest_time {
	int64_t behind, left;
	int set;
	struct mc_error err; /* why it was not, or not surely; code 0: all is well */
};

/* Starts to set the clock of the guest whose agent QEMU (pid) offers on the unix socket, if
 * it is late by more than `tolerance` ns, and returns at once.  done is called once, from the other
 * thread, unless guest_agent_free comes first.  All is over within GUEST_AGENT_WAIT. */
#define GUEST_AGENT_WAIT (30ull * 1000000000)
int guest_agent_set_time(const char *socket, pid_t pid, int64_t tolerance,
	void (*done)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err);
/* Whether it is still under way; false for NULL. */
bool guest_agent_busy(const struct guest_agent *a);
/* Ends it, at once, if it is still under way.  Fine on NULL. */
void guest_agent_free(struct guest_agent *a);

/*
 * The agent's side of the conversation, byte by byte; pure.  An answer is a line of JSON.  Behind
 * guest-sync-delimited it has 0xFF in front, and everything before that is left over from others,
 * perhaps in the middle of a line.
 */
#define AGENT_LINE_MAX 4096 /* what we ask for has under 100 bytes; the guest may send anything */

struct agent_reader {
	char line[AGENT_LINE_MAX];
	size_t n;
	int synced;   /* 0xFF was seen since agent_reader_sync */
	int overlong; /* the rest of a line that was too long is passed over */
};

/* Everything that was not taken yet, up to the next 0xFF, is not meant for us. */
void agent_reader_sync(struct agent_reader *r);
/* Takes one byte; 1: with it a line is complete, in r->line, zero-terminated, until the next call.
 */
int agent_reader_byte(struct agent_reader *r, uint8_t byte);
/* The integer in {"return": N}.  -EBADMSG: it is no such answer; -EREMOTEIO: the agent's error,
 * with its (printable) words in err.  For {"return": {}} pass NULL. */
int agent_answer(const char *line, int64_t *ret_number, struct mc_error *err);
