/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket from beginning to end. */
#include "mcd/control/private.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/control/line.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define PROTOCOL_VERSION 1

static int on_mailbox(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	control_read_mailbox(userdata);
	return 0;
}

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
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the control socket");
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
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the control socket");
		goto fail;
	}
	r = control_socket_open(path, &c->socket, err);
	if (r < 0)
		goto fail;
	r = sd_event_add_io(
		loop, &c->listen_io, c->socket.listen_fd, EPOLLIN, control_on_connect, c);
	if (r >= 0)
		r = sd_event_add_io(loop, &c->mailbox_io, control_mailbox_fd(c->mailbox), EPOLLIN,
			on_mailbox, c);
	if (r < 0) {
		mc_error_set(err, r, MC_ECLASS_FAILED, "cannot watch the control socket: %s",
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
		control_read_mailbox(c);
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
	for (size_t i = 0; i < CONTROL_HISTORY_MAX; i++)
		free(c->history[i]);
	free(c->greeting);
	free(c->verbs);
	sd_event_unref(c->loop);
	free(c);
}
