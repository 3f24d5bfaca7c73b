/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conversation with the guest's agent, in a thread of its own:
 *
 *   connect                     the port has room for one: while somebody else talks to the agent,
 * our connection waits in QEMU's queue, and no answer comes FF guest-sync-delimited N   until its
 * answer FF {"return": N} is here: what comes before was meant for others, perhaps on the other
 * host guest-get-time              how late is it? guest-set-time              only forward: after
 * an outage a guest is late.  One that is ahead has its own idea of the time, or this host is
 * wrong: left alone. guest-get-time              was it done?  (the agent also fails when only the
 * guest's hardware clock could not be set)
 */
#include "mcd/guest/agent.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/thread.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SYNC_WAIT                                                                                  \
	(5 * MC_SEC) /* then it is asked once more: a guest that boots drops what comes early */
#define SYNC_TRIES 3
#define ANSWER_WAIT                                                                                \
	(10 * MC_SEC)        /* setting starts a program in the guest, for its hardware clock      \
			      */
#define BYTES_MAX (1u << 20) /* of an answer; we do not listen to more */
struct guest_agent {
	char path[108];
	pid_t pid;
	int64_t tolerance;
	void (*done)(void *ctx, const struct guest_time *what);
	void *ctx;
	pthread_t thread;
	int stop; /* eventfd: guest_agent_free */
	int fd;
	uint64_t deadline; /* of everything */
	atomic_bool over;
	struct agent_reader in;
};

static int64_t wall_clock(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * (int64_t)MC_SEC + ts.tv_nsec;
}

static int link_up(struct guest_agent *a, struct mc_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t len = sizeof peer;
	memcpy(sa.sun_path, a->path, sizeof sa.sun_path);
	a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (a->fd < 0 || connect(a->fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_QMP, "cannot connect to %s: %s%s",
			a->path, strerror(errno),
			errno == EAGAIN ? "; somebody else talks to the guest's agent" : "");
	/* The path is the administrator's choice, and perhaps in reach of others. */
	if (getsockopt(a->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.pid != a->pid)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"%s is not a socket of this VM's QEMU (pid %d), but of process %d", a->path,
			(int)a->pid, (int)peer.pid);
	return 0;
}

/* Until there is something to read, or to write. */
static int await(struct guest_agent *a, short events, uint64_t deadline, struct mc_error *err)
{
	struct pollfd p[] = {{.fd = a->fd, .events = events}, {.fd = a->stop, .events = POLLIN}};
	if (deadline > a->deadline)
		deadline = a->deadline;
	for (;;) {
		int n = poll(p, 2, mc_ms_left(deadline));
		if (p[1].revents)
			return mc_error_set(
				err, -ECANCELED, MC_ECLASS_STATE, "mcd needs it no more");
		if (n > 0)
			return 0;
		if (n == 0)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"the guest's agent does not answer; is it running in the guest, "
				"and is nobody else connected to %s?",
				a->path);
		if (errno != EINTR)
			return mc_error_set(
				err, -errno, MC_ECLASS_FAILED, "poll: %s", strerror(errno));
	}
}

static int closed(int r, struct mc_error *err)
{
	return mc_error_set(err, r ? r : -EPIPE, MC_ECLASS_QMP,
		"the connection to the guest's agent broke: %s", strerror(r ? -r : EPIPE));
}

static int say(struct guest_agent *a, const char *text, size_t len, uint64_t deadline,
	struct mc_error *err)
{
	while (len) {
		ssize_t n = send(a->fd, text, len, MSG_NOSIGNAL);
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		} else if (errno != EAGAIN && errno != EINTR) {
			return closed(-errno, err);
		} else {
			int r = await(a, POLLOUT, deadline, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* The next line, in a->in.line. */
static int hear(struct guest_agent *a, size_t *budget, uint64_t deadline, struct mc_error *err)
{
	for (;;) {
		/* One by one: an answer has some forty. */
		uint8_t byte;
		ssize_t n = recv(a->fd, &byte, 1, 0);
		if (n == 1) {
			if ((*budget)-- == 0)
				return mc_error_set(err, -EMSGSIZE, MC_ECLASS_QMP,
					"the guest's agent talks without end");
			if (agent_reader_byte(&a->in, byte))
				return 0;
			continue;
		}
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			return closed(n == 0 ? 0 : -errno, err);
		int r = await(a, POLLIN, deadline, err);
		if (r < 0)
			return r;
	}
}

static int ask(struct guest_agent *a, const char *text, int64_t *ret_number, struct mc_error *err)
{
	uint64_t deadline = mc_now() + ANSWER_WAIT;
	size_t budget = BYTES_MAX;
	int r = say(a, text, strlen(text), deadline, err);
	if (r == 0)
		r = hear(a, &budget, deadline, err);
	return r < 0 ? r : agent_answer(a->in.line, ret_number, err);
}

static int sync_once(struct guest_agent *a, struct mc_error *err)
{
	char text[128];
	uint32_t id;
	if (getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id)
		id = (uint32_t)mc_now();
	/* The FF ends whatever the agent has half read from somebody before us. */
	int len = snprintf(text, sizeof text,
		"\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%" PRIu32 "}}\n",
		id);
	uint64_t deadline = mc_now() + SYNC_WAIT;
	size_t budget = BYTES_MAX;
	agent_reader_sync(&a->in);
	int r = say(a, text, (size_t)len, deadline, err);
	while (r == 0) {
		int64_t got;
		r = hear(a, &budget, deadline, err);
		if (r == 0 && agent_answer(a->in.line, &got, NULL) == 0 && got == (int64_t)id)
			return 0;
		a->in.synced =
			0; /* of an earlier question: the next FF is ours, or the one after */
	}
	return r;
}

static int sync_up(struct guest_agent *a, struct mc_error *err)
{
	int r = -ETIMEDOUT;
	for (int i = 0; i < SYNC_TRIES && r == -ETIMEDOUT; i++)
		r = sync_once(a, err);
	return r;
}

/* By how much the guest's clock is late.  The answer is as old as the way here. */
static int measure(
	struct guest_agent *a, int64_t *ret_behind, int64_t *ret_way, struct mc_error *err)
{
	int64_t guest = 0, before = wall_clock();
	uint64_t began = mc_now();
	int r = ask(a, "{\"execute\":\"guest-get-time\"}\n", &guest, err);
	int64_t way = (int64_t)(mc_now() - began) / 2;
	if (r < 0)
		return r;
	if (guest <= 0)
		return mc_error_set(
			err, -EBADMSG, MC_ECLASS_QMP, "the guest's agent tells a time before 1970");
	*ret_behind = before + way - guest;
	*ret_way = way;
	return 0;
}

static void converse(struct guest_agent *a, struct guest_time *t)
{
	char text[128];
	int64_t way = 0;
	int r = link_up(a, &t->err);
	if (r == 0)
		r = sync_up(a, &t->err);
	if (r == 0)
		r = measure(a, &t->behind, &way, &t->err);
	if (r < 0)
		return;
	t->err = (struct mc_error)MC_ERROR_INIT;
	t->left = t->behind;
	if (t->behind < -a->tolerance)
		mc_error_set(&t->err, -EINVAL, MC_ECLASS_STATE,
			"the guest's clock is ahead of this host's by %.3f s, and was left alone",
			-(double)t->behind / 1e9);
	if (t->behind <= a->tolerance)
		return;
	snprintf(text, sizeof text,
		"{\"execute\":\"guest-set-time\",\"arguments\":{\"time\":%" PRId64 "}}\n",
		wall_clock() + (way < 50 * (int64_t)MC_MSEC ? way : 0));
	r = ask(a, text, NULL, &t->err);
	t->left = INT64_MIN;
	t->set = r == 0;
	if (r < 0 && r != -EREMOTEIO)
		return;
	int64_t left;
	if (measure(a, &left, &way, r < 0 ? NULL : &t->err) == 0) {
		t->left = left;
		t->set = left < t->behind / 2;
		if (!t->set && r == 0)
			mc_error_set(&t->err, -EIO, MC_ECLASS_QMP,
				"the guest's agent says that it set the clock, but it is still "
				"late by %.3f s",
				(double)left / 1e9);
	}
}

static void *agent_thread(void *arg)
{
	struct guest_agent *a = arg;
	struct guest_time t = {.behind = INT64_MIN, .left = INT64_MIN, .err = MC_ERROR_INIT};
	a->deadline = mc_now() + GUEST_AGENT_WAIT;
	converse(a, &t);
	if (a->fd >= 0)
		close(mc_steal_fd(&a->fd)); /* the port is free for others from now on */
	if (t.err.code != -ECANCELED)
		a->done(a->ctx, &t);
	atomic_store(&a->over, true);
	return NULL;
}

int guest_agent_set_time(const char *socket, pid_t pid, int64_t tolerance,
	void (*done)(void *ctx, const struct guest_time *what), void *ctx, struct guest_agent **ret,
	struct mc_error *err)
{
	struct guest_agent *a = calloc(1, sizeof *a);
	if (!a)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	a->fd = -1;
	a->pid = pid;
	a->tolerance = tolerance;
	a->done = done;
	a->ctx = ctx;
	a->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	snprintf(a->path, sizeof a->path, "%s", socket);
	int r = a->stop < 0 ? -errno : mc_thread_start(&a->thread, "guest-agent", agent_thread, a);
	if (r < 0) {
		if (a->stop >= 0)
			close(a->stop);
		free(a);
		return mc_error_set(err, r, MC_ECLASS_MEMORY,
			"cannot start a thread for the guest's agent: %s", strerror(-r));
	}
	*ret = a;
	return 0;
}

bool guest_agent_busy(const struct guest_agent *a)
{
	return a && !atomic_load(&a->over);
}

void guest_agent_free(struct guest_agent *a)
{
	if (!a)
		return;
	uint64_t one = 1;
	ssize_t n = write(a->stop, &one, sizeof one);
	(void)n; /* an eventfd at 0 takes it */
	pthread_join(a->thread, NULL);
	close(a->stop);
	free(a);
}
