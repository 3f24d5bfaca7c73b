/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/client.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcctl/verb.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PROTOCOL_VERSION 1
#define GREETING_TIMEOUT (5 * MC_SEC)
#define LINE_MAX_BYTES   (64 * 1024 * 1024) /* of an answer: far beyond any, but a bound */

struct client {
	int fd;
	json_t *greeting; /* the line that holds mcd */
	char *buf;
	size_t begin, end, size;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

static int lost(struct client *c, const char *what, struct mc_error *err)
{
	return mc_error_set(err, -ECONNRESET, MCCTL_ECLASS_UNREACHABLE,
		"the connection to mcd at '%s' %s; see 'systemctl status mcd' or mcd's log",
		c->path, what);
}

/* Waits for input until the deadline (0: for ever) and appends it to the buffer. */
static int receive(struct client *c, uint64_t deadline, struct mc_error *err)
{
	if (c->begin > 0) {
		memmove(c->buf, c->buf + c->begin, c->end - c->begin);
		c->end -= c->begin;
		c->begin = 0;
	}
	if (c->end == c->size) {
		size_t size = c->size ? 2 * c->size : 65536;
		char *buf = size <= LINE_MAX_BYTES ? realloc(c->buf, size) : NULL;
		if (!buf)
			return mc_error_set(err, -EMSGSIZE, MC_ECLASS_PROTOCOL,
				"mcd sent a line of more than %zu bytes", c->size);
		c->buf = buf;
		c->size = size;
	}
	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = POLLIN};
		int r = poll(&p, 1, deadline ? mc_ms_left(deadline) : -1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			return mc_error_set(err, -ETIMEDOUT, MCCTL_ECLASS_UNREACHABLE,
				"mcd does not answer on '%s' in time; is it stopped or overloaded?",
				c->path);
		ssize_t n = recv(c->fd, c->buf + c->end, c->size - c->end, MSG_DONTWAIT);
		if (n > 0) {
			c->end += (size_t)n;
			return 0;
		}
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		return lost(c, n == 0 ? "was closed by mcd" : "broke", err);
	}
}

static int read_line(struct client *c, uint64_t deadline, json_t **ret, struct mc_error *err)
{
	size_t searched = 0;
	for (;;) {
		char *line = c->buf + c->begin;
		size_t len = c->end - c->begin;
		char *newline =
			len > searched ? memchr(line + searched, '\n', len - searched) : NULL;
		if (newline) {
			json_t *j = json_loadb(line, (size_t)(newline - line), 0, NULL);
			c->begin += (size_t)(newline - line) + 1;
			if (!json_is_object(j)) {
				json_decref(j);
				return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
					"what answers on '%s' does not speak mcd's protocol",
					c->path);
			}
			*ret = j;
			return 0;
		}
		searched = len;
		int r = receive(c, deadline, err);
		if (r < 0)
			return r;
	}
}

/* Takes {"class", "message"} over into err. */
static int take_error(const json_t *error, struct mc_error *err)
{
	const char *cls = json_string_value(json_object_get(error, "class"));
	const char *message = json_string_value(json_object_get(error, "message"));
	return mc_error_set(err, -EREMOTEIO, mc_error_class(cls), "%s",
		message ? message : "mcd refused without saying why");
}

static int greet(struct client *c, struct mc_error *err)
{
	int r = read_line(c, mc_now() + GREETING_TIMEOUT, &c->greeting, err);
	if (r < 0)
		return r;
	const json_t *error = json_object_get(c->greeting, "error");
	if (error)
		return take_error(error, err);
	const json_t *protocol = json_object_get(client_greeting(c), "protocol");
	if (!json_is_integer(protocol))
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"what answers on '%s' is not mcd", c->path);
	if (json_integer_value(protocol) != PROTOCOL_VERSION)
		return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
			"mcd speaks version %lld of the control protocol and this mcctl version "
			"%d; use the mcctl that was installed with mcd",
			(long long)json_integer_value(protocol), PROTOCOL_VERSION);
	return 0;
}

static int cannot_connect(const char *path, int code, struct mc_error *err)
{
	if (code == -EACCES || code == -EPERM)
		return mc_error_set(err, code, MCCTL_ECLASS_UNREACHABLE,
			"no permission to connect to mcd at '%.200s'; only root may, use sudo",
			path);
	if (code == -ENOENT || code == -ECONNREFUSED)
		return mc_error_set(err, code, MCCTL_ECLASS_UNREACHABLE,
			"mcd does not run: nothing listens on '%.200s'; start it with 'systemctl "
			"start mcd', or name its socket with --socket or its mcd.conf with "
			"--config",
			path);
	return mc_error_set(err, code, MCCTL_ECLASS_UNREACHABLE,
		"cannot connect to mcd at '%.200s': %s", path, strerror(-code));
}

int client_open(const char *path, struct client **ret, struct mc_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof sa.sun_path)
		return cannot_connect(path, -ENAMETOOLONG, err);
	strcpy(sa.sun_path, path);
	_cleanup_(client_closep) struct client *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "there is no memory");
	strcpy(c->path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return cannot_connect(path, -errno, err);
	int r = greet(c, err);
	if (r < 0)
		return r;
	*ret = mc_steal_ptr(c);
	return 0;
}

void client_close(struct client *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	json_decref(c->greeting);
	free(c->buf);
	free(c);
}

void client_closep(struct client **c)
{
	client_close(*c);
}

const json_t *client_greeting(const struct client *c)
{
	return json_object_get(c->greeting, "mcd");
}

static int send_request(struct client *c, const char *verb, json_t *args, struct mc_error *err)
{
	json_t *request = json_pack("{s:i, s:s, s:o}", "id", 1, "execute", verb, "arguments",
		args ? args : json_object());
	_cleanup_free_ char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!line) /* an argument is not UTF-8 */
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"an argument is not text in UTF-8; names and values must be");
	size_t len = strlen(line);
	line[len++] = '\n'; /* in the terminator's place: what is sent has a length */
	for (size_t at = 0; at < len;) {
		ssize_t n = send(c->fd, line + at, len - at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lost(c, "broke", err);
		at += (size_t)n;
	}
	return 0;
}

int client_call(struct client *c, const char *verb, json_t *args, uint64_t timeout_ns,
	void (*progress)(void *ctx, const json_t *data), void *ctx, json_t **ret_result,
	struct mc_error *err)
{
	int r = send_request(c, verb, args, err);
	uint64_t deadline = timeout_ns ? mc_now() + timeout_ns : 0;
	while (r >= 0) {
		json_auto_t *line = NULL;
		r = read_line(c, deadline, &line, err);
		if (r < 0)
			break;
		const json_t *data = json_object_get(line, "progress");
		const json_t *error = json_object_get(line, "error");
		json_t *result = json_object_get(line, "return");
		if (error)
			return take_error(error, err);
		if (result) {
			*ret_result = json_incref(result);
			return 0;
		}
		if (data && progress)
			progress(ctx, data);
		/* Lines of other kinds belong to later versions. */
	}
	return r;
}

int client_event(struct client *c, json_t **ret_event, struct mc_error *err)
{
	for (;;) {
		json_t *line = NULL;
		int r = read_line(c, 0, &line, err);
		if (r < 0)
			return r;
		if (json_is_string(json_object_get(line, "event"))) {
			*ret_event = line;
			return 0;
		}
		json_decref(line);
	}
}
