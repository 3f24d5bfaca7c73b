/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a system call is lent to another process without a trace:
 *
 *   seize, interrupt   the main thread stops inside the kernel, on its way to user mode, before it
 *                      takes a signal and before a broken-off system call is restarted
 *   block all signals  so that none is delivered on top of our registers; they stay pending
 *   registers := ours  orig_rax = -1: "not in a system call", so there is nothing to restart
 *   syscall entry/exit
 *   interrupt again    back to the same place in the kernel as at the beginning: no instruction of
 *                      the program has run.  (Detaching from the syscall exit works as well today,
 *                      but only because a detach happens to pass there.)
 *   registers, signal mask := theirs; detach
 *                      the kernel itself now takes pending signals and decides between restart and
 *                      EINTR, exactly as if only the time had passed.  A group-stop (SIGSTOP) is
 *                      resumed by the detach.
 *
 * If mcd is killed between the two changes of the registers, some 50 us, the process goes on with
 * ours and crashes.  That window exists when a VM is adopted for tracking and never again.
 */
#include "mcd/guest/dirty/inject.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/guest/dirty/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#if defined(__x86_64__)

/* For a thread to stop. Generous: QEMU's main thread may sit in an fsync. */
#define STOP_TIMEOUT (2 * MC_SEC)
/* For our call to finish.  Giving up here would leave the process with our registers and so kill
 * it, therefore longer than any call that we make can take. */
#define CALL_TIMEOUT (10 * MC_SEC)

#define USER64_CS 0x33

struct session {
	pid_t pid;
	struct user_regs_struct saved;
	uint64_t mask;    /* the thread's signal mask */
	uint64_t insn;    /* address of a `syscall` instruction */
	uint64_t rseq_cs; /* the restartable sequence it was in, 0 = none */
	uint64_t rseq_at; /* where that pointer is, 0 = no rseq area */
	bool modified;
};

static int gone(pid_t pid, struct mc_error *err)
{
	return mc_error_set(err, -ESRCH, MC_ECLASS_QMP, "process %d has ended", (int)pid);
}

static int open_mem(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	return open(path, O_RDWR | O_CLOEXEC);
}

/* Looks for 0f 05 in [start, end). Any place will do, also the middle of another instruction. */
static uint64_t find_in_range(int mem, uint64_t start, uint64_t end)
{
	uint8_t buf[4096 + 1];
	for (uint64_t at = start; at < end; at += sizeof buf - 1) {
		size_t want = end - at < sizeof buf ? (size_t)(end - at) : sizeof buf;
		ssize_t n = pread(mem, buf, want, (off_t)at);
		for (ssize_t i = 0; i + 1 < n; i++)
			if (buf[i] == 0x0f && buf[i + 1] == 0x05)
				return at + (uint64_t)i;
		if (n < (ssize_t)want)
			break;
	}
	return 0;
}

static uint64_t find_syscall_insn(const struct session *s, int mem)
{
	if ((int64_t)s->saved.orig_rax >= 0) {
		uint64_t at = find_in_range(mem, s->saved.rip - 2, s->saved.rip);
		if (at)
			return at;
	}
	char path[64], line[4352];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)s->pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	uint64_t any = 0;
	while (f && fgets(line, sizeof line, f)) {
		uint64_t start, end;
		char perm[5];
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, perm) != 3 ||
			perm[0] != 'r' || perm[2] != 'x' || strstr(line, "[vsyscall]"))
			continue;
		/* The vDSO's fallbacks have one.  A process without vDSO has a C library. */
		if (strstr(line, "[vdso]")) {
			uint64_t at = find_in_range(mem, start, end);
			if (at)
				return at;
		} else if (!any) {
			any = find_in_range(mem, start, end);
		}
	}
	return any;
}

/* A thread interrupted inside a restartable sequence (rseq(2)) must be seen there by the kernel
 * when it goes back, else the sequence would not be aborted: keep the pointer, which the kernel
 * clears as soon as it finds rip outside. */
static void save_rseq(struct session *s, int mem)
{
#ifdef PTRACE_GET_RSEQ_CONFIGURATION
	struct __ptrace_rseq_configuration c = {0};
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, s->pid, (void *)sizeof c, &c) != sizeof c ||
		!c.rseq_abi_pointer)
		return;
	uint64_t cs = 0;
	if (pread(mem, &cs, sizeof cs, (off_t)(c.rseq_abi_pointer + 8)) == sizeof cs && cs) {
		s->rseq_at = c.rseq_abi_pointer + 8;
		s->rseq_cs = cs;
	}
#endif
}

