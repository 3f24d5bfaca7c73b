/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A QMP session: greeting, capabilities, commands with ids, events, descriptors by SCM_RIGHTS.
 * A session belongs to one thread at a time.  Every wait is bounded: a QEMU that does not answer
 * gives -ETIMEDOUT (class Timeout) and the session is broken from then on (later calls -EPIPE),
 * because a late answer could be taken for another command's.  Events that arrive meanwhile are
 * queued if they are wanted, and delivered by qmp_next_event.
 *
 * QEMU may be broken or hostile.  Whatever it sends, and however fast, every wait ends at its
 * deadline, and a session never takes more than 16 MiB: a message has 1 MiB and 32768 values at
 * most, or the session breaks; the events kept are 256 and 64 KiB at most, the oldest dropped.
 */
#pragma once
#include "common/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct qmp;

/* Connects to a unix socket (retrying while the path is missing or refuses, until the deadline),
 * reads the greeting, negotiates.  oob: enable the oob capability (needed by qmp_oob). */
int qmp_open(const char *path, bool oob, uint64_t deadline, struct qmp **ret, struct mc_error *err);
/* The same for a QEMU that is being started: gone_fd (its pidfd) becoming readable ends the
 * retries at once with -EPIPE. */
int qmp_open_watch(const char *path, bool oob, int gone_fd, uint64_t deadline, struct qmp **ret,
	struct mc_error *err);
void qmp_close(struct qmp *q); /* NULL is fine */
/* Connects anew in place, which makes a broken session whole; events not yet taken are gone.  On
 * failure the session is (still) broken. */
int qmp_reopen(struct qmp *q, uint64_t deadline, struct mc_error *err);

/* Which events to keep: NULL-terminated names, which have to outlive the session.  All others are
 * dropped as they come.  Without it (or NULL) all are kept, within the bounds.  Whoever waits for
 * an event that is not among them waits in vain. */
void qmp_want_events(struct qmp *q, const char *const *names);

/* Runs a command; args is stolen (also on failure) and may be NULL; ret_result (may be NULL)
 * receives a new reference to the "return" member.  A QMP error gives -EREMOTEIO, class QemuError,
 * with QEMU's own sentence and the command's name in the message. */
int qmp_command(struct qmp *q, const char *name, json_t *args, uint64_t timeout_ns,
	json_t **ret_result, struct mc_error *err);
/* The same as an out-of-band command (exec-oob); the session must have been opened with oob. */
int qmp_oob(struct qmp *q, const char *name, json_t *args, uint64_t timeout_ns, json_t **ret_result,
	struct mc_error *err);
/* A human monitor command; ret_text is malloc'd. */
int qmp_hmp(struct qmp *q, const char *line, uint64_t timeout_ns, char **ret_text,
	struct mc_error *err);

/* Waits for QEMU's event of that name, also one already queued (which is consumed; the others
 * stay queued in order).  ret_data (may be NULL): new reference to its "data", NULL if it has
 * none.  -ETIMEDOUT leaves the session usable. */
int qmp_wait_event(struct qmp *q, const char *name, uint64_t deadline, json_t **ret_data,
	struct mc_error *err);
/* Takes the oldest event, reading what the socket holds without blocking, 256 KiB at most: more of
 * it the next time.  1 = got one (the whole event object, new reference), 0 = none,
 * negative = session broken (-EPIPE: QEMU closed it). */
int qmp_next_event(struct qmp *q, json_t **ret_event);
/* For poll(2). */
int qmp_fd(const struct qmp *q);

/* Which of the NULL-terminated command names this QEMU lacks (query-commands): 0 if it has all,
 * else -ENOTSUP, class GuestUnsuitable, naming every missing one. */
int qmp_require_commands(struct qmp *q, const char *const *names, struct mc_error *err);
