// SPDX-License-Identifier: GPL-2.0-or-later
/* Starting QEMU, up to the point where both QMP sessions answer. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

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

static int spawn(struct guest *g, const struct guest_launch *l, const struct guest_user *user,
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
	for (size_t i = 0; i < l->plan->n_ram; i++)
		keep[n++] = l->ram_fds[i];
	for (size_t i = 0; i < l->vm->n_nics; i++)
		keep[n++] = l->tap_fds[i];
	keep[n++] = g->devices_fd;
	if (g->incoming_fd >= 0)
		keep[n++] = g->incoming_fd;

	_cleanup_close_ int log_fd = guest_log_open(g, argv, err);
	if (log_fd < 0)
		return log_fd;
	return guest_spawn(argv, keep, n, log_fd, user, &g->pid, &g->pidfd, err);
}

int guest_launch(const struct guest_launch *l, struct guest **ret, struct mc_error *err)
{
	struct guest *g = calloc(1, sizeof *g);
	if (!g)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a guest");
	g->pidfd = g->devices_fd = g->incoming_fd = -1;
	g->name = strdup(l->vm->name);
	g->run_dir = strdup(l->run_dir);
	_cleanup_free_ char *qmp_path = NULL, *oob_path = NULL, *dir = NULL;
	struct guest_user user;
	int r = -ENOMEM;
	if (g->name && g->run_dir && (qmp_path = guest_path(g, GUEST_QMP)) &&
		(oob_path = guest_path(g, GUEST_QMP_OOB)) && (dir = guest_path(g, GUEST_SOCKETS)))
		r = 0;
	else
		mc_error_set(err, r, MC_ECLASS_MEMORY, "no memory for a guest");

	/* The longer path is checked: then the other fits too. */
	if (r < 0 || (r = check_path(oob_path, err)) < 0 || (r = make_dir(g->run_dir, err)) < 0 ||
		(r = guest_pidfile_check(g, qmp_path, err)) < 0 ||
		(r = guest_user_of(l->vm, l->plan, &user, err)) < 0 ||
		(r = make_dir(dir, err)) < 0 ||
		(r = guest_user_open_dir(&user, g->run_dir, err)) < 0 ||
		(r = give_disks(l, &user, err)) < 0 ||
		(r = make_memory_file("mcd-devices", &g->devices_fd, err)) < 0 ||
		(l->incoming && (r = make_memory_file("mcd-incoming", &g->incoming_fd, err)) < 0)) {
		guest_free(g);
		return r;
	}
	/* Stale names would make the first connect fail in ways that look like a dying QEMU. */
	unlink(qmp_path);
	unlink(oob_path);
	g->devices_number = g->devices_fd; /* inherited under the same numbers */
	g->incoming_number = g->incoming_fd;
	r = spawn(g, l, &user, qmp_path, oob_path, err);
	if (r < 0) {
		guest_free(g);
		return r;
	}
	if ((r = guest_pidfile_write(g, err)) < 0 || (r = guest_open_sessions(g, qmp_path, oob_path,
							      l->incoming, l->deadline, err)) < 0) {
		mc_error_wrap(err, "%s did not start", g->name);
		guest_kill(g);
		guest_free(g);
		return r;
	}
	*ret = g;
	return 0;
}
