/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of a QMP session only: qmp.c (messages), qmp-io.c (bytes), qmp-json.c (what
 * a message may be) and qmp-events.c (what is kept). */
#pragma once
#include "common/qmp.h"
#include <stddef.h>
#include <sys/un.h>

/* The bounds of a session's memory, which QEMU cannot exceed whatever it sends.  A value of JSON
 * takes up to 320 bytes once it is understood, and two bytes of text are enough for one: so the
 * values are counted before any is made.  QEMU's longest answers to mcd are query-commands (8 KiB)
 * and query-named-block-nodes (2 KiB and 60 values a node). */
#define QMP_LINE_MAX    (1u << 20)  /* bytes of a message */
#define QMP_VALUES_MAX  (32u << 10) /* values in a message: 10 MiB */
#define QMP_DEPTH_MAX   64
#define QMP_EVENTS_MAX  256          /* events kept */
#define QMP_EVENT_MAX   (16u << 10)  /* bytes of one that is kept */
#define QMP_EVENTS_SIZE (64u << 10)  /* bytes of all of them */
#define QMP_GULP_MAX    (256u << 10) /* bytes taken without waiting, until the caller is asked */

struct qmp_event {
	json_t *event;
	size_t size; /* bytes it came in */
};

struct qmp {
	int fd;
	bool oob;
	int version;
	uint64_t last_id;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	int broken;    /* negative errno once nothing more can be trusted, else 0 */
	char why[256]; /* what broke it, for whoever calls later */

	/* Received bytes are buf[start, end); buf[start, scanned) is known to hold no newline. */
	char *buf;
	size_t start, scanned, end, cap;
	uint64_t expired; /* the deadline that passed, and had its last look at the socket */

	const char *const *wanted;               /* qmp_want_events; NULL: all */
	struct qmp_event events[QMP_EVENTS_MAX]; /* ring of n events from head on, oldest first */
	size_t head, n, size;                    /* size: sum of theirs */
};

/* Marks the session broken, remembers why, fills err.  Returns code. */
int qmp_break(struct qmp *q, int code, const char *cls, struct mc_error *err, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Connects, retrying until the deadline or until gone_fd (or -1) becomes readable.  Returns fd. */
int qmp_io_connect(const char *path, int gone_fd, uint64_t deadline, struct mc_error *err);

/* Sends the whole of buf. */
int qmp_io_send(
	struct qmp *q, const char *buf, size_t len, uint64_t deadline, struct mc_error *err);

/* The next line, without its end; valid until the next call.  1 = got one, 0 = none before the
 * deadline (0: do not wait at all), negative = broken.  *gulp: bytes that may still be read without
 * waiting, for whoever calls in a loop.  A deadline holds also while bytes come: once it has
 * passed, the socket is looked at once more, and never again for that deadline. */
int qmp_io_line(struct qmp *q, uint64_t deadline, size_t *gulp, const char **ret_line,
	size_t *ret_len, struct mc_error *err);

/* The message in these bytes.  NULL: it is no object, or larger or deeper than a message may be;
 * ret_why (which needs no freeing) says so. */
json_t *qmp_json(const char *line, size_t len, const char **ret_why);

/* Keeps an event of so many bytes, or drops it if nobody wants it, or the oldest ones if they are
 * too many.  Steals event. */
void qmp_keep(struct qmp *q, json_t *event, size_t size);
/* Takes the i-th oldest event out of the queue; the others keep their order. */
json_t *qmp_take(struct qmp *q, size_t i);
/* Drops all of them. */
void qmp_forget(struct qmp *q);
