/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of a QMP session: connecting, sending with descriptors, cutting lines.
 *
 * QEMU ends every message with a newline and has none inside (we never ask for "pretty" output),
 * so a line is a message.
 */
#include "common/qmp-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BUF_START (64u << 10)

int qmp_break(struct qmp *q, int code, const char *cls, struct mc_error *err, const char *fmt, ...)
{
	char why[sizeof q->why];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	if (!q->broken) {
		q->broken = code;
		memcpy(q->why, why, sizeof why);
	}
	return mc_error_set(err, code, cls, "%s", why);
}

/* Sleeps for a moment, but not longer than QEMU lives.  True if gone_fd says that it died. */
static bool wait_or_gone(int gone_fd, int ms)
{
	struct pollfd p = {.fd = gone_fd, .events = POLLIN};
	return poll(&p, 1, ms) > 0;
}

int qmp_io_connect(const char *path, int gone_fd, uint64_t deadline, struct mc_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof sa.sun_path)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the QMP socket path %s is %zu characters long, but a unix socket's may "
			"have %zu at most: choose a shorter run-dir in mcd.conf",
			path, strlen(path), sizeof sa.sun_path - 1);
	strcpy(sa.sun_path, path);

	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot make a socket: %s", strerror(errno));

	/* A QEMU that is just starting has not bound the path yet, or not listened on it. */
	for (int ms = 1;; ms = ms < 8 ? ms * 2 : 8) {
		if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
			return mc_steal_fd(&fd);
		int e = errno;
		if (e != ENOENT && e != ECONNREFUSED && e != EAGAIN && e != EINTR)
			return mc_error_set(err, -e, MC_ECLASS_QMP,
				"cannot connect to QEMU's socket %s: %s", path, strerror(e));
		if (!mc_ms_left(deadline))
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"QEMU did not open its QMP socket %s in time (%s): is it running, "
				"and was it started with this socket?",
				path, strerror(e));
		if (wait_or_gone(gone_fd, ms))
			return mc_error_set(err, -EPIPE, MC_ECLASS_QMP,
				"QEMU exited before it opened its QMP socket %s", path);
	}
}

int qmp_io_send(struct qmp *q, const char *buf, size_t len, uint64_t deadline, struct mc_error *err)
{
	while (len) {
		ssize_t n = send(q->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			buf += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EPIPE || errno == ECONNRESET)
			return qmp_break(q, -EPIPE, MC_ECLASS_QMP, err,
				"QEMU closed its QMP session %s: it has exited or crashed",
				q->path);
		if (errno != EAGAIN)
			return qmp_break(q, -errno, MC_ECLASS_QMP, err,
				"cannot send to QEMU's socket %s: %s", q->path, strerror(errno));
		/* Only a QEMU that hangs lets its socket buffer fill up. */
		struct pollfd p = {.fd = q->fd, .events = POLLOUT};
		int left = mc_ms_left(deadline);
		if (!left)
			return qmp_break(q, -ETIMEDOUT, MC_ECLASS_TIMEOUT, err,
				"QEMU does not read its QMP socket %s: it hangs", q->path);
		poll(&p, 1, left);
	}
	return 0;
}

/* Makes room for more bytes behind buf[end].  The data moves to the front first: only a line that
 * fills the whole buffer makes it grow. */
static int make_room(struct qmp *q, struct mc_error *err)
{
	if (q->start == q->end) {
		q->start = q->scanned = q->end = 0;
		if (q->cap > BUF_START * 16) { /* one giant answer must not stay for good */
			free(q->buf);
			q->buf = NULL;
			q->cap = 0;
		}
	}
	if (q->end < q->cap)
		return 0;
	if (q->start) {
		memmove(q->buf, q->buf + q->start, q->end - q->start);
		q->scanned -= q->start;
		q->end -= q->start;
		q->start = 0;
		return 0;
	}
	if (q->cap >= QMP_LINE_MAX)
		return qmp_break(q, -EBADMSG, MC_ECLASS_QMP, err,
			"QEMU sent a QMP message of more than %u MiB on %s: refused",
			QMP_LINE_MAX >> 20, q->path);
	size_t cap = q->cap ? q->cap * 2 : BUF_START;
	char *p = realloc(q->buf, cap);
	if (!p)
		return qmp_break(q, -ENOMEM, MC_ECLASS_MEMORY, err,
			"no memory for QEMU's answer on %s", q->path);
	q->buf = p;
	q->cap = cap;
	return 0;
}

/* 1 = read something, 0 = nothing there now. */
static int receive(struct qmp *q, struct mc_error *err)
{
	int r = make_room(q, err);
	if (r < 0)
		return r;
	ssize_t n;
	do
		n = recv(q->fd, q->buf + q->end, q->cap - q->end, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		q->end += (size_t)n;
		return 1;
	}
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0 || errno == ECONNRESET)
		return qmp_break(q, -EPIPE, MC_ECLASS_QMP, err,
			"QEMU closed its QMP session %s%s: it has exited or crashed", q->path,
			q->start < q->end ? " in the middle of a message" : "");
	return qmp_break(q, -errno, MC_ECLASS_QMP, err, "cannot read QEMU's socket %s: %s", q->path,
		strerror(errno));
}

int qmp_io_line(struct qmp *q, uint64_t deadline, const char **ret_line, size_t *ret_len,
	struct mc_error *err)
{
	for (;;) {
		char *from = q->buf + q->scanned;
		char *nl = q->scanned < q->end ? memchr(from, '\n', q->end - q->scanned) : NULL;
		if (nl) {
			*ret_line = q->buf + q->start;
			*ret_len = (size_t)(nl - *ret_line);
			q->start = q->scanned = (size_t)(nl - q->buf) + 1;
			return 1;
		}
		q->scanned = q->end;

		/* When we may wait there is almost never anything yet: poll first, not recv. */
		if (deadline) {
			struct pollfd p = {.fd = q->fd, .events = POLLIN};
			int r = poll(&p, 1, mc_ms_left(deadline));
			if (r == 0)
				return 0;
			if (r < 0 && errno == EINTR)
				continue;
		}
		int r = receive(q, err);
		if (r < 0)
			return r;
		if (r == 0 && !deadline)
			return 0;
	}
}
