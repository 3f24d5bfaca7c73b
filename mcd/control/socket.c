/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/control/socket.h"

#include "common/cleanup.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG 64

_Static_assert(
	sizeof((struct control_socket *)0)->path == sizeof((struct sockaddr_un *)0)->sun_path,
	"a path that fits one fits the other");

/* The lock says whether another mcd lives, without a moment between looking and binding in which
 * two could take each other's socket for a stale one.  It goes with the process. */
static int take_lock(struct control_socket *s, struct mc_error *err)
{
	char path[sizeof s->path + 8];
	snprintf(path, sizeof path, "%s.lock", s->path);
	s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock_fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot make '%s': %s; the run-dir of mcd.conf must exist and be writable",
			path, strerror(errno));
	if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot lock '%s': %s", path,
			strerror(errno));
	return mc_error_set(err, -EADDRINUSE, MC_ECLASS_STATE,
		"another mcd serves '%s'; stop it first, or give this one another run-dir",
		s->path);
}

static int remove_stale(const char *path, struct mc_error *err)
{
	struct stat st;
	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot look at '%s': %s", path,
			strerror(errno));
	}
	if (!S_ISSOCK(st.st_mode))
		return mc_error_set(err, -EEXIST, MC_ECLASS_STATE,
			"'%s' should be mcd's control socket but is something else; remove it",
			path);
	if (unlink(path) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot remove the stale '%s': %s", path, strerror(errno));
	return 0;
}

static int start_listening(struct control_socket *s, struct mc_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	memcpy(sa.sun_path, s->path, sizeof sa.sun_path);
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode is set before the name exists: at no moment may others connect. */
	if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 ||
		listen(fd, BACKLOG) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot listen on the control socket '%s': %s", s->path, strerror(errno));
	s->listen_fd = mc_steal_fd(&fd);
	return 0;
}

int control_socket_open(const char *path, struct control_socket *ret, struct mc_error *err)
{
	struct control_socket s = {.listen_fd = -1, .lock_fd = -1};
	if (strlen(path) >= sizeof s.path)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the control socket's path '%s' is longer than the %zu bytes that a socket "
			"may have; choose a shorter run-dir",
			path, sizeof s.path - 1);
	strcpy(s.path, path);
	int r = take_lock(&s, err);
	if (r >= 0)
		r = remove_stale(s.path, err);
	if (r >= 0)
		r = start_listening(&s, err);
	if (r < 0)
		control_socket_close(&s);
	else
		*ret = s;
	return r;
}

void control_socket_close(struct control_socket *s)
{
	if (s->listen_fd >= 0) {
		unlink(s->path);
		close(s->listen_fd);
	}
	/* The lock's file stays: removing it would let two daemons lock two files of one name. */
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	s->listen_fd = s->lock_fd = -1;
}
