/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting QEMU, up to the point where both QMP sessions answer. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define KEEP_MAX (16 + CONFIG_NICS_MAX + 2) /* RAM, taps, device state out and in */

static void argv_freep(char ***argv)
{
	if (*argv)
		cmdline_argv_free(*argv);
}

static int make_dir(const char *path, struct mc_error *err)
{
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot make the directory %s: %s", path,
		strerror(errno));
}

/* The paths are QEMU's to bind, with the same limit as ours to connect: refused here, where the
 * message can name the setting. */
static int check_path(const char *path, struct mc_error *err)
{
	size_t max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	if (strlen(path) <= max)
		return 0;
	return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
		"%s is %zu characters long, but the path of a unix socket may have %zu at most: "
		"choose a shorter run-dir in mcd.conf or a shorter VM name",
		path, strlen(path), max);
}

static int make_memory_file(const char *name, int *ret, struct mc_error *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY, "cannot make a memory file: %s",
			strerror(errno));
	*ret = fd;
	return 0;
}

static int give_disks(
	const struct guest_launch *l, const struct guest_user *user, struct mc_error *err)
{
	int r = 0;
	for (size_t i = 0; i < l->vm->n_disks && r == 0; i++)
		r = guest_user_give(user, l->disks[i].path, err);
	return r;
}

static int spawn(struct qemu *q, const struct guest_launch *l, const struct guest_user *user,
	const char *qmp_path, const char *oob_path, struct mc_error *err)
{
	_cleanup_(argv_freep) char **argv = NULL;
	struct cmdline_inputs in = {
		.ram_fds = l->ram_fds,
		.tap_fds = l->tap_fds,
		.disks = l->disks,
		.qmp_path = qmp_path,
		.qmp_oob_path = oob_path,
		.name = l->vm->name,
		.incoming = l->incoming,
	};
	int r = cmdline_build(l->vm, l->plan, &in, &argv, err);
	if (r < 0)
		return r;

	int keep[KEEP_MAX];
	size_t n = 0;
	enum { RAM_MAX = sizeof l->plan->ram / sizeof *l->plan->ram };
	_Static_assert(RAM_MAX + CONFIG_NICS_MAX + 2 <= KEEP_MAX, "all that QEMU inherits fits");
	_Static_assert(RAM_MAX <= RAMBLOCKS_MAX, "what is made can be replicated");
	assert(l->plan->n_ram <= RAM_MAX && l->vm->n_nics <= CONFIG_NICS_MAX);
	assert(l->incoming == (q->incoming_fd >= 0));
	for (size_t i = 0; i < l->plan->n_ram; i++)
		keep[n++] = l->ram_fds[i];
	for (size_t i = 0; i < l->vm->n_nics; i++)
		keep[n++] = l->tap_fds[i];
	keep[n++] = q->devices_fd;
	if (q->incoming_fd >= 0)
		keep[n++] = q->incoming_fd;

	_cleanup_close_ int log_fd = qemu_log_open(q, argv, err);
	if (log_fd < 0)
		return log_fd;
	return guest_spawn(argv, keep, n, log_fd, user, &q->guest.pid, &q->guest.pidfd, err);
}

int qemu_launch(const struct guest_launch *l, struct guest **ret, struct mc_error *err)
{
	struct qemu *q = qemu_new(l->vm->name, l->run_dir);
	if (!q)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a guest");
	_cleanup_free_ char *qmp_path = qemu_path(q, GUEST_QMP);
	_cleanup_free_ char *oob_path = qemu_path(q, GUEST_QMP_OOB);
	_cleanup_free_ char *dir = qemu_path(q, GUEST_SOCKETS);
	struct guest_user user;
	int r = 0;
	if (!qmp_path || !oob_path || !dir)
		r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a guest");

	/* The longer path is checked: then the other fits too. */
	if (r < 0 || (r = check_path(oob_path, err)) < 0 || (r = make_dir(q->run_dir, err)) < 0 ||
		(r = qemu_pidfile_check(q, qmp_path, err)) < 0 ||
		(r = guest_user_of(l->vm, l->plan, &user, err)) < 0 ||
		(r = make_dir(dir, err)) < 0 ||
		(r = guest_user_open_dir(&user, q->run_dir, err)) < 0 ||
		(r = give_disks(l, &user, err)) < 0 ||
		(r = make_memory_file("mcd-devices", &q->devices_fd, err)) < 0 ||
		(l->incoming && (r = make_memory_file("mcd-incoming", &q->incoming_fd, err)) < 0)) {
		qemu_free(&q->guest);
		return r;
	}
	/* Stale names would make the first connect fail in ways that look like a dying QEMU. */
	unlink(qmp_path);
	unlink(oob_path);
	q->devices_number = q->devices_fd; /* inherited under the same numbers */
	q->incoming_number = q->incoming_fd;
	r = spawn(q, l, &user, qmp_path, oob_path, err);
	if (r < 0) {
		qemu_free(&q->guest);
		return r;
	}
	if ((r = qemu_pidfile_write(q, err)) < 0 || (r = qemu_open_sessions(q, qmp_path, oob_path,
							     l->incoming, l->deadline, err)) < 0) {
		mc_error_wrap(err, "%s did not start", q->name);
		qemu_kill(&q->guest);
		qemu_free(&q->guest);
		return r;
	}
	assert(q->guest.pid > 1 && q->guest.pidfd >= 0 && !q->guest.ours);
	*ret = &q->guest;
	return 0;
}
