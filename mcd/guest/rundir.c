/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RUN_DIR/NAME: qemu.log and the pid file. */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_MAX  (4 << 20) /* a log longer than this starts anew with the next QEMU */
#define TAIL_MAX 4096

char *qemu_path(const struct qemu *q, const char *leaf)
{
	char *p;
	return asprintf(&p, "%s/%s", q->run_dir, leaf) < 0 ? NULL : p;
}

/* The command line goes into the log, as it is what one needs first when QEMU complains. */
static void log_command(int fd, char *const argv[])
{
	char when[32];
	time_t now = time(NULL);
	struct tm tm;
	strftime(when, sizeof when, "%FT%TZ", gmtime_r(&now, &tm));
	dprintf(fd, "--- %s", when);
	for (size_t i = 0; argv[i]; i++)
		dprintf(fd, strpbrk(argv[i], " '\"$\\*?") ? " '%s'" : " %s", argv[i]);
	dprintf(fd, "\n");
}

int qemu_log_open(struct qemu *q, char *const argv[], struct mc_error *err)
{
	_cleanup_free_ char *path = qemu_path(q, "qemu.log");
	if (!path)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory");
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot write %s: %s", path,
			strerror(errno));
	struct stat st;
	if (fstat(fd, &st) == 0 && st.st_size > LOG_MAX && ftruncate(fd, 0) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot truncate %s: %s", path,
			strerror(errno));
	log_command(fd, argv);
	q->log_start = lseek(fd, 0, SEEK_END);
	return mc_steal_fd(&fd);
}

void qemu_log_last_words(const struct qemu *q, char *buf, size_t size)
{
	char tail[TAIL_MAX + 1];
	*buf = '\0';
	_cleanup_free_ char *path = qemu_path(q, "qemu.log");
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (fd < 0)
		return;
	off_t from = lseek(fd, 0, SEEK_END) - TAIL_MAX;
	ssize_t n = pread(fd, tail, TAIL_MAX, from > q->log_start ? from : q->log_start);
	if (n <= 0)
		return;
	/* Two lines, because the last one alone is often "load of migration failed". */
	tail[n] = '\0';
	char *line[2] = {NULL, NULL}, *save = NULL;
	for (char *l = strtok_r(tail, "\r\n", &save); l; l = strtok_r(NULL, "\r\n", &save)) {
		line[0] = line[1];
		line[1] = l;
	}
	if (line[0])
		snprintf(buf, size, "%.200s; %.200s", line[0], line[1]);
	else if (line[1])
		snprintf(buf, size, "%.400s", line[1]);
	for (; *buf; buf++) /* whatever QEMU or its libraries print must fit into JSON */
		if (*buf < 0x20 || *buf > 0x7e)
			*buf = '?';
}

/* Whether the process is a QEMU on this socket, and not a stranger who got an old pid. */
static bool uses_socket(long pid, const char *qmp_path)
{
	char proc[64], cmd[16384];
	snprintf(proc, sizeof proc, "/proc/%ld/cmdline", pid);
	_cleanup_close_ int fd = open(proc, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, cmd, sizeof cmd);
	return n > 0 && memmem(cmd, (size_t)n, qmp_path, strlen(qmp_path));
}

int qemu_pidfile_check(const struct qemu *q, const char *qmp_path, struct mc_error *err)
{
	_cleanup_free_ char *path = qemu_path(q, "pid");
	_cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
	long pid;
	if (f && fscanf(f, "%ld", &pid) == 1 && pid > 1 && uses_socket(pid, qmp_path))
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"a QEMU of %s from before is still running (pid %ld): end it first, "
			"because two copies of one VM must never run",
			q->name, pid);
	return 0;
}

int qemu_pidfile_write(const struct qemu *q, struct mc_error *err)
{
	_cleanup_free_ char *path = qemu_path(q, "pid"), *tmp = qemu_path(q, "pid.new");
	_cleanup_fclose_ FILE *f = path && tmp ? fopen(tmp, "we") : NULL;
	if (!f || fprintf(f, "%d\n", (int)q->guest.pid) < 0 || fflush(f) || rename(tmp, path) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot write the pid file in %s: %s", q->run_dir, strerror(errno));
	return 0;
}
