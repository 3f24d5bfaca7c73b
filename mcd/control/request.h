/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turns one line of the control protocol into a checked request.  Pure: bytes in, request or error
 * out, no I/O and no state; fuzzed by tests/fuzz/fuzz-control.c. */
#pragma once
#include "mcd/control/control.h"
#include <stddef.h>

#define CONTROL_LINE_MAX (64 * 1024) /* bytes of a request line, its newline not counted */

struct control_call {
	json_t *id;                      /* new reference; JSON null when the request had none */
	const struct control_verb *verb; /* one row of the table that was given */
	json_t *args; /* new reference to an object, empty when there were none */
};

/* Parses `len` bytes (without the newline) and checks them against the verbs (NULL-name
 * terminated): a JSON object with "execute" and at most "id" and "arguments" besides; a known verb;
 * every required argument, no unknown one, each of its type.
 * An exception to the rule about ret_ parameters, because an error is answered with the request's
 * id: ret->id is set on failure too (JSON null if it could not be read); the rest is not. */
int control_parse(const char *line, size_t len, const struct control_verb *verbs,
	struct control_call *ret, struct mc_error *err);
void control_call_clear(struct control_call *call);
