/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The messages of a QMP session.  One command is outstanding at a time; whatever comes before its
 * answer is either an event, which is queued, or the answer to somebody we gave up on, which is
 * dropped.  Anything else breaks the session: a QEMU that we no longer understand must not be
 * trusted with the next command.
 */
#include "common/qmp-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void json_freep(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_freep)

/* The start of what came instead of a message, fit for a log line. */
static const char *excerpt(const char *line, size_t len, char out[61])
{
	size_t n = len > 60 ? 60 : len;
	for (size_t i = 0; i < n; i++)
		out[i] = line[i] < 0x20 || line[i] > 0x7e ? '?' : line[i];
	out[n] = '\0';
	return out;
}

/* The next message as a JSON object; results as qmp_io_line. */
static int read_object(struct qmp *q, uint64_t deadline, size_t *gulp, json_t **ret,
	size_t *ret_size, struct mc_error *err)
{
	const char *line, *why;
	size_t len;
	int r = qmp_io_line(q, deadline, gulp, &line, &len, err);
	if (r <= 0)
		return r;
	json_t *j = qmp_json(line, len, &why);
	if (!j) {
		char text[61];
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"what answers on %s does not speak QMP: it sent \"%s\" (%zu bytes), and %s",
			q->path, excerpt(line, len, text), len, why);
	}
	*ret = j;
	*ret_size = len;
	return 1;
}

/* Reads one message.  1 = the answer to command `id` (0: none is awaited), 2 = an event, now
 * queued if it is wanted, 3 = something dropped, 0 = nothing before the deadline, negative =
 * broken. */
static int read_message(struct qmp *q, uint64_t id, uint64_t deadline, size_t *gulp,
	json_t **ret_reply, struct mc_error *err)
{
	_cleanup_json_ json_t *j = NULL;
	size_t size = 0;
	int r = read_object(q, deadline, gulp, &j, &size, err);
	if (r <= 0)
		return r;
	json_t *event = json_object_get(j, "event");
	if (event) {
		json_t *data = json_object_get(j, "data");
		if (!json_is_string(event) || (data && !json_is_object(data)))
			return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
				"QEMU sent an event of the wrong form on %s", q->path);
		qmp_keep(q, mc_steal_ptr(j), size);
		return 2;
	}
	json_t *error = json_object_get(j, "error");
	if (error && (!json_is_object(error) || !json_is_string(json_object_get(error, "class")) ||
			     !json_is_string(json_object_get(error, "desc"))))
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"QEMU sent an error of the wrong form on %s", q->path);
	if (!error && !json_object_get(j, "return"))
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"QEMU sent a message on %s that is neither an answer nor an event",
			q->path);
	json_t *got = json_object_get(j, "id");
	if (!id || !json_is_number(got) || json_number_value(got) != (double)id)
		return 3;
	*ret_reply = mc_steal_ptr(j);
	return 1;
}

static int read_greeting(struct qmp *q, uint64_t deadline, struct mc_error *err)
{
	_cleanup_json_ json_t *j = NULL;
	size_t size, gulp = 0;
	int r = read_object(q, deadline, &gulp, &j, &size, err);
	if (r < 0)
		return r;
	if (r == 0)
		return qmp_break(q, -ETIMEDOUT, MC_ECLASS_TIMEOUT, err,
			"QEMU sent no QMP greeting on %s in time: it hangs while starting, or "
			"another program holds this socket (it serves one at a time)",
			q->path);
	int major, minor, micro;
	if (json_unpack(j, "{s:{s:{s:{s:i, s:i, s:i}}}}", "QMP", "version", "qemu", "major", &major,
		    "minor", &minor, "micro", &micro) ||
		major < 0 || major > 9999 || minor < 0 || minor > 99 || micro < 0 || micro > 99)
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"what answers on %s does not speak QMP: its greeting names no version",
			q->path);
	q->version = major * 10000 + minor * 100 + micro;
	if (!q->oob)
		return 0;
	json_t *caps = json_object_get(json_object_get(j, "QMP"), "capabilities");
	for (size_t i = 0; i < json_array_size(caps); i++) {
		const char *s = json_string_value(json_array_get(caps, i));
		if (s && !strcmp(s, "oob"))
			return 0;
	}
	return qmp_break(q, -ENOTSUP, MC_ECLASS_GUEST, err,
		"QEMU on %s offers no out-of-band QMP commands: QEMU 3.0 or later is needed",
		q->path);
}

