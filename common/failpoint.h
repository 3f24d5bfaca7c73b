/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A seam for fault campaigns: a process started with MCD_FAILPOINT=NAME[:COUNT][:ACTION] performs
 * ACTION (kill, the default: SIGKILL to itself; stop: SIGSTOP) the COUNT-th time (default 1) it
 * reaches the step of that name.  Without the variable a failpoint costs one comparison.
 */
#pragma once
#include <stddef.h>
void failpoint_setup(void); /* reads the environment, once, before any thread starts */
void failpoint_hit(const char *name);
extern const char *failpoint_name; /* NULL: none armed */
static inline void failpoint(const char *name)
{
	if (__builtin_expect(failpoint_name != NULL, 0))
		failpoint_hit(name);
}
