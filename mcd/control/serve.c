/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a client's requests, and who gets events. */
#include "mcd/control/private.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/control/line.h"
#include "mcd/control/request.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* --- requests --- */

static struct control_client *find_client(struct control *c, uint64_t id)
{
	for (struct control_client *cl = c->clients; cl; cl = cl->next)
		if (cl->id == id)
			return cl;
	return NULL;
}

/* Frees a client that is done, else polls for what it needs now. */
void control_settle(struct control *c, struct control_client *cl)
{
	if (!control_client_done(cl)) {
		int r = sd_event_source_set_io_events(cl->io, control_client_interest(cl));
		if (r >= 0)
			return;
		cl->dead = "it cannot be watched";
	}
	if (cl->dead && cl->subscriber && !cl->eof)
		log_warn("control: a subscriber of events (pid %d) is dropped: %s", (int)cl->pid,
			cl->dead);
	else if (cl->dead)
		log_debug("control: client %d is dropped: %s", (int)cl->pid, cl->dead);
	struct control_client **at = &c->clients;
	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
	assert(c->n_clients);
	c->n_clients--;
	control_client_free(cl);
}

static void send_line(struct control_client *cl, char *line)
{
	if (line)
		control_client_send(cl, line, strlen(line));
	else
		cl->dead = "there is no memory for its answer";
	free(line);
}

/* The answer comes before the history, and the history before any later event, because events
 * reach the ring and the subscribers by the mailbox, which is not read meanwhile. */
static void subscribe(struct control *c, struct control_client *cl, const struct control_call *call)
{
	bool history = json_is_true(json_object_get(call->args, "history"));
	size_t n = history ? c->n_history : 0;
	send_line(cl, control_line(json_pack("{s:O, s:{s:I}}", "id", call->id, "return", "history",
			      (json_int_t)n)));
	cl->subscriber = true;
	size_t total = 0, at = 0;
	for (size_t i = 0; i < n; i++)
		total += strlen(c->history[(c->history_next + CONTROL_HISTORY_MAX - n + i) %
					   CONTROL_HISTORY_MAX]);
	/* As one piece: the backlog limit is for those who do not read, not for a long history. */
	_cleanup_free_ char *all = malloc(total + 1);
	if (!all) {
		cl->dead = "there is no memory for the history";
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *line = c->history[(c->history_next + CONTROL_HISTORY_MAX - n + i) %
					      CONTROL_HISTORY_MAX];
		size_t len = strlen(line);
		memcpy(all + at, line, len);
		at += len;
	}
	assert(at == total);
	control_client_send(cl, all, total);
}

static void run_verb(struct control *c, struct control_client *cl, const struct control_call *call)
{
	struct control_request *req = malloc(sizeof *req);
	if (!req) {
		cl->dead = "there is no memory for its request";
		return;
	}
	*req = (struct control_request){
		.mailbox = control_mailbox_ref(c->mailbox),
		.client = cl->id,
		.id = json_incref(call->id),
	};
	assert(cl->in_flight < CONTROL_IN_FLIGHT_MAX);
	cl->in_flight++;
	call->verb->run(c->ctx, req, call->args);
}

static bool is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr(" \t\r", line[i]) || !line[i])
			return false;
	return true;
}

static void serve_line(struct control *c, struct control_client *cl, const char *line, size_t len)
{
	if (is_blank(line, len))
		return;
	struct control_call call = {0};
	struct mc_error err = MC_ERROR_INIT;
	if (control_parse(line, len, c->verbs, &call, &err) < 0)
		send_line(cl, control_error_line(call.id, &err));
	else if (call.verb == c->events_verb)
		subscribe(c, cl, &call);
	else
		run_verb(c, cl, &call);
	control_call_clear(&call);
}

/* Serves the lines that have arrived, as many as may be in flight. */
static void serve(struct control *c, struct control_client *cl)
{
	while (!c->ending && !cl->dead && !cl->closing && cl->in_flight < CONTROL_IN_FLIGHT_MAX) {
		size_t len;
		int error = 0;
		char *line = control_client_line(cl, &len, &error);
		if (line) {
			serve_line(c, cl, line, len);
		} else if (error) {
			/* Where the next request begins is unknown now, so this is the end. */
			struct mc_error err = MC_ERROR_INIT;
			mc_error_set(&err, -EMSGSIZE, MC_ECLASS_BAD_REQUEST,
				"a request line has at most %d bytes; the connection is closed",
				CONTROL_LINE_MAX);
			send_line(cl, control_error_line(json_null(), &err));
			cl->closing = true;
		} else {
			return;
		}
	}
}

int control_on_client(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct control_client *cl = userdata;
	struct control *c = cl->owner;
	if (revents & EPOLLOUT)
		control_client_flush(cl);
	if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR) && !cl->closing &&
		cl->in_flight < CONTROL_IN_FLIGHT_MAX) {
		control_client_read(cl);
		serve(c, cl);
	}
	/* Nobody is there to read.  What it sent before it went has been served above. */
	if (revents & (EPOLLHUP | EPOLLERR)) {
		cl->dead = "it has gone";
		cl->eof = true;
	}
	control_settle(c, cl);
	return 0;
}

/* --- answers and events arriving --- */

/* Steals line. */
static void remember(struct control *c, char *line)
{
	assert(c->history_next < CONTROL_HISTORY_MAX);
	free(c->history[c->history_next]);
	c->history[c->history_next] = line;
	c->history_next = (c->history_next + 1) % CONTROL_HISTORY_MAX;
	if (c->n_history < CONTROL_HISTORY_MAX)
		c->n_history++;
}

static void broadcast(struct control *c, const char *line)
{
	struct control_client *next;
	for (struct control_client *cl = c->clients; cl; cl = next) {
		next = cl->next;
		if (!cl->subscriber || cl->closing)
			continue;
		control_client_send(cl, line, strlen(line));
		control_settle(c, cl);
	}
}

static void deliver(struct control *c, const struct control_letter *l)
{
	struct control_client *cl = find_client(c, l->client);
	if (!cl)
		return;
	control_client_send(cl, l->line, strlen(l->line));
	if (l->kind == CONTROL_ANSWER) {
		assert(cl->in_flight); /* a request is answered once */
		cl->in_flight--;
		serve(c, cl); /* lines that waited for a free place */
	}
	control_settle(c, cl);
}

void control_read_mailbox(struct control *c)
{
	unsigned dropped;
	struct control_letter *l = control_mailbox_take(c->mailbox, &dropped);
	if (dropped)
		log_warn("control: %u lines were dropped because the loop was busy", dropped);
	while (l) {
		struct control_letter *next = l->next;
		if (l->kind == CONTROL_EVENT) {
			broadcast(c, l->line);
			remember(c, mc_steal_ptr(l->line));
		} else {
			deliver(c, l);
		}
		control_letter_free(l);
		l = next;
	}
}
