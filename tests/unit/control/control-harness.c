/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control-harness.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct harness {
	char dir[64], path[96];
	struct control *control;
	pthread_t thread;
	int quit_fd;
	sem_t ready, held;
	struct control_request *held_request[64];
	unsigned n_held, n_taken;
};

static void run_echo(void *ctx, struct control_request *req, const json_t *args)
{
	control_answer(req, json_deep_copy(args));
}

static void run_fail(void *ctx, struct control_request *req, const json_t *args)
{
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, -ENOENT, MC_ECLASS_UNKNOWN_VM, "There is no VM 'vm\xc3'; look again.");
	control_fail(req, &err);
}

static void run_hold(void *ctx, struct control_request *req, const json_t *args)
{
	struct harness *h = ctx;
	h->held_request[h->n_held++] = req;
	sem_post(&h->held);
}

static void run_big(void *ctx, struct control_request *req, const json_t *args)
{
	size_t n = (size_t)json_integer_value(json_object_get(args, "bytes"));
	char *s = malloc(n);
	memset(s, 'x', n);
	control_answer(req, json_pack("{s:o}", "data", json_stringn(s, n)));
	free(s);
}

static const struct control_verb verbs[] = {
	{"echo",
		{{"text", CONTROL_STRING, true}, {"number", CONTROL_INT, false},
			{"flag", CONTROL_BOOL, false}},
		run_echo},
	{"fail", {{0}}, run_fail},
	{"hold", {{0}}, run_hold},
	{"big", {{"bytes", CONTROL_INT, true}}, run_big},
	{0},
};

static int on_quit(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	return sd_event_exit(sd_event_source_get_event(s), 0);
}

static void *loop_thread(void *arg)
{
	struct harness *h = arg;
	struct mc_error err = MC_ERROR_INIT;
	sd_event *loop;
	assert(sd_event_new(&loop) >= 0);
	int r = control_new(loop, h->path, "hostA", verbs, h, &h->control, &err);
	if (r < 0)
		fprintf(stderr, "control_new: %s\n", err.msg);
	assert(r == 0);
	assert(sd_event_add_io(loop, NULL, h->quit_fd, 1 /* EPOLLIN */, on_quit, h) >= 0);
	sem_post(&h->ready);
	assert(sd_event_loop(loop) >= 0);
	control_free(h->control);
	sd_event_unref(loop);
	return NULL;
}

struct harness *harness_start(void)
{
	struct harness *h = calloc(1, sizeof *h);
	assert(h);
	strcpy(h->dir, "/tmp/mcd-control-XXXXXX");
	assert(mkdtemp(h->dir));
	snprintf(h->path, sizeof h->path, "%s/control.sock", h->dir);
	h->quit_fd = eventfd(0, EFD_CLOEXEC);
	sem_init(&h->ready, 0, 0);
	sem_init(&h->held, 0, 0);
	assert(pthread_create(&h->thread, NULL, loop_thread, h) == 0);
	sem_wait(&h->ready);
	return h;
}

void harness_stop(struct harness *h)
{
	char lock[128];
	eventfd_write(h->quit_fd, 1);
	pthread_join(h->thread, NULL);
	close(h->quit_fd);
	snprintf(lock, sizeof lock, "%s.lock", h->path);
	unlink(lock);
	assert(rmdir(h->dir) == 0); /* the socket itself is gone */
	free(h);
}

const char *harness_path(const struct harness *h)
{
	return h->path;
}

struct control *harness_control(struct harness *h)
{
	return h->control;
}

struct control_request *harness_held(struct harness *h)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	if (sem_timedwait(&h->held, &until) < 0)
		return NULL;
	return h->held_request[h->n_taken++];
}

int client_connect_raw(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = 5};
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	assert(connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0);
	return fd;
}

int client_connect(const struct harness *h)
{
	int fd = client_connect_raw(h->path);
	json_t *greeting = client_read(fd);
	assert(json_object_get(greeting, "mcd"));
	json_decref(greeting);
	return fd;
}

void client_write(int fd, const void *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n <= 0)
			return; /* the server closed: the test sees it in what it reads */
		data = (const char *)data + n;
		len -= (size_t)n;
	}
}

void client_say(int fd, const char *line)
{
	client_write(fd, line, strlen(line));
	client_write(fd, "\n", 1);
}

json_t *client_read(int fd)
{
	size_t n = 0, size = 4096;
	char *line = malloc(size), c;
	for (;;) {
		ssize_t r = recv(fd, &c, 1, 0);
		if (r <= 0) {
			free(line);
			return NULL;
		}
		if (c == '\n')
			break;
		if (n == size)
			line = realloc(line, size *= 2);
		line[n++] = c;
	}
	json_t *j = json_loadb(line, n, 0, NULL);
	free(line);
	return j;
}

json_t *client_ask(int fd, const char *line)
{
	client_say(fd, line);
	return client_read(fd);
}

const char *answer_class(const json_t *answer)
{
	return json_string_value(json_object_get(json_object_get(answer, "error"), "class"));
}

const char *answer_message(const json_t *answer)
{
	return json_string_value(json_object_get(json_object_get(answer, "error"), "message"));
}