/* Puts everything back; the thread must be in a stop from trace_stop(). */
static int session_restore(struct session *s)
{
	if (!s->modified)
		return 0;
	if (s->rseq_at) {
		_cleanup_close_ int mem = open_mem(s->pid);
		if (mem < 0 || pwrite(mem, &s->rseq_cs, sizeof s->rseq_cs, (off_t)s->rseq_at) < 0)
			return -errno;
	}
	if (ptrace(PTRACE_SETREGS, s->pid, NULL, &s->saved) ||
		ptrace(PTRACE_SETSIGMASK, s->pid, (void *)sizeof s->mask, &s->mask))
		return -errno;
	s->modified = false;
	return 0;
}

static int session_begin(struct session *s, pid_t pid, struct mc_error *err)
{
	*s = (struct session){.pid = pid};
	int r = trace_seize(pid, pid, err);
	if (r < 0)
		return r;
	r = trace_stop(pid, pid, mc_now() + STOP_TIMEOUT, err);
	if (r < 0)
		return r;
	if (ptrace(PTRACE_GETREGS, pid, NULL, &s->saved) ||
		ptrace(PTRACE_GETSIGMASK, pid, (void *)sizeof s->mask, &s->mask))
		return gone(pid, err);
	if (s->saved.cs != USER64_CS)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"process %d is not a 64-bit program; use a 64-bit QEMU", (int)pid);
	_cleanup_close_ int mem = open_mem(pid);
	if (mem < 0)
		return errno == EACCES || errno == EPERM ? trace_explain_eperm(pid, err)
							 : gone(pid, err);
	s->insn = find_syscall_insn(s, mem);
	/* Killed meanwhile: then its memory is gone, and so is the stop. */
	if (!s->insn && ptrace(PTRACE_GETREGS, pid, NULL, &s->saved))
		return gone(pid, err);
	if (!s->insn)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"no system call instruction was found in process %d", (int)pid);
	save_rseq(s, mem);
	return 0;
}

/* Lets the thread run to its next system call stop (entry or exit). */
static int run_to_syscall_stop(struct session *s, uint64_t deadline, struct mc_error *err)
{
	int sig = 0;
	for (;;) {
		int st;
		if (ptrace(PTRACE_SYSCALL, s->pid, NULL, (void *)(uintptr_t)sig))
			return gone(s->pid, err);
		int r = trace_wait(s->pid, s->pid, deadline, &st, err);
		if (r < 0)
			return r;
		if (WSTOPSIG(st) == (SIGTRAP | 0x80))
			return 0;
		/* With all signals blocked only SIGSTOP gets here, which has no handler: pass it
		 * on. Events (a group-stop, SIGCONT) are passed over. */
		sig = st >> 16 ? 0 : WSTOPSIG(st);
		if (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGTRAP)
			return mc_error_set(err, -EFAULT, MC_ECLASS_FAILED,
				"process %d took signal %d on an injected system call", (int)s->pid,
				sig);
	}
}

static int session_call(struct session *s, long nr, const uint64_t args[6], int64_t *ret_value,
	struct mc_error *err)
{
	uint64_t all = ~0ull;
	struct user_regs_struct regs = s->saved;
	regs.rip = s->insn;
	regs.orig_rax = ~0ull;
	regs.rax = (uint64_t)nr;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	s->modified = true;
	if (ptrace(PTRACE_SETSIGMASK, s->pid, (void *)sizeof all, &all) ||
		ptrace(PTRACE_SETREGS, s->pid, NULL, &regs))
		return gone(s->pid, err);

	uint64_t deadline = mc_now() + CALL_TIMEOUT;
	int r = run_to_syscall_stop(s, deadline, err);
	if (!r)
		r = run_to_syscall_stop(s, deadline, err);
	if (r < 0)
		return r;
	if (ptrace(PTRACE_GETREGS, s->pid, NULL, &regs))
		return gone(s->pid, err);
	*ret_value = (int64_t)regs.rax;
	return 0;
}

