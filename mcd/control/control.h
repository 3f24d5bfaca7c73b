/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: JSON lines over a unix stream socket, served by the control loop (sd-event).
 * The protocol is specified in docs/control-protocol.md.
 *
 * greeting  {"mcd": {"version": "0.1.0", "protocol": 1, "host": "hostA"}}
 * request   {"id": any, "execute": "protect", "arguments": {...}}
 * answer    {"id": any, "return": {...}}
 *       or  {"id": any, "error": {"class": "...", "message": "..."}}
 * event     {"event": "STATE_CHANGED", "time": ns, "realtime": "...", "data": {...}}
 *           (subscribers only)
 */
#pragma once
#include "common/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct control;
struct control_request; /* one request being served; answered exactly once, from any thread */

enum control_arg_type { CONTROL_STRING = 's', CONTROL_BOOL = 'b', CONTROL_INT = 'i' };
struct control_arg {
	const char *name;
	enum control_arg_type type;
	bool required;
};

struct control_verb {
	const char *name;
	/* Checked before run: types, missing ones, unknown ones (with the nearest name). */
	struct control_arg args[8];
	/* Called on the loop's thread; must not block.  Answers now, or keeps req for later. */
	void (*run)(void *ctx, struct control_request *req, const json_t *args);
};

/* verbs: NULL-name terminated; copied; "events" is added to them and served here.  The socket is
 * made mode 0600 at `path`; a stale one is replaced, a live one refused (-EADDRINUSE: another mcd
 * runs, which shows in its lock on PATH.lock). */
int control_new(sd_event *loop, const char *path, const char *host,
	const struct control_verb *verbs, void *ctx, struct control **ret, struct mc_error *err);
/* Closes every connection.  Requests that other threads still hold may be answered afterwards. */
void control_free(struct control *c); /* NULL is fine */

/* Thread-safe.  Steal `result`; the client may be gone meanwhile: then nothing happens. */
void control_answer(struct control_request *req, json_t *result);
void control_fail(struct control_request *req, const struct mc_error *err);
/* An intermediate line {"id":…, "progress": {...}} for requests that take long.  Steals data. */
void control_progress(struct control_request *req, json_t *data);
/* Sends an event to all subscribers and keeps it in a ring of the last 1024 (verbs "events" with
 * "history": true replay it).  Thread-safe; steals data. */
void control_emit(struct control *c, const char *event, json_t *data);
