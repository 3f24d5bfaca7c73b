/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ptrace primitives under inject.c and softdirty.c.
 *
 * Everything here runs in a thread made by trace_run().  A tracer is a thread, and the kernel
 * detaches what a thread traces when that thread ends: so whatever goes wrong, and even if mcd is
 * killed, nothing stays stopped or traced.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Runs fn(arg) in a short-lived thread (mc_thread_start) and returns what it returned. */
int trace_run(int (*fn)(void *arg, struct mc_error *err), void *arg, struct mc_error *err);

/* Becomes the tracer of one thread without stopping it. -ESRCH: it is gone or a zombie (class
 * QemuError); -EPERM: the message says what forbids it. */
int trace_seize(pid_t pid, pid_t tid, struct mc_error *err);

/* Waits for the thread's next stop; ret_status is in waitpid's encoding.  -ESRCH: the thread
 * ended instead; -ETIMEDOUT: nothing happened until the deadline.  The exit status of a child of
 * ours is left for whoever waits for it. */
int trace_wait(pid_t pid, pid_t tid, uint64_t deadline, int *ret_status, struct mc_error *err);

/* Asks a seized thread to stop, and waits until it has: in the kernel, on its way to user mode,
 * where it has neither lost a signal nor restarted a system call.  Signals met before that are
 * delivered as if we were not there. */
int trace_stop(pid_t pid, pid_t tid, uint64_t deadline, struct mc_error *err);

/* What forbids tracing, and the cure: always returns -EPERM. */
int trace_explain_eperm(pid_t pid, struct mc_error *err);
/* Whether the system lets us trace a QEMU at all, whoever runs it; ret_scope (may be NULL):
 * kernel.yama.ptrace_scope, 0 if there is none.  -EPERM: what forbids it, and the cure. */
int trace_probe(int *ret_scope, struct mc_error *err);
/* The number after "Name:" in /proc/PID/status, read in the given base; -1 if it is not there. */
int64_t trace_status_field(pid_t pid, const char *name, int base);

/* Stops every thread of a process.  For use in trace_run: there is no thaw on failure other than
 * the thread's end. io_uring's kernel workers, which cannot be traced, keep running. */
struct trace_frozen {
	pid_t pid;
	pid_t *tid;
	size_t n, cap;
};
int trace_freeze(pid_t pid, uint64_t deadline, struct trace_frozen *ret, struct mc_error *err);
void trace_thaw(struct trace_frozen *f);
