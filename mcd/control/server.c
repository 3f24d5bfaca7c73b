/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: who may connect, what becomes of a request, who gets events.
 *
 * Everything here runs on the loop's thread except the last section (answers and events from any
 * thread), which only writes lines into the mailbox.  So an answer given inside a verb's run
 * function takes the same way as one given an hour later by another thread, and nothing here is
 * entered again from inside a verb.
 *
 * A client is found again by its number, never by pointer: the one who asked may be gone when the
 * answer comes.  Clients are freed in settle() only.
 */
#include "mcd/control/control.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/control/client.h"
#include "mcd/control/line.h"
#include "mcd/control/mailbox.h"
#include "mcd/control/request.h"
#include "mcd/control/socket.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PROTOCOL_VERSION 1
#define CLIENTS_MAX      64
#define HISTORY_MAX      1024
/* After running out of descriptors: how long no connection is accepted. */
#define ACCEPT_PAUSE_USEC 200000

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
	char *history[HISTORY_MAX]; /* ring of event lines */
	size_t history_next, n_history;
	bool ending; /* no further request is served */
};

struct control_request {
	struct control_mailbox *mailbox;
	uint64_t client;
	json_t *id;
};

/* --- clients --- */

static int on_client(sd_event_source *s, int fd, uint32_t revents, void *userdata);

static struct control_client *find_client(struct control *c, uint64_t id)
{
	for (struct control_client *cl = c->clients; cl; cl = cl->next)
		if (cl->id == id)
			return cl;
	return NULL;
}

/* Frees a client that is done, else polls for what it needs now. */
static void settle(struct control *c, struct control_client *cl)
{
	if (!control_client_done(cl)) {
		int r = sd_event_source_set_io_events(cl->io, control_client_interest(cl));
		if (r >= 0)
			return;
		cl->dead = "it cannot be watched";
	}
	if (cl->dead && cl->subscriber && !cl->eof)
		log_warn("control: a subscriber of events (pid %d) is dropped: %s.", (int)cl->pid,
			cl->dead);
	else if (cl->dead)
		log_debug("control: client %d is dropped: %s.", (int)cl->pid, cl->dead);
	struct control_client **at = &c->clients;
	while (*at != cl)
		at = &(*at)->next;
	*at = cl->next;
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
		total += strlen(c->history[(c->history_next + HISTORY_MAX - n + i) % HISTORY_MAX]);
	/* As one piece: the backlog limit is for those who do not read, not for a long history. */
	_cleanup_free_ char *all = malloc(total + 1);
	if (!all) {
		cl->dead = "there is no memory for the history";
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const char *line =
			c->history[(c->history_next + HISTORY_MAX - n + i) % HISTORY_MAX];
		size_t len = strlen(line);
		memcpy(all + at, line, len);
		at += len;
	}
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
				"A request line has at most %d bytes; the connection is closed.",
				CONTROL_LINE_MAX);
			send_line(cl, control_error_line(json_null(), &err));
			cl->closing = true;
		} else {
			return;
		}
	}
}

static int on_client(sd_event_source *s, int fd, uint32_t revents, void *userdata)
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
	settle(c, cl);
	return 0;
}

/* --- accepting --- */

/* A line to someone who is not let in; the socket's buffer is empty, so it fits or never will. */
static void turn_away(int fd, int code, const char *cls, const char *message)
{
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, code, cls, "%s", message);
	_cleanup_free_ char *line = control_error_line(json_null(), &err);
	ssize_t n = line ? send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	(void)n;
}

static int admit(struct control *c, int fd_taken)
{
	_cleanup_close_ int fd = fd_taken;
	struct ucred cred;
	socklen_t len = sizeof cred;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (cred.uid != 0 && cred.uid != geteuid()) {
		log_warn("control: process %d of user %u was refused.", (int)cred.pid, cred.uid);
		turn_away(fd, -EPERM, MC_ECLASS_PERMISSION, "Only root may control mcd; use sudo.");
		return 0;
	}
	if (c->n_clients >= CLIENTS_MAX) {
		turn_away(fd, -EBUSY, MC_ECLASS_FAILED,
			"Too many clients are connected to mcd; end one of them and try again.");
		return 0;
	}
	struct control_client *cl;
	int r = control_client_new(mc_steal_fd(&fd), cred.pid, ++c->last_client_id, &cl);
	if (r < 0)
		return r;
	r = sd_event_add_io(c->loop, &cl->io, cl->fd, EPOLLIN, on_client, cl);
	if (r < 0) {
		control_client_free(cl);
		return r;
	}
	cl->owner = c;
	cl->next = c->clients;
	c->clients = cl;
	c->n_clients++;
	control_client_send(cl, c->greeting, strlen(c->greeting));
	settle(c, cl);
	return 0;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct control *c = userdata;
	sd_event_source_set_enabled(c->listen_io, SD_EVENT_ON);
	return 0;
}

static int on_connect(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct control *c = userdata;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r = conn < 0 ? -errno : admit(c, conn);
	if (r >= 0 || r == -EAGAIN || r == -EINTR || r == -ECONNABORTED)
		return 0;
	/* No descriptors or memory: the connection stays in the queue and would wake the loop again
	 * at once, for ever. */
	log_warn("control: cannot serve a connection: %s.", strerror(-r));
	c->listen_pause = sd_event_source_disable_unref(c->listen_pause);
	if (sd_event_add_time_relative(c->loop, &c->listen_pause, CLOCK_MONOTONIC,
		    ACCEPT_PAUSE_USEC, 0, on_pause_over, c) >= 0)
		sd_event_source_set_enabled(c->listen_io, SD_EVENT_OFF);
	return 0;
}

