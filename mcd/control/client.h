/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection to the control socket: lines in, lines out, both bounded.  Used by the loop's
 * thread only; serve.c owns the list, the event source and every decision. */
#pragma once
#include "mcd/control/request.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Requests of one client that may be unanswered; further lines wait in the socket meanwhile. */
#define CONTROL_IN_FLIGHT_MAX 32
/* Output that a client may leave unread before it is dropped; one more line may lie on top. */
#define CONTROL_BACKLOG_MAX (1024 * 1024)

struct control_client {
	struct control_client *next;
	struct control *owner;
	sd_event_source *io;
	uint64_t id;
	int fd;
	pid_t pid; /* for log lines */
	unsigned in_flight;
	bool subscriber;  /* wants events */
	bool eof;         /* it will send nothing more, but may still read */
	bool closing;     /* gets what is in the output buffer and is then closed */
	const char *dead; /* why it must be closed now; NULL while it is well */
	size_t in_begin, in_end;
	char in[CONTROL_LINE_MAX + 1];
	char *out;
	size_t out_begin, out_end, out_size;
};

/* Takes fd (also on failure). */
int control_client_new(int fd, pid_t pid, uint64_t id, struct control_client **ret);
void control_client_free(struct control_client *cl); /* NULL is fine */

/* Reads what fits, until the socket has no more.  Sets eof or dead. */
void control_client_read(struct control_client *cl);
/* The next whole line without its newline, or NULL.  Valid until the next read.  -EMSGSIZE in
 * *ret_error when the line is longer than CONTROL_LINE_MAX; untouched else. */
char *control_client_line(struct control_client *cl, size_t *ret_len, int *ret_error);
/* Queues and writes as much as the socket takes.  Sets dead when the backlog is too large. */
void control_client_send(struct control_client *cl, const char *data, size_t len);
void control_client_flush(struct control_client *cl);
/* Is there nothing left to do for it? */
bool control_client_done(const struct control_client *cl);
/* What to poll for: EPOLLIN only while another request may be taken. */
uint32_t control_client_interest(const struct control_client *cl);
