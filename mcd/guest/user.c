/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/guest/user.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/parse.h"
#include "mcd/guest/guest-private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static int parse_numbers(const char *text, struct guest_user *u)
{
	char *end;
	unsigned long uid = strtoul(text, &end, 10);
	if (end == text || *end != ':')
		return -EINVAL;
	const char *group = end + 1;
	unsigned long gid = strtoul(group, &end, 10);
	/* (uid_t)-1 means "no change" to the kernel. */
	if (end == group || *end || *text == '-' || *group == '-' || uid >= UINT32_MAX ||
		gid >= UINT32_MAX)
		return -EINVAL;
	u->uid = (uid_t)uid;
	u->gid = (gid_t)gid;
	return 0;
}

static int look_up(const char *name, struct guest_user *u, struct mc_error *err)
{
	char buf[16384];
	struct passwd pw, *found = NULL;
	int e = getpwnam_r(name, &pw, buf, sizeof buf, &found);
	if (!found)
		return mc_error_set(err, e ? -e : -ENOENT, MC_ECLASS_CONFIG,
			"there is no user \"%.60s\" on this host%s%s: make it (useradd --system "
			"%.60s), or write numbers as uid:gid",
			name, e ? ": " : "", e ? strerror(e) : "", name);
	int n = GUEST_GROUPS_MAX;
	u->uid = pw.pw_uid;
	u->gid = pw.pw_gid;
	if (getgrouplist(name, pw.pw_gid, u->groups, &n) < 0)
		return mc_error_set(err, -E2BIG, MC_ECLASS_CONFIG,
			"the user %.60s is in %d groups, but QEMU can be given %d", name, n,
			GUEST_GROUPS_MAX);
	u->n_groups = (size_t)n;
	return 0;
}

int guest_user_find(const char *text, struct guest_user *ret, struct mc_error *err)
{
	struct guest_user u = {0};
	snprintf(u.name, sizeof u.name, "%s", text);
	int r = strlen(text) >= sizeof u.name || !*text ? -EINVAL : 0;
	if (r == 0 && strchr(text, ':'))
		r = parse_numbers(text, &u);
	else if (r == 0 && (r = look_up(text, &u, err)) < 0)
		return r;
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_CONFIG,
			"\"%.60s\" is no user: write a name such as qemu, or uid:gid", text);
	u.other = u.uid != geteuid() || u.gid != getegid();
	*ret = u;
	return 0;
}

int guest_user_of(const struct config_vm *vm, const struct cmdline_plan *plan,
	struct guest_user *ret, struct mc_error *err)
{
	*ret = (struct guest_user){.other = false};
	if (*vm->user && *plan->runas)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s: both user = %s and the command name a user (%s): take one of them out",
			vm->path, vm->user, plan->runas);
	if (!*vm->user && !*plan->runas)
		return 0;
	int r = guest_user_find(*vm->user ? vm->user : plan->runas, ret, err);
	if (r < 0)
		return mc_error_wrap(err, "%s", vm->path);
	ret->at_start = *vm->user && ret->other;
	return 0;
}

/* --- files ----------------------------------------------------------------------------------- */

static int failed(const char *what, const char *path, struct mc_error *err)
{
	return mc_error_set(err, -errno, MC_ECLASS_PERMISSION, "cannot %s %s: %s%s", what, path,
		strerror(errno), errno == EPERM ? "; mcd needs CAP_CHOWN and CAP_FOWNER" : "");
}

/* Adds to the mode; the owner stays. */
static int let_pass(const char *dir, struct mc_error *err)
{
	struct stat st;
	if (stat(dir, &st) < 0)
		return failed("look at", dir, err);
	if ((st.st_mode & 0011) != 0011 && chmod(dir, (st.st_mode & 07777) | 0011) < 0)
		return failed("open", dir, err);
	return 0;
}

