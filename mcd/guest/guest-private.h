/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files that implement guest.h only. */
#pragma once
#include "mcd/guest/guest.h"
#include <sys/types.h>

#define GUEST_EVENTS_MAX 64

struct guest {
	pid_t pid;
	int pidfd;
	char *name, *run_dir, *log_path;

	struct qmp *qmp, *oob; /* NULL after guest_detach */

	/* What happened by itself and was not asked for yet: a ring, oldest first. */
	enum guest_event events[GUEST_EVENTS_MAX];
	size_t events_head, events_n;
	unsigned resumes;      /* since the oob session was drained */
};
