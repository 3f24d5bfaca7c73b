/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Makes another process execute one system call of ours, by ptrace.  The process is
 * stopped for the call only, and left exactly as it was, whatever it was doing. */
#pragma once
#include "common/error.h"
#include <stdint.h>
#include <sys/types.h>

/* Runs syscall nr(args) in the process's main thread; ret_value: its raw result (may be -errno).
 * The call must not sleep nor use a restart block (nanosleep, poll, futex).
 * -EPERM (class NoPermission) names what forbids tracing (Yama, capabilities, seccomp, another
 * tracer) and the cure. */
int inject_syscall(
	pid_t pid, long nr, const uint64_t args[6], int64_t *ret_value, struct mc_error *err);

/* Makes a userfaultfd of the process's address space, brings the descriptor here and closes
 * the process's own copy (which would keep the process hanging if we died).  Returns the fd. */
int inject_userfaultfd(pid_t pid, int pidfd, int flags, struct mc_error *err);