int guest_user_open_dir(const struct guest_user *u, const char *run_dir, struct mc_error *err)
{
	_cleanup_free_ char *sockets = NULL, *above = strdup(run_dir);
	if (!above || asprintf(&sockets, "%s/" GUEST_SOCKETS, run_dir) < 0)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	/* Not followed: what lies there may be of a former QEMU's user. */
	_cleanup_close_ int fd = open(sockets, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return failed("open", sockets, err);
	if (fchown(fd, u->other ? u->uid : geteuid(), u->other ? u->gid : getegid()) < 0)
		return failed("give away", sockets, err);
	if (!u->other)
		return 0;
	/* Only its group: others have no business there. */
	if (chown(run_dir, (uid_t)-1, u->gid) < 0 || chmod(run_dir, 0710) < 0)
		return failed("open", run_dir, err);
	char *slash = strrchr(above, '/');
	if (!slash || slash == above)
		return 0;
	*slash = 0;
	return let_pass(above, err);
}

/* Whether only root can change what the names on this path, which has no symbolic links, mean.  In
 * a directory of QEMU's user a name could be made to mean any file of root's. */
static bool fixed(char *real)
{
	for (char *slash; (slash = strrchr(real, '/'));) {
		struct stat st;
		*slash = 0;
		if (stat(*real ? real : "/", &st) < 0 || st.st_uid != 0 ||
			((st.st_mode & 0022) && !(st.st_mode & S_ISVTX)))
			return false;
	}
	return true;
}

/* The file, if it is ours to give away: -1 if not, or if it is not there. */
static int open_gift(const char *path)
{
	struct stat st;
	_cleanup_free_ char *real = realpath(path, NULL);
	_cleanup_close_ int fd = real ? open(real, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
		st.st_uid != geteuid() || !fixed(real))
		return -1;
	return mc_steal_fd(&fd);
}

bool guest_user_would_give(const struct guest_user *u, const char *path)
{
	_cleanup_close_ int fd = u->at_start ? open_gift(path) : -1;
	return fd >= 0;
}

int guest_user_give(const struct guest_user *u, const char *path, struct mc_error *err)
{
	_cleanup_close_ int fd = u->at_start ? open_gift(path) : -1;
	if (fd < 0)
		return 0;
	if (fchownat(fd, "", u->uid, u->gid, AT_EMPTY_PATH) < 0)
		return failed("give away", path, err);
	return 0;
}

/* --- trying out ------------------------------------------------------------------------------ */

/* In the child of a process with threads: system calls only, and none of libc's set*id, which would
 * tell the other threads that are not there. */
int guest_user_become(const struct guest_user *u)
{
	if (!u->other)
		return 0;
	if (syscall(SYS_setgroups, u->n_groups, u->groups) < 0 ||
		syscall(SYS_setresgid, u->gid, u->gid, u->gid) < 0 ||
		syscall(SYS_setresuid, u->uid, u->uid, u->uid) < 0)
		return -errno;
	return 0;
}

static int attempt(const struct guest_user *u, enum guest_may what, const char *path)
{
	int r = guest_user_become(u);
	if (r < 0)
		return r;
	if (what == GUEST_MAY_USERFAULTFD)
		return syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY) < 0
			       ? -errno
			       : 0;
	struct stat st;
	bool write = what == GUEST_MAY_WRITE;
	if (stat(path, &st) < 0)
		return -errno;
	/* A module that is not loaded shows only here.  Opening others could have effects. */
	if (S_ISCHR(st.st_mode))
		/* cppcheck-suppress leakReturnValNotUsed ; this process ends next */
		return open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY) < 0 ? -errno
											  : 0;
	return faccessat(AT_FDCWD, path, write ? R_OK | W_OK : R_OK, 0) < 0 ? -errno : 0;
}

/* In a process that is nobody's child but init's: where it hangs in the kernel, no kill ends it and
 * nobody could wait for it. */
static void try_and_tell(
	int answer, const struct guest_user *u, enum guest_may what, const char *path)
{
	pid_t self = getpid();
	/* Nothing of mcd's may stay open for as long as this hangs. */
	if (dup2(answer, 0) < 0 || close_range(3, ~0u, 0) < 0 ||
		write(0, &self, sizeof self) != sizeof self)
		_exit(1);
	int r = attempt(u, what, path);
	_exit(write(0, &r, sizeof r) != sizeof r);
}

/* -ETIMEDOUT: nothing came.  0 bytes: whoever had to write has ended. */
static int read_int(int fd, int *ret, uint64_t deadline)
{
	struct pollfd p = {fd, POLLIN, 0};
	uint64_t now = mc_now();
	int ms = now < deadline ? (int)((deadline - now) / MC_MSEC) + 1 : 0, n;
	while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR)
		;
	if (n <= 0)
		return n < 0 ? -errno : -ETIMEDOUT;
	return (int)read(fd, ret, sizeof *ret);
}

int guest_user_try(const struct guest_user *u, enum guest_may what, const char *path)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	_cleanup_close_ int in = ends[0], out = ends[1];
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t between = fork();
	int e = errno;
	if (between == 0) {
		pid_t pid = fork();
		if (pid == 0)
			try_and_tell(out, u, what, path);
		_exit(pid < 0);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (between < 0)
		return -e;
	close(mc_steal_fd(&out));
	while (waitpid(between, NULL, 0) < 0)
		if (errno != EINTR)
			return -errno;
	uint64_t deadline = mc_now() + GUEST_TRY_TIME;
	int pid, answer, n = read_int(in, &pid, deadline);
	if (n < 0)
		return n;
	if (n != sizeof pid)
		return -EAGAIN;
	n = read_int(in, &answer, deadline);
	if (n == -ETIMEDOUT)
		kill(pid, SIGKILL); /* its end of the pipe is open: it is this one yet */
	if (n < 0)
		return n;
	return n == sizeof answer ? answer : -EACCES; /* killed: by a seccomp filter */
}