int qmp_open_watch(const char *path, bool oob, int gone_fd, uint64_t deadline, struct qmp **ret,
	struct mc_error *err)
{
	int fd = qmp_io_connect(path, gone_fd, deadline, err);
	if (fd < 0)
		return fd;
	struct qmp *q = calloc(1, sizeof *q);
	if (!q) {
		close(fd);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a QMP session");
	}
	q->fd = fd;
	q->oob = oob;
	strcpy(q->path, path); /* its length was checked by qmp_io_connect */
	int r = read_greeting(q, deadline, err);
	if (r == 0) {
		json_t *args = oob ? json_pack("{s:[s]}", "enable", "oob") : NULL;
		uint64_t now = mc_now();
		r = qmp_command(q, "qmp_capabilities", args, deadline > now ? deadline - now : 0,
			NULL, err);
	}
	if (r < 0) {
		qmp_close(q);
		return r;
	}
	*ret = q;
	return 0;
}

int qmp_open(const char *path, bool oob, uint64_t deadline, struct qmp **ret, struct mc_error *err)
{
	return qmp_open_watch(path, oob, -1, deadline, ret, err);
}

int qmp_reopen(struct qmp *q, uint64_t deadline, struct mc_error *err)
{
	struct qmp *fresh;
	/* The old connection first: a monitor talks to one client at a time. */
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	if (!q->broken)
		qmp_break(q, -EPIPE, MC_ECLASS_QMP, NULL, "it was closed to be opened anew");
	int r = qmp_open(q->path, q->oob, deadline, &fresh, err);
	if (r < 0)
		return r;
	qmp_forget(q);
	free(q->buf);
	fresh->wanted = q->wanted;
	*q = *fresh;
	free(fresh);
	qmp_want_events(q, q->wanted);
	return 0;
}

void qmp_close(struct qmp *q)
{
	if (!q)
		return;
	qmp_forget(q);
	if (q->fd >= 0)
		close(q->fd);
	free(q->buf);
	free(q);
}

int qmp_fd(const struct qmp *q)
{
	return q->fd;
}

static int send_command(struct qmp *q, const char *verb, const char *name, json_t *args,
	uint64_t deadline, struct mc_error *err)
{
	/* Names are our own constants, so they need no JSON quoting. */
	assert(!name[strcspn(name, "\"\\\n")]);
	_cleanup_free_ char *text = args ? json_dumps(args, JSON_COMPACT) : NULL, *line = NULL;
	if (args && !text)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"the arguments of %s cannot be encoded", name);
	int n = asprintf(&line, "{\"%s\":\"%s\",\"id\":%llu%s%s}\n", verb, name,
		(unsigned long long)++q->last_id, text ? ",\"arguments\":" : "", text ? text : "");
	if (n < 0) {
		line = NULL;
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the QMP command %s", name);
	}
	return qmp_io_send(q, line, (size_t)n, deadline, err);
}

static int run(struct qmp *q, const char *verb, const char *name, json_t *args, uint64_t timeout_ns,
	json_t **ret_result, struct mc_error *err)
{
	_cleanup_json_ json_t *owned = args;
	_cleanup_json_ json_t *reply = NULL;
	if (q->broken)
		return mc_error_set(err, -EPIPE, MC_ECLASS_QMP,
			"QEMU cannot be asked to %s, because the session broke before: %s", name,
			q->why);

	size_t gulp = 0;
	uint64_t deadline = mc_now() + timeout_ns;
	int r = send_command(q, verb, name, owned, deadline, err);
	if (r < 0)
		return r;
	do
		r = read_message(q, q->last_id, deadline, &gulp, &reply, err);
	while (r > 1);
	if (r < 0)
		return r;
	if (r == 0)
		return qmp_break(q, -ETIMEDOUT, MC_ECLASS_TIMEOUT, err,
			"QEMU did not answer the command %s within %.0f ms", name,
			(double)timeout_ns / 1e6);

	json_t *error = json_object_get(reply, "error");
	if (error)
		return mc_error_set(err, -EREMOTEIO, MC_ECLASS_QMP, "QEMU refused %s: %s", name,
			json_string_value(json_object_get(error, "desc")));
	if (ret_result)
		*ret_result = json_incref(json_object_get(reply, "return"));
	return 0;
}

