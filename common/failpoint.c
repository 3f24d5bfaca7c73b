/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/failpoint.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *failpoint_name;
static atomic_long failpoint_count;
static int failpoint_signal = SIGKILL;

void failpoint_setup(void)
{
	const char *spec = getenv("MCD_FAILPOINT");
	if (!spec || !*spec)
		return;
	static char name[64];
	long count = 1;
	char action[16] = "kill";
	if (sscanf(spec, "%63[^:]:%ld:%15s", name, &count, action) < 1)
		return;
	failpoint_count = count;
	failpoint_signal = strcmp(action, "stop") ? SIGKILL : SIGSTOP;
	failpoint_name = name;
}

void failpoint_hit(const char *name)
{
	if (!strcmp(name, failpoint_name) && atomic_fetch_sub(&failpoint_count, 1) == 1)
		raise(failpoint_signal); /* to this thread: with kill() it could run on a while */
}
