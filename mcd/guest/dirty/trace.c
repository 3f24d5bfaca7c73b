/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/guest/dirty/trace.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/thread.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define CAP_SYS_PTRACE_BIT 19

int64_t trace_status_field(pid_t pid, const char *name, int base)
{
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	size_t n = strlen(name);
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, n) && line[n] == ':')
			return (int64_t)strtoull(line + n + 1, NULL, base);
	return -1;
}

static bool thread_gone(pid_t pid, pid_t tid)
{
	char path[64], line[512];
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof line, f))
		return true;
	const char *p = strrchr(line, ')'); /* the name before it may contain anything */
	return p && (p[2] == 'Z' || p[2] == 'X');
}

static int set_gone(pid_t pid, struct mc_error *err)
{
	return mc_error_set(err, -ESRCH, MC_ECLASS_QMP, "process %d has ended", (int)pid);
}

static int yama_scope(void)
{
	int scope = 0;
	_cleanup_fclose_ FILE *f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	if (f && fscanf(f, "%d", &scope) != 1)
		scope = 0;
	return scope;
}

static bool capable(void)
{
	int64_t caps = trace_status_field(getpid(), "CapEff", 16);
	return caps >= 0 && (caps >> CAP_SYS_PTRACE_BIT & 1);
}

#define CURE_YAMA                                                                                  \
	"kernel.yama.ptrace_scope is %d, which forbids it to everybody until the next boot; "      \
	"set it to 2 or less in /etc/sysctl.d and reboot"
#define CURE_CAPABILITY                                                                            \
	"run mcd as root, or add the capability to its systemd unit "                              \
	"(AmbientCapabilities=CAP_SYS_PTRACE)"

int trace_probe(int *ret_scope, struct mc_error *err)
{
	int scope = yama_scope();
	if (scope >= 3)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"no process can be traced because " CURE_YAMA, scope);
	if (!capable())
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"QEMU cannot be traced because mcd has no CAP_SYS_PTRACE "
			"(kernel.yama.ptrace_scope is %d); " CURE_CAPABILITY,
			scope);
	if (ret_scope)
		*ret_scope = scope;
	return 0;
}

int trace_explain_eperm(pid_t pid, struct mc_error *err)
{
	int64_t tracer = trace_status_field(pid, "TracerPid", 10);
	if (tracer > 0)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"process %d cannot be traced because process %" PRId64
			" (a debugger or strace?) traces it already; detach that one and try again",
			(int)pid, tracer);

	int scope = yama_scope();
	if (scope >= 3)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"process %d cannot be traced because " CURE_YAMA, (int)pid, scope);
	if (!capable())
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"process %d cannot be traced because mcd has no CAP_SYS_PTRACE "
			"(kernel.yama.ptrace_scope is %d); " CURE_CAPABILITY,
			(int)pid, scope);
	return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
		"process %d cannot be traced although mcd has CAP_SYS_PTRACE; a seccomp filter, a "
		"security module (SELinux, AppArmor) or another user namespace forbids it: see the "
		"audit log and allow ptrace of QEMU by mcd",
		(int)pid);
}

int trace_seize(pid_t pid, pid_t tid, struct mc_error *err)
{
	if (!ptrace(PTRACE_SEIZE, tid, NULL, (void *)(uintptr_t)PTRACE_O_TRACESYSGOOD))
		return 0;
	int e = errno;
	/* A thread that is exiting answers EPERM like a forbidden one. */
	if (e == ESRCH || thread_gone(pid, tid))
		return set_gone(pid, err);
	if (e == EPERM)
		return trace_explain_eperm(pid, err);
	return mc_error_set(
		err, -e, MC_ECLASS_FAILED, "tracing process %d failed: %s", (int)pid, strerror(e));
}

int trace_wait(pid_t pid, pid_t tid, uint64_t deadline, int *ret_status, struct mc_error *err)
{
	/* There is no descriptor that says "a tracee stopped": look often at first (the usual stop
	 * takes some 10 us), then less and less often. */
	for (unsigned round = 0;; round++) {
		siginfo_t si = {0};
		/* WNOWAIT: an exit status that belongs to the process's parent, when that is us, is
		 * not ours to consume. */
		if (waitid(P_PID, (id_t)tid, &si, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL))
			return set_gone(pid, err);
		if (si.si_pid && si.si_code != CLD_TRAPPED && si.si_code != CLD_STOPPED) {
			if (tid != pid || trace_status_field(pid, "PPid", 10) != getpid())
				waitid(P_PID, (id_t)tid, &si, WEXITED | WNOHANG | __WALL);
			return set_gone(pid, err);
		}
		int st;
		/* Killed between the two calls: nothing is there, and the next round sees it. */
		if (si.si_pid && waitpid(tid, &st, WNOHANG | __WALL) == tid) {
			if (!WIFSTOPPED(st))
				return set_gone(pid, err);
			*ret_status = st;
			return 0;
		}
		if (mc_now() >= deadline)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"thread %d of process %d did not stop in time; it hangs in the "
				"kernel (on storage?)",
				(int)tid, (int)pid);
		if (round < 20)
			sched_yield();
		else
			nanosleep(
				&(struct timespec){.tv_nsec = round < 100 ? 20000 : 1000000}, NULL);
	}
}

