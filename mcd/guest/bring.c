/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors of a QEMU that runs, brought here by pidfd_getfd. */
#include "mcd/guest/guest-private.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The descriptor of QEMU that is the memory file of that name. */
int qemu_memory_file(pid_t pid, const char *name)
{
	char path[64], want[128];
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	snprintf(want, sizeof want, "/memfd:%s (deleted)", name);
	DIR *d = opendir(path);
	int found = -1;
	for (struct dirent *e; d && found < 0 && (e = readdir(d));) {
		char target[128];
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof target - 1);
		if (n == (ssize_t)strlen(want) && !memcmp(target, want, (size_t)n))
			found = atoi(e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

int qemu_bring(const struct qemu *q, int number, const char *what, int *ret, struct mc_error *err)
{
	int fd = number < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, q->guest.pidfd, number, 0);
	if (number < 0)
		return mc_error_set(err, -ENOENT, MC_ECLASS_GUEST,
			"the running QEMU of %s (pid %d) has no %s: it was not started by this mcd",
			q->name, (int)q->guest.pid, what);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"cannot take over the %s of the running QEMU of %s (pid %d): %s; mcd needs "
			"CAP_SYS_PTRACE",
			what, q->name, (int)q->guest.pid, strerror(errno));
	*ret = fd;
	return 0;
}

int qemu_bring_ram(
	struct guest *g, const struct cmdline_plan *plan, int *ret_fds, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	int r = 0, fds[RAMBLOCKS_MAX] = {0};
	size_t n = 0;
	assert(plan->n_ram <= RAMBLOCKS_MAX);
	for (; n < plan->n_ram; n++) {
		struct stat st;
		char what[96];
		snprintf(what, sizeof what, "memory %s", plan->ram[n].id);
		r = qemu_bring(q, qemu_memory_file(g->pid, plan->ram[n].id), what, &fds[n], err);
		if (r < 0)
			break;
		if (fstat(fds[n], &st) < 0 || (uint64_t)st.st_size != plan->ram[n].size) {
			n++;
			r = mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
				"the %s of the running QEMU of %s has another size than its file "
				"says now",
				what, q->name);
			break;
		}
	}
	if (r == 0)
		memcpy(ret_fds, fds, n * sizeof *fds);
	while (r < 0 && n)
		close(fds[--n]);
	return r;
}