/* Always called after session_begin, whatever it returned. */
static int session_end(struct session *s, struct mc_error *err)
{
	int r = 0;
	if (s->modified) {
		/* From a system call stop (or whatever a failure left) back to where we came in.
		 * PTRACE_INTERRUPT is remembered while the thread is stopped; PTRACE_CONT fails
		 * when it is not, which is as good. */
		ptrace(PTRACE_INTERRUPT, s->pid, NULL, NULL);
		ptrace(PTRACE_CONT, s->pid, NULL, NULL);
		int st = 0;
		while (!r) {
			r = trace_wait(s->pid, s->pid, mc_now() + CALL_TIMEOUT, &st, err);
			if (r || st >> 16 == PTRACE_EVENT_STOP)
				break;
			int sig = WSTOPSIG(st) == SIGSTOP ? SIGSTOP : 0;
			if (ptrace(PTRACE_CONT, s->pid, NULL, (void *)(uintptr_t)sig))
				r = gone(s->pid, err);
		}
		if (!r && session_restore(s))
			r = gone(s->pid, err);
	}
	/* Fails when the thread does not stop or is dead; then our thread's end detaches. */
	ptrace(PTRACE_DETACH, s->pid, NULL, NULL);
	return r;
}

struct job {
	pid_t pid;
	int pidfd;
	long nr;
	const uint64_t *args;
	int64_t value;
	int fd;
};

static int do_syscall(void *arg, struct mc_error *err)
{
	struct job *job = arg;
	struct session s;
	int r = session_begin(&s, job->pid, err);
	if (!r)
		r = session_call(&s, job->nr, job->args, &job->value, err);
	int e = session_end(&s, r ? NULL : err);
	return r ? r : e;
}

int inject_syscall(
	pid_t pid, long nr, const uint64_t args[6], int64_t *ret_value, struct mc_error *err)
{
	struct job job = {.pid = pid, .nr = nr, .args = args};
	int r = trace_run(do_syscall, &job, err);
	if (r < 0)
		return r;
	*ret_value = job.value;
	return 0;
}

static int explain_uffd(pid_t pid, int64_t value, struct mc_error *err)
{
	if (value == -EPERM)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"process %d may not make a userfaultfd: a seccomp filter or a security "
			"module forbids it (vm.unprivileged_userfaultfd does not: mcd's kind is "
			"everybody's); allow it there, or set dirty-tracking = soft-dirty",
			(int)pid);
	if (value == -ENOSYS)
		return mc_error_set(err, -ENOSYS, MC_ECLASS_KERNEL,
			"process %d has no userfaultfd: the kernel lacks CONFIG_USERFAULTFD, or a "
			"seccomp filter hides it",
			(int)pid);
	return mc_error_set(err, (int)value, MC_ECLASS_FAILED,
		"making a userfaultfd in process %d failed: %s", (int)pid, strerror((int)-value));
}

static int explain_getfd(pid_t pid, int error, struct mc_error *err)
{
	if (error == EPERM)
		return trace_explain_eperm(pid, err);
	if (error == ESRCH)
		return gone(pid, err);
	return mc_error_set(err, -error, MC_ECLASS_FAILED,
		"taking the userfaultfd out of process %d failed: %s", (int)pid, strerror(error));
}

/* One session for the three steps: the process never runs with the descriptor in its table. */
static int do_userfaultfd(void *arg, struct mc_error *err)
{
	struct job *job = arg;
	struct session s;
	_cleanup_close_ int fd = -1;
	int r = session_begin(&s, job->pid, err);
	int64_t value = 0;
	if (!r)
		r = session_call(&s, SYS_userfaultfd, job->args, &value, err);
	if (!r && value < 0)
		r = explain_uffd(job->pid, value, err);
	if (!r) {
		fd = (int)syscall(SYS_pidfd_getfd, job->pidfd, (int)value, 0);
		if (fd < 0)
			r = explain_getfd(job->pid, errno, err);
		int64_t closed = 0;
		int e = session_call(&s, SYS_close, (const uint64_t[6]){(uint64_t)value}, &closed,
			r ? NULL : err);
		r = r ? r : e;
	}
	int e = session_end(&s, r ? NULL : err);
	r = r ? r : e;
	if (!r)
		job->fd = mc_steal_fd(&fd);
	return r;
}

int inject_userfaultfd(pid_t pid, int pidfd, int flags, struct mc_error *err)
{
	const uint64_t args[6] = {(uint64_t)(unsigned int)flags};
	struct job job = {.pid = pid, .pidfd = pidfd, .args = args, .fd = -1};
	int r = trace_run(do_userfaultfd, &job, err);
	return r < 0 ? r : job.fd;
}

#else

static int unsupported(struct mc_error *err)
{
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
		"injecting a system call is implemented on x86-64 only; on this machine set "
		"dirty-tracking = soft-dirty");
}

int inject_syscall(
	pid_t pid, long nr, const uint64_t args[6], int64_t *ret_value, struct mc_error *err)
{
	return unsupported(err);
}

int inject_userfaultfd(pid_t pid, int pidfd, int flags, struct mc_error *err)
{
	return unsupported(err);
}

#endif
