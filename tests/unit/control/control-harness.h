/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A control socket with a dummy verb table on a loop of its own thread, and a blocking client. */
#pragma once
#include "mcd/control/control.h"
#include <stddef.h>

struct harness;

/* The path of the socket is in a new private directory. */
struct harness *harness_start(void);
void harness_stop(struct harness *h);
const char *harness_path(const struct harness *h);
struct control *harness_control(struct harness *h);

/* Requests that the verb "hold" keeps: waits for the next one, to be answered by the test. */
struct control_request *harness_held(struct harness *h);

/* A client: every read gives up after 5 seconds. */
int client_connect(const struct harness *h); /* and reads the greeting */
int client_connect_raw(const char *path);
void client_write(int fd, const void *data, size_t len);
void client_say(int fd, const char *line); /* adds the newline */
json_t *client_read(int fd);               /* one line; NULL at the end of the stream */
json_t *client_ask(int fd, const char *line);
/* The class of an answer that is an error, else NULL. */
const char *answer_class(const json_t *answer);
const char *answer_message(const json_t *answer);
