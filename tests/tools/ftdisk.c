/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftdisk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 64

/* "N PAYLOAD CHAIN\n", numbers in order. */
static bool read_all(FILE *f, struct ftlog *log, off_t *ret_good)
{
	char line[LINE_MAX_BYTES];
	while (fgets(line, sizeof line, f) && strchr(line, '\n')) {
		uint64_t n, payload, chain;
		const struct ftlog_entry *e;
		if (sscanf(line, "%" SCNu64 " %" SCNx64 " %" SCNx64, &n, &payload, &chain) != 3 ||
			n != log->last + 1 || !(e = ftlog_append(log, payload)) ||
			e->chain != chain) {
			printf("ftdisk: line %" PRIu64 " is wrong: %s", log->last + 1, line);
			return false;
		}
		*ret_good = ftello(f);
	}
	return true;
}

bool ftdisk_open(struct ftdisk *d, const char *path, struct ftlog *log)
{
	off_t good = 0;
	d->len = 0;
	d->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->fd < 0) {
		printf("ftdisk: cannot open %s: %m\n", path);
		return false;
	}
	FILE *f = fopen(path, "re");
	bool right = f && read_all(f, log, &good);
	if (f)
		fclose(f);
	if (!right || ftruncate(d->fd, good) < 0 || lseek(d->fd, good, SEEK_SET) < 0 ||
		fsync(d->fd) < 0)
		return false;
	int dir = open("/log", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fsync(dir); /* its name too */
	close(dir);
	return true;
}

void ftdisk_add(struct ftdisk *d, const struct ftlog *log, uint64_t n)
{
	const struct ftlog_entry *e = ftlog_get(log, n);
	if (d->fd < 0)
		return;
	if (sizeof d->lines - d->len < LINE_MAX_BYTES)
		ftdisk_sync(d);
	d->len += (size_t)snprintf(d->lines + d->len, sizeof d->lines - d->len,
		"%" PRIu64 " %016" PRIx64 " %016" PRIx64 "\n", n, e->payload, e->chain);
}

bool ftdisk_sync(struct ftdisk *d)
{
	if (d->fd < 0 || !d->len)
		return true;
	bool good = write(d->fd, d->lines, d->len) == (ssize_t)d->len && fsync(d->fd) == 0;
	d->len = 0;
	return good;
}
