// SPDX-License-Identifier: GPL-2.0-or-later
#include "mcd/guest/guest-private.h"

#include <poll.h>

struct qmp *guest_qmp(struct guest *g)
{
	return g->qmp;
}

pid_t guest_pid(const struct guest *g)
{
	return g->pid;
}

int guest_pidfd(const struct guest *g)
{
	return g->pidfd;
}

bool guest_alive(const struct guest *g)
{
	struct pollfd p = { .fd = g->pidfd, .events = POLLIN };
	return poll(&p, 1, 0) == 0;
}