int qmp_command(struct qmp *q, const char *name, json_t *args, uint64_t timeout_ns,
	json_t **ret_result, struct mc_error *err)
{
	return run(q, "execute", name, args, timeout_ns, ret_result, err);
}

int qmp_oob(struct qmp *q, const char *name, json_t *args, uint64_t timeout_ns, json_t **ret_result,
	struct mc_error *err)
{
	assert(q->oob);
	return run(q, "exec-oob", name, args, timeout_ns, ret_result, err);
}

int qmp_hmp(
	struct qmp *q, const char *line, uint64_t timeout_ns, char **ret_text, struct mc_error *err)
{
	_cleanup_json_ json_t *result = NULL;
	int r = qmp_command(q, "human-monitor-command", json_pack("{s:s}", "command-line", line),
		timeout_ns, &result, err);
	if (r < 0)
		return r;
	if (!json_is_string(result))
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"QEMU answered \"%s\" with something that is no text", line);
	char *text = strdup(json_string_value(result));
	if (!text)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for QEMU's answer");
	*ret_text = text;
	return 0;
}

int qmp_wait_event(
	struct qmp *q, const char *name, uint64_t deadline, json_t **ret_data, struct mc_error *err)
{
	size_t gulp = 0;
	for (;;) {
		/* All of them each time: the queue drops its oldest when it is full. */
		for (size_t i = 0; i < q->n; i++) {
			json_t *e = q->events[(q->head + i) % QMP_EVENTS_MAX].event;
			if (strcmp(json_string_value(json_object_get(e, "event")), name))
				continue;
			e = qmp_take(q, i);
			if (ret_data)
				*ret_data = json_incref(json_object_get(e, "data"));
			json_decref(e);
			return 0;
		}
		if (q->broken)
			return mc_error_set(err, -EPIPE, MC_ECLASS_QMP,
				"no %s event can come from QEMU any more: %s", name, q->why);
		json_t *none;
		int r;
		do
			r = read_message(q, 0, deadline, &gulp, &none, err);
		while (r == 3);
		if (r < 0)
			return r;
		if (r == 0) /* no answer is outstanding: the session stays good */
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"QEMU sent no %s event in time", name);
	}
}

int qmp_next_event(struct qmp *q, json_t **ret_event)
{
	size_t gulp = QMP_GULP_MAX;
	while (!q->n) {
		if (q->broken)
			return q->broken;
		json_t *none;
		int r = read_message(q, 0, 0, &gulp, &none, NULL);
		if (r <= 0)
			return r;
	}
	*ret_event = qmp_take(q, 0);
	return 1;
}

int qmp_require_commands(struct qmp *q, const char *const *names, struct mc_error *err)
{
	_cleanup_json_ json_t *list = NULL;
	int r = qmp_command(q, "query-commands", NULL, 5 * MC_SEC, &list, err);
	if (r < 0)
		return r;
	char missing[512] = "";
	for (; *names; names++) {
		bool found = false;
		for (size_t i = 0; i < json_array_size(list) && !found; i++) {
			const char *s =
				json_string_value(json_object_get(json_array_get(list, i), "name"));
			found = s && !strcmp(s, *names);
		}
		size_t at = strlen(missing);
		if (!found)
			snprintf(missing + at, sizeof missing - at, "%s%s", at ? ", " : "", *names);
	}
	if (*missing)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"this QEMU (%d.%d.%d) lacks QMP commands that mcd needs: %s; use a stock "
			"build of QEMU 7.2 or later",
			q->version / 10000, q->version / 100 % 100, q->version % 100, missing);
	return 0;
}
