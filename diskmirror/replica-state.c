/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state file, text of at most 511 bytes, one value a line, in this order:
 *
 *	mcd-replica 1
 *	trust NAME                    none, syncing, whole, active
 *	generation N                  decimal
 *	primary NAME                  printable ASCII without blanks; '-' if unknown
 *	boot ID                       optional: /proc/sys/kernel/random/boot_id
 *	check HEX                     XXH3-64 of all bytes before this line, 16 lower case digits
 *
 * Anything else is damaged: a guess here could start a VM from half an image.
 *
 * Beside it NAME.state.new is kept, of which only the place on the disk matters.
 *
 * With a boot ID the file says what was true of the page cache: after another boot that is lost,
 * and the replica counts as SYNCING.
 */
#include "diskmirror/replica-state.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define FILE_MAX 512

static const char *const names[] = {
	[REPLICA_NONE] = "none",
	[REPLICA_SYNCING] = "syncing",
	[REPLICA_WHOLE] = "whole",
	[REPLICA_ACTIVE] = "active",
};
#define N_NAMES (sizeof names / sizeof *names)

static bool is_name(const char *s)
{
	for (const char *p = s; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return *s;
}

int replica_state_boot(char ret[40], struct mc_error *err)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	char id[40] = "";
	if (!f || fscanf(f, "%39s", id) != 1 || !is_name(id))
		return mc_error_set(err, -EIO, MC_ECLASS_KERNEL,
			"the kernel does not tell its boot id in /proc/sys/kernel/random/boot_id; "
			"is /proc mounted?");
	memcpy(ret, id, sizeof id);
	return 0;
}

/* Moves *p behind "KEY value\n" and puts the value into buf. */
static bool get_line(char **p, const char *key, char *buf, size_t cap)
{
	size_t k = strlen(key);
	char *end = strchr(*p, '\n');
	if (!end || strncmp(*p, key, k) || (*p)[k] != ' ')
		return false;
	char *value = *p + k + 1;
	size_t len = (size_t)(end - value);
	if (!len || len >= cap)
		return false;
	for (const char *c = value; c < end; c++)
		if (*c <= ' ' || *c > '~')
			return false;
	memcpy(buf, value, len);
	buf[len] = '\0';
	*p = end + 1;
	return true;
}

static bool get_number(const char *s, uint64_t *ret)
{
	char *end;
	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*ret = strtoull(s, &end, 10);
	return !errno && !*end;
}

static bool parse(char *text, struct replica_state *ret)
{
	char *p = text, value[64], want[17];
	struct replica_state s = {0};
	if (!get_line(&p, "mcd-replica", value, sizeof value) || strcmp(value, "1") ||
		!get_line(&p, "trust", value, sizeof value))
		return false;
	size_t t = 0;
	while (t < N_NAMES && strcmp(names[t], value))
		t++;
	s.trust = (enum replica_trust)t;
	if (t == N_NAMES || !get_line(&p, "generation", value, sizeof value) ||
		!get_number(value, &s.generation) ||
		!get_line(&p, "primary", s.primary, sizeof s.primary))
		return false;
	if (!strcmp(s.primary, "-"))
		memset(s.primary, 0, sizeof s.primary);
	get_line(&p, "boot", s.boot, sizeof s.boot);
	snprintf(want, sizeof want, "%016" PRIx64, (uint64_t)XXH3_64bits(text, (size_t)(p - text)));
	if (!get_line(&p, "check", value, sizeof value) || strcmp(value, want) || *p)
		return false;
	*ret = s;
	return true;
}

int replica_state_load(const char *path, struct replica_state *ret, struct mc_error *err)
{
	char text[FILE_MAX + 1], boot[40];
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		*ret = (struct replica_state){0};
		return 0;
	}
	ssize_t n = fd < 0 ? -1 : read(fd, text, FILE_MAX);
	if (n < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot read %s, which says how far this host's copy of the VM's disks can "
			"be trusted: %s",
			path, strerror(errno));
	text[n] = '\0';
	struct replica_state s;
	if (n == FILE_MAX || memchr(text, 0, (size_t)n) || !parse(text, &s))
		return mc_error_set(err, -EBADMSG, MC_ECLASS_FAILED,
			"%s is damaged, so nobody knows how far this host's copy of the VM's disks "
			"can be trusted; if the VM runs on another host, delete the file and "
			"protect the VM again",
			path);
	if (*s.boot && s.trust == REPLICA_WHOLE) {
		int r = replica_state_boot(boot, err);
		if (r < 0)
			return r;
		if (strcmp(boot, s.boot))
			s.trust = REPLICA_SYNCING;
	}
	*ret = s;
	return 0;
}

/* The file that is written next, open: its block on the disk is there already. */
static int open_twin(const char *twin)
{
	_cleanup_close_ int fd = open(twin, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!st.st_size) {
		char blank[FILE_MAX] = {0};
		int r = seam_pwrite(fd, blank, sizeof blank, 0);
		if (r == 0 && fsync(fd) < 0)
			r = -errno;
		if (r == 0)
			r = seam_sync_dir(twin);
		if (r < 0)
			return r;
	}
	return mc_steal_fd(&fd);
}

/* Into the twin, which then changes places with the file.  So a file system that is full keeps
 * nobody from it: what a takeover writes here has its room since the session began. */
static int write_whole(const char *path, const char *text, size_t len)
{
	_cleanup_free_ char *twin = NULL;
	if (asprintf(&twin, "%s.new", path) < 0)
		return -ENOMEM;
	_cleanup_close_ int fd = open_twin(twin), next = -1;
	if (fd < 0)
		return fd;
	int r = seam_pwrite(fd, text, len, 0);
	if (r == 0 && (ftruncate(fd, (off_t)len) < 0 || fsync(fd) < 0))
		r = -errno;
	if (r < 0)
		return r;
	if (renameat2(AT_FDCWD, twin, AT_FDCWD, path, RENAME_EXCHANGE) < 0) {
		bool first = errno == ENOENT; /* else the file system cannot do it */
		if (rename(twin, path) < 0)
			return -errno;
		next = open_twin(twin);
		if (first && next < 0)
			return next;
	}
	return seam_sync_dir(path);
}

int replica_state_save(const char *path, const struct replica_state *s, struct mc_error *err)
{
	char text[FILE_MAX];
	if ((size_t)s->trust >= N_NAMES || (*s->primary && !is_name(s->primary)) ||
		(*s->boot && !is_name(s->boot)))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"the state of a replica cannot be written down: its primary's name is no "
			"name");
	int n = snprintf(text, sizeof text,
		"mcd-replica 1\ntrust %s\ngeneration %" PRIu64 "\nprimary %s\n", names[s->trust],
		s->generation, *s->primary ? s->primary : "-");
	if (*s->boot)
		n += snprintf(text + n, sizeof text - (size_t)n, "boot %s\n", s->boot);
	n += snprintf(text + n, sizeof text - (size_t)n, "check %016" PRIx64 "\n",
		(uint64_t)XXH3_64bits(text, (size_t)n));
	int r = write_whole(path, text, (size_t)n);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_FAILED,
			"cannot write %s, which says how far this host's copy of the VM's disks "
			"can be trusted: %s; make the directory writable and free some space",
			path, strerror(-r));
	return 0;
}