int trace_stop(pid_t pid, pid_t tid, uint64_t deadline, struct mc_error *err)
{
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL))
		return set_gone(pid, err);
	for (;;) {
		int st;
		int r = trace_wait(pid, tid, deadline, &st, err);
		if (r < 0)
			return r;
		/* A group-stop (SIGSTOP) is such an event too: fine, its thread stops there. */
		if (st >> 16 == PTRACE_EVENT_STOP)
			return 0;
		/* A signal on its way: let it go on, our own stop is still pending after it. */
		int sig = WSTOPSIG(st) == (SIGTRAP | 0x80) || st >> 16 ? 0 : WSTOPSIG(st);
		if (ptrace(PTRACE_CONT, tid, NULL, (void *)(uintptr_t)sig))
			return set_gone(pid, err);
	}
}

struct run {
	int (*fn)(void *arg, struct mc_error *err);
	void *arg;
	struct mc_error *err;
	int r;
};

static void *run_thread(void *p)
{
	struct run *run = p;
	run->r = run->fn(run->arg, run->err);
	return NULL;
}

int trace_run(int (*fn)(void *arg, struct mc_error *err), void *arg, struct mc_error *err)
{
	struct run run = {fn, arg, err, 0};
	pthread_t thread;
	int r = mc_thread_start(&thread, "tracer", run_thread, &run);
	if (r < 0)
		return mc_error_set(
			err, r, MC_ECLASS_MEMORY, "no thread for tracing: %s", strerror(-r));
	pthread_join(thread, NULL);
	return run.r;
}

static bool is_uring_worker(pid_t pid, pid_t tid)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)pid, (int)tid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	return f && fgets(name, sizeof name, f) &&
	       (!strncmp(name, "iou-wrk-", 8) || !strncmp(name, "iou-sqp-", 8));
}

static bool frozen_has(const struct trace_frozen *f, pid_t tid)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->tid[i] == tid)
			return true;
	return false;
}

/* Seizes and stops the threads that are listed and not ours yet; returns how many there were. */
static int freeze_pass(struct trace_frozen *f, uint64_t deadline, struct mc_error *err)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", (int)f->pid);
	DIR *dir = opendir(path);
	if (!dir)
		return set_gone(f->pid, err);
	int found = 0, r = 0;
	for (struct dirent *de; r >= 0 && (de = readdir(dir));) {
		pid_t tid = (pid_t)strtol(de->d_name, NULL, 10);
		if (tid <= 0 || frozen_has(f, tid))
			continue;
		if (f->n == f->cap) {
			size_t cap = f->cap ? 2 * f->cap : 32;
			pid_t *v = realloc(f->tid, cap * sizeof *v);
			if (!v) {
				r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
					"no memory for a list of threads");
				break;
			}
			f->tid = v;
			f->cap = cap;
		}
		r = trace_seize(f->pid, tid, err);
		if (r == -EPERM && is_uring_worker(f->pid, tid)) {
			r = 0;
			continue;
		}
		if (!r)
			r = trace_stop(f->pid, tid, deadline, err);
		if (r == -ESRCH && tid != f->pid) { /* a thread that just ends writes no more */
			r = 0;
			continue;
		}
		if (!r) {
			assert(f->n < f->cap);
			f->tid[f->n++] = tid;
			found++;
		}
	}
	closedir(dir);
	return r < 0 ? r : found;
}

int trace_freeze(pid_t pid, uint64_t deadline, struct trace_frozen *ret, struct mc_error *err)
{
	struct trace_frozen f = {.pid = pid};
	/* Until a whole pass finds nobody new: only a running thread can make another one. */
	for (;;) {
		int r = freeze_pass(&f, deadline, err);
		if (r < 0) {
			trace_thaw(&f);
			return r;
		}
		if (!r)
			break;
	}
	*ret = f;
	return 0;
}

void trace_thaw(struct trace_frozen *f)
{
	for (size_t i = 0; i < f->n; i++)
		ptrace(PTRACE_DETACH, f->tid[i], NULL, NULL);
	free(f->tid);
	*f = (struct trace_frozen){0};
}
