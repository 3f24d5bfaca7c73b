/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hands lines from any thread to the loop's thread, which is woken by an eventfd.
 *
 * Counted references, because a request that is being served by another thread may outlive the
 * control socket (shutdown) and its answer still needs somewhere to go.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stdint.h>

/* When the loop is behind by this many lines, progress and events are dropped; answers never are
 * (their number is bounded by the requests in flight). */
#define CONTROL_MAILBOX_MAX 4096

struct control_mailbox;

enum control_letter_kind { CONTROL_ANSWER, CONTROL_PROGRESS, CONTROL_EVENT };

struct control_letter {
	struct control_letter *next;
	enum control_letter_kind kind;
	uint64_t client; /* whose request it was; not used for events */
	char *line;      /* with its newline */
};

int control_mailbox_new(struct control_mailbox **ret, struct mc_error *err);
struct control_mailbox *control_mailbox_ref(struct control_mailbox *m);
void control_mailbox_unref(struct control_mailbox *m); /* NULL is fine */

/* For the loop: readable while there are letters. */
int control_mailbox_fd(const struct control_mailbox *m);
/* Thread-safe.  Steals line; NULL (no memory to build it) is dropped. */
void control_mailbox_post(
	struct control_mailbox *m, enum control_letter_kind kind, uint64_t client, char *line);
/* Takes all letters, oldest first; ret_dropped: how many were dropped since the last call. */
struct control_letter *control_mailbox_take(struct control_mailbox *m, unsigned *ret_dropped);
void control_letter_free(struct control_letter *l);
/* From now on letters are dropped at once: nobody reads them any more. */
void control_mailbox_close(struct control_mailbox *m);
