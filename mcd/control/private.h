/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the control socket share.  Who may connect is in accept.c, what becomes of a
 * request and who gets events in serve.c, answers and events from any thread in answer.c; server.c
 * begins and ends it.
 *
 * Everything runs on the loop's thread except answer.c, which only writes lines into the
 * mailbox.  So an answer given inside a verb's run function takes the same way as one given an
 * hour later by another thread, and nothing is entered again from inside a verb.
 *
 * A client is found again by its number, never by pointer: the one who asked may be gone when the
 * answer comes.
 */
#pragma once
#include "mcd/control/client.h"
#include "mcd/control/control.h"
#include "mcd/control/mailbox.h"
#include "mcd/control/socket.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_CLIENTS_MAX 64
#define CONTROL_HISTORY_MAX 1024

struct control {
	sd_event *loop;
	struct control_socket socket;
	sd_event_source *listen_io, *listen_pause, *mailbox_io;
	struct control_mailbox *mailbox;
	struct control_verb *verbs; /* the daemon's and "events" behind them */
	const struct control_verb *events_verb;
	void *ctx;
	char *greeting;
	struct control_client *clients;
	unsigned n_clients;
	uint64_t last_client_id;
	char *history[CONTROL_HISTORY_MAX]; /* ring of event lines */
	size_t history_next, n_history;
	bool ending; /* no further request is served */
};

struct control_request {
	struct control_mailbox *mailbox;
	uint64_t client;
	json_t *id;
};

/* Of sd-event, in the order of the descriptors that they watch. */
int control_on_connect(sd_event_source *s, int fd, uint32_t revents, void *control);
int control_on_client(sd_event_source *s, int fd, uint32_t revents, void *client);

/* After anything was done to a client: frees it if it is done, else polls for what it needs now.
 * Clients are freed here only, and in control_free. */
void control_settle(struct control *c, struct control_client *cl);
/* Brings the answers and events that have arrived to those whom they concern. */
void control_read_mailbox(struct control *c);
