/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One file of a replica: a raw image or a block device.  No locks are taken: QEMU, waiting to take
 * over, has the file open inactive, and takes its locks when it is activated.
 */
#include "diskmirror/replica-io.h"

#include "common/cleanup.h"
#include "diskmirror/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Not over a file that came into being meanwhile.  Where the file system cannot rename so (NFS, 9p)
 * a second name does the same. */
static int put_in_place(const char *tmp, const char *path)
{
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	if (link(tmp, path) < 0)
		return -errno;
	unlink(tmp);
	return 0;
}

/* Under another name first: a crash in between must not leave a file of the wrong size. */
static int create(const char *path, uint64_t size)
{
	_cleanup_free_ char *tmp = NULL;
	if (asprintf(&tmp, "%s.new", path) < 0)
		return -ENOMEM;
	/* not emptied: after a crash it may be a second name of a file that is in use */
	unlink(tmp);
	_cleanup_close_ int fd =
		open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int r = ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0 ? -errno : put_in_place(tmp, path);
	if (r < 0) {
		unlink(tmp);
		return r;
	}
	return seam_sync_dir(path);
}

static int measure(struct diskfile *f, const struct replica_disk *d, struct mc_error *err)
{
	struct stat st;
	if (fstat(f->fd, &st) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot look at %s: %s", d->path,
			strerror(errno));
	f->block = S_ISBLK(st.st_mode);
	if (!f->block && !S_ISREG(st.st_mode))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s, this host's copy of disk %s, is neither a file nor a block device",
			d->path, d->id);
	f->size = (uint64_t)st.st_size;
	if (f->block && ioctl(f->fd, BLKGETSIZE64, &f->size) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot tell the size of %s: %s",
			d->path, strerror(errno));
	f->dev = f->block ? 0 : (uint64_t)st.st_dev;
	f->ino = f->block ? (uint64_t)st.st_rdev : (uint64_t)st.st_ino;
	return 0;
}

int diskfile_open(
	struct diskfile *f, const struct replica_disk *d, uint64_t size, struct mc_error *err)
{
	f->id = d->id;
	f->path = d->path;
	f->fd = open(d->path, O_RDWR | O_CLOEXEC);
	if (f->fd < 0 && errno == ENOENT && size) {
		int r = create(d->path, size);
		if (r < 0)
			return mc_error_set(err, r, MC_ECLASS_CONFIG,
				"cannot create %s, this host's copy of disk %s, with %llu bytes: "
				"%s",
				d->path, d->id, (unsigned long long)size, strerror(-r));
		f->fd = open(d->path, O_RDWR | O_CLOEXEC);
	}
	if (f->fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"cannot open %s, this host's copy of disk %s: %s", d->path, d->id,
			strerror(errno));
	int r = measure(f, d, err);
	if (r == 0 && size && f->size != size)
		r = mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s, this host's copy of disk %s, has %llu bytes, but the disk has %llu; "
			"give it that size, or move the file away to have a new one made",
			d->path, d->id, (unsigned long long)f->size, (unsigned long long)size);
	atomic_store(&f->dirty, true); /* perhaps by somebody before us */
	if (r < 0)
		diskfile_close(f);
	return r;
}

void diskfile_close(struct diskfile *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

int diskfile_read(struct diskfile *f, void *buf, uint64_t off, uint64_t len, struct mc_error *err)
{
	int r = seam_pread(f->fd, buf, len, off);
	return r == 0 ? 0
		      : mc_error_set(err, r, MC_ECLASS_FAILED,
				"cannot read %s, this host's copy of disk %s: %s; look for errors "
				"of the device in the kernel's log",
				f->path, f->id, strerror(-r));
}

int diskfile_sync(struct diskfile *f, struct mc_error *err)
{
	/* Cleared before: what another thread writes meanwhile is for the next time. */
	if (!atomic_exchange(&f->dirty, false))
		return 0;
	int r = seam_fdatasync(f->fd);
	return r == 0 ? 0
		      : mc_error_set(err, r, MC_ECLASS_FAILED,
				"cannot make %s, this host's copy of disk %s, durable: %s; %s",
				f->path, f->id, strerror(-r),
				r == -ENOSPC ? "free some space there and protect the VM again"
					     : "look for errors of the device in the kernel's log");
}
