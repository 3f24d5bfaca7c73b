/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by qmp.c (messages) and qmp-io.c (bytes) only. */
#pragma once
#include "common/qmp.h"
#include <stddef.h>
#include <sys/un.h>

#define QMP_LINE_MAX   (16u << 20)
#define QMP_EVENTS_MAX 256

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

	json_t *events[QMP_EVENTS_MAX]; /* ring of n events from head on, oldest first */
	size_t head, n;
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
 * deadline (0: do not wait at all), negative = broken. */
int qmp_io_line(struct qmp *q, uint64_t deadline, const char **ret_line, size_t *ret_len,
	struct mc_error *err);
