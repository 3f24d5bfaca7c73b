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
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Connects to what is there now; -errno.  The directory may be of QEMU's user, who could make a
 * link of the name: to any socket of root's, which we, being root, would reach. */
static int connect_once(int fd, const char *path)
{
	struct stat st;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	_cleanup_close_ int at = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0 || fstat(at, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	snprintf(sa.sun_path, sizeof sa.sun_path, "/proc/self/fd/%d", at);
	return connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ? -errno : 0;
}

int qmp_io_connect(const char *path, int gone_fd, uint64_t deadline, struct mc_error *err)
{
	enum { PATH_MAX_ = sizeof((struct sockaddr_un *)0)->sun_path };
	if (strlen(path) >= PATH_MAX_)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the QMP socket path %s is %zu characters long, but a unix socket's may "
			"have %d at most: choose a shorter run-dir in mcd.conf",
			path, strlen(path), PATH_MAX_ - 1);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot make a socket: %s", strerror(errno));

	/* A QEMU that is just starting has not bound the path yet, or not listened on it. */
	for (int ms = 1;; ms = ms < 8 ? ms * 2 : 8) {
		int e = -connect_once(fd, path);
		if (e == 0)
			return mc_steal_fd(&fd);
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
		if (q->cap > BUF_START) { /* one giant answer must not stay for good */
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

/* Bytes read, 0 = nothing there now. */
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
		return (int)n; /* cap is 1 MiB at most */
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

/* Whether the socket may be looked at (again). */
static bool may_look(struct qmp *q, uint64_t deadline, size_t gulp)
{
	if (!deadline)
		return gulp > 0;
	if (mc_now() < deadline)
		return true;
	/* We may be late, not QEMU: what is there already counts.  But once, or one that talks
	 * without end would be listened to without end. */
	if (q->expired == deadline)
		return false;
	q->expired = deadline;
	return true;
}

int qmp_io_line(struct qmp *q, uint64_t deadline, size_t *gulp, const char **ret_line,
	size_t *ret_len, struct mc_error *err)
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
		if (!may_look(q, deadline, *gulp))
			return 0;

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
		*gulp -= (size_t)r < *gulp ? (size_t)r : *gulp;
	}
}
