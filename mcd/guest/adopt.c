/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking over a QEMU that a former mcd started.  Everything needed is in the process itself: the
 * pid file leads to it, its command line says which descriptor is which tap, its own descriptors
 * are brought here by pidfd_getfd.
 */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COMMAND_MAX (256u << 10)

static int read_command(pid_t pid, char **ret, size_t *ret_len)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *buf = malloc(COMMAND_MAX);
	if (fd < 0 || !buf)
		return -ENOENT;
	size_t len = 0;
	for (ssize_t n; len < COMMAND_MAX - 1; len += (size_t)n)
		if ((n = read(fd, buf + len, COMMAND_MAX - 1 - len)) <= 0)
			break;
	buf[len] = 0;
	*ret = mc_steal_ptr(buf);
	*ret_len = len;
	return 0;
}

/* The number that QEMU knows the tap of this netdev by; -1 if its command line does not say. */
static int tap_number(const char *cmd, size_t len, const char *id)
{
	char want[96];
	snprintf(want, sizeof want, "tap,id=%s,fd=", id);
	for (const char *w = cmd; w < cmd + len; w += strlen(w) + 1)
		if (!strncmp(w, want, strlen(want)))
			return atoi(w + strlen(want));
	return -1;
}

static int find_process(
	struct qemu *q, const char *qmp_path, char **ret_cmd, size_t *ret_len, struct mc_error *err)
{
	_cleanup_free_ char *path = qemu_path(q, "pid");
	_cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
	long pid = 0;
	if (!f || fscanf(f, "%ld", &pid) != 1 || pid <= 1)
		return -ENOENT;
	q->guest.pidfd = pidfd_open((pid_t)pid, 0);
	if (q->guest.pidfd < 0)
		return -ENOENT;
	q->guest.pid = (pid_t)pid;
	/* After the pidfd: now it cannot become another process between look and use. */
	int r = read_command(q->guest.pid, ret_cmd, ret_len);
	if (r == 0 && !memmem(*ret_cmd, *ret_len, qmp_path, strlen(qmp_path)))
		r = -ENOENT; /* a stranger with an old pid */
	return r;
}

static int ask_status(
	struct qemu *q, uint64_t deadline, enum guest_adopted *ret, struct mc_error *err)
{
	json_t *status = NULL;
	uint64_t now = mc_now();
	int r = qmp_command(
		q->qmp, "query-status", NULL, deadline > now ? deadline - now : 0, &status, err);
	if (r < 0)
		return r;
	const char *s = json_string_value(json_object_get(status, "status"));
	*ret = s && !strcmp(s, "inmigrate") ? GUEST_ADOPTED_WAITING
	       : s && !strcmp(s, "running") ? GUEST_ADOPTED_RUNNING
					    : GUEST_ADOPTED_STOPPED;
	/* What it told nobody while there was no mcd: why it stands, if nobody stopped it. */
	bool off = s && !strcmp(s, "shutdown"), panicked = s && !strcmp(s, "guest-panicked");
	if (off || panicked) {
		qemu_event_back(&q->guest, off ? GUEST_EVENT_SHUTDOWN : GUEST_EVENT_PANICKED);
		*ret = GUEST_ADOPTED_RUNNING;
	}
	json_decref(status);
	return 0;
}

int qemu_adopt(const struct config_vm *vm, const char *run_dir, uint64_t deadline,
	struct guest **ret, int *ret_taps, enum guest_adopted *ret_how, struct mc_error *err)
{
	struct qemu *q = qemu_new(vm->name, run_dir);
	_cleanup_free_ char *qmp_path = q ? qemu_path(q, GUEST_QMP) : NULL;
	_cleanup_free_ char *oob_path = q ? qemu_path(q, GUEST_QMP_OOB) : NULL, *cmd = NULL;
	size_t len = 0, taps = 0;
	int r;
	assert(vm->n_nics <= CONFIG_NICS_MAX);
	if (!qmp_path || !oob_path)
		r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a guest");
	else
		r = find_process(q, qmp_path, &cmd, &len, err);
	if (r == 0) {
		q->devices_number = qemu_memory_file(q->guest.pid, "mcd-devices");
		r = qemu_bring(
			q, q->devices_number, "file for its device state", &q->devices_fd, err);
	}
	/* A standby's: gone once the state was loaded from it. */
	q->incoming_number = r == 0 ? qemu_memory_file(q->guest.pid, "mcd-incoming") : -1;
	if (q->incoming_number >= 0)
		r = qemu_bring(
			q, q->incoming_number, "file for its device state", &q->incoming_fd, err);
	for (; r == 0 && taps < vm->n_nics; taps++) {
		char what[96];
		snprintf(what, sizeof what, "tap of NIC %s", vm->nics[taps].id);
		r = qemu_bring(
			q, tap_number(cmd, len, vm->nics[taps].id), what, &ret_taps[taps], err);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = qemu_open_sessions(q, qmp_path, oob_path, false, deadline, err);
	if (r == 0)
		r = ask_status(q, deadline, ret_how, err);
	if (r < 0) {
		while (taps)
			close(ret_taps[--taps]);
		if (q)
			qemu_free(&q->guest);
		return r;
	}
	assert(q->guest.pid > 1 && q->guest.pidfd >= 0);
	q->guest.ours = *ret_how == GUEST_ADOPTED_STOPPED;
	*ret = &q->guest;
	return 0;
}