/* --- answers and events arriving --- */

/* Steals line. */
static void remember(struct control *c, char *line)
{
	free(c->history[c->history_next]);
	c->history[c->history_next] = line;
	c->history_next = (c->history_next + 1) % HISTORY_MAX;
	if (c->n_history < HISTORY_MAX)
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
		settle(c, cl);
	}
}

static void deliver(struct control *c, const struct control_letter *l)
{
	struct control_client *cl = find_client(c, l->client);
	if (!cl)
		return;
	control_client_send(cl, l->line, strlen(l->line));
	if (l->kind == CONTROL_ANSWER) {
		cl->in_flight--;
		serve(c, cl); /* lines that waited for a free place */
	}
	settle(c, cl);
}

static void read_mailbox(struct control *c)
{
	unsigned dropped;
	struct control_letter *l = control_mailbox_take(c->mailbox, &dropped);
	if (dropped)
		log_warn("control: %u lines were dropped because the loop was busy.", dropped);
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

static int on_mailbox(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	read_mailbox(userdata);
	return 0;
}

/* --- from beginning to end --- */

static int build_verbs(struct control *c, const struct control_verb *verbs)
{
	static const struct control_verb events = {
		.name = "events",
		.args = {{"history", CONTROL_BOOL, false}},
	};
	size_t n = 0;
	while (verbs[n].name)
		n++;
	c->verbs = calloc(n + 2, sizeof *c->verbs);
	if (!c->verbs)
		return -ENOMEM;
	memcpy(c->verbs, verbs, n * sizeof *verbs);
	c->verbs[n] = events;
	c->events_verb = &c->verbs[n];
	return 0;
}

int control_new(sd_event *loop, const char *path, const char *host,
	const struct control_verb *verbs, void *ctx, struct control **ret, struct mc_error *err)
{
	struct control *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "No memory for the control socket.");
	c->socket.listen_fd = c->socket.lock_fd = -1;
	c->loop = sd_event_ref(loop);
	c->ctx = ctx;
	int r = control_mailbox_new(&c->mailbox, err);
	if (r < 0)
		goto fail;
	c->greeting = control_line(json_pack("{s:{s:s, s:i, s:o}}", "mcd", "version", MCD_VERSION,
		"protocol", PROTOCOL_VERSION, "host", control_text(host)));
	if (!c->greeting || build_verbs(c, verbs) < 0) {
		r = mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "No memory for the control socket.");
		goto fail;
	}
	r = control_socket_open(path, &c->socket, err);
	if (r < 0)
		goto fail;
	r = sd_event_add_io(loop, &c->listen_io, c->socket.listen_fd, EPOLLIN, on_connect, c);
	if (r >= 0)
		r = sd_event_add_io(loop, &c->mailbox_io, control_mailbox_fd(c->mailbox), EPOLLIN,
			on_mailbox, c);
	if (r < 0) {
		mc_error_set(err, r, MC_ECLASS_FAILED, "Cannot watch the control socket: %s.",
			strerror(-r));
		goto fail;
	}
	*ret = c;
	return 0;
fail:
	control_free(c);
	return r;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	/* Answers given just now are still written; what a socket does not take is lost. */
	c->ending = true;
	if (c->mailbox_io)
		read_mailbox(c);
	/* Sources before the descriptors that they watch. */
	sd_event_source_disable_unref(c->mailbox_io);
	sd_event_source_disable_unref(c->listen_io);
	sd_event_source_disable_unref(c->listen_pause);
	if (c->mailbox)
		control_mailbox_close(c->mailbox);
	control_mailbox_unref(c->mailbox);
	while (c->clients) {
		struct control_client *cl = c->clients;
		c->clients = cl->next;
		control_client_free(cl);
	}
	control_socket_close(&c->socket);
	for (size_t i = 0; i < HISTORY_MAX; i++)
		free(c->history[i]);
	free(c->greeting);
	free(c->verbs);
	sd_event_unref(c->loop);
	free(c);
}

/* --- from any thread --- */

static void finish(struct control_request *req, char *line)
{
	control_mailbox_post(req->mailbox, CONTROL_ANSWER, req->client, line);
	control_mailbox_unref(req->mailbox);
	json_decref(req->id);
	free(req);
}

void control_answer(struct control_request *req, json_t *result)
{
	if (!result)
		result = json_object();
	finish(req, control_line(json_pack("{s:O, s:o}", "id", req->id, "return", result)));
}

void control_fail(struct control_request *req, const struct mc_error *err)
{
	finish(req, control_error_line(req->id, err));
}

void control_progress(struct control_request *req, json_t *data)
{
	control_mailbox_post(req->mailbox, CONTROL_PROGRESS, req->client,
		control_line(json_pack("{s:O, s:o}", "id", req->id, "progress", data)));
}

void control_emit(struct control *c, const char *event, json_t *data)
{
	control_mailbox_post(c->mailbox, CONTROL_EVENT, 0, control_event_line(event, data));
}
