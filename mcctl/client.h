/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The other end of mcd/control.h: one connection, requests one after the other. */
#pragma once
#include "common/error.h"
#include <jansson.h>
#include <stdint.h>

struct client;

/* Connects and reads the greeting; a protocol version that we do not speak is refused. */
int client_open(const char *path, struct client **ret, struct mc_error *err);
void client_close(struct client *c); /* NULL is fine */
void client_closep(struct client **c);
/* {"version", "protocol", "host"} */
const json_t *client_greeting(const struct client *c);

/* One request.  args is stolen and may be NULL.  progress (may be NULL) is called for every
 * progress line.  timeout_ns: 0 waits as long as the daemon lives. */
int client_call(struct client *c, const char *verb, json_t *args, uint64_t timeout_ns,
	void (*progress)(void *ctx, const json_t *data), void *ctx, json_t **ret_result,
	struct mc_error *err);
/* The next event, however long it takes. */
int client_event(struct client *c, json_t **ret_event, struct mc_error *err);
