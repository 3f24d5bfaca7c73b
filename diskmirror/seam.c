/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskmirror/seam.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ONE_CALL (1ull << 30) /* read(2) and write(2) move less than 2 GiB at a time */

const struct disk_seam *_Atomic disk_seam;

int seam_fdatasync(int fd)
{
	const struct disk_seam *s = disk_seam;
	if (s && s->fdatasync)
		return s->fdatasync(fd);
	/* Never tried again: a failed fdatasync may have dropped the pages, and the next one would
	 * succeed without them. */
	return fdatasync(fd) < 0 ? -errno : 0;
}

int seam_before_write(int fd, uint64_t off, uint64_t len)
{
	const struct disk_seam *s = disk_seam;
	return s && s->before_write ? s->before_write(fd, off, len) : 0;
}

int seam_pwrite(int fd, const void *buf, uint64_t len, uint64_t off)
{
	int r = seam_before_write(fd, off, len);
	const char *p = buf;
	while (r == 0 && len) {
		ssize_t n = pwrite(fd, p, len < ONE_CALL ? len : ONE_CALL, (off_t)off);
		if (n < 0 && errno != EINTR)
			r = -errno;
		if (n == 0)
			r = -EIO;
		if (n > 0) {
			p += n;
			off += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	return r;
}

int seam_pread(int fd, void *buf, uint64_t len, uint64_t off)
{
	char *p = buf;
	while (len) {
		ssize_t n = pread(fd, p, len < ONE_CALL ? len : ONE_CALL, (off_t)off);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		if (n > 0) {
			p += n;
			off += (uint64_t)n;
			len -= (uint64_t)n;
		}
	}
	return 0;
}

int seam_sync_dir(const char *path)
{
	_cleanup_free_ char *dir = strdup(path);
	if (!dir)
		return -ENOMEM;
	char *slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	_cleanup_close_ int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}
