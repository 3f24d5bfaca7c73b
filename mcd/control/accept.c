/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may connect to the control socket. */
#include "mcd/control/private.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/control/line.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* After running out of descriptors: how long no connection is accepted. */
#define ACCEPT_PAUSE_USEC 200000

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
		log_warn("control: process %d of user %u was refused", (int)cred.pid, cred.uid);
		turn_away(fd, -EPERM, MC_ECLASS_PERMISSION, "only root may control mcd; use sudo");
		return 0;
	}
	if (c->n_clients >= CONTROL_CLIENTS_MAX) {
		turn_away(fd, -EBUSY, MC_ECLASS_FAILED,
			"too many clients are connected to mcd; end one of them and try again");
		return 0;
	}
	struct control_client *cl;
	int r = control_client_new(mc_steal_fd(&fd), cred.pid, ++c->last_client_id, &cl);
	if (r < 0)
		return r;
	r = sd_event_add_io(c->loop, &cl->io, cl->fd, EPOLLIN, control_on_client, cl);
	if (r < 0) {
		control_client_free(cl);
		return r;
	}
	cl->owner = c;
	cl->next = c->clients;
	c->clients = cl;
	c->n_clients++;
	assert(c->n_clients <= CONTROL_CLIENTS_MAX);
	control_client_send(cl, c->greeting, strlen(c->greeting));
	control_settle(c, cl);
	return 0;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct control *c = userdata;
	sd_event_source_set_enabled(c->listen_io, SD_EVENT_ON);
	return 0;
}

int control_on_connect(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct control *c = userdata;
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r = conn < 0 ? -errno : admit(c, conn);
	if (r >= 0 || r == -EAGAIN || r == -EINTR || r == -ECONNABORTED)
		return 0;
	/* No descriptors or memory: the connection stays in the queue and would wake the loop again
	 * at once, for ever. */
	log_warn("control: cannot serve a connection: %s", strerror(-r));
	c->listen_pause = sd_event_source_disable_unref(c->listen_pause);
	if (sd_event_add_time_relative(c->loop, &c->listen_pause, CLOCK_MONOTONIC,
		    ACCEPT_PAUSE_USEC, 0, on_pause_over, c) >= 0)
		sd_event_source_set_enabled(c->listen_io, SD_EVENT_OFF);
	return 0;
}
