/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/memory.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* --- files --- */

int memory_make(const char *name, uint64_t size, int *ret, struct mc_error *err)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY, "cannot make memory for %s: %s",
			name, strerror(errno));
	if (size > INT64_MAX || ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
			"cannot make %" PRIu64 " bytes of memory for %s: %s", size, name,
			strerror(errno));
	*ret = mc_steal_fd(&fd);
	return 0;
}

/* All memory files lie on one file system, which the kernel keeps for itself: nobody can mount
 * another in its place, and its files neither block nor have effects when they are opened. */
static int memory_device(dev_t *ret)
{
	struct stat st;
	_cleanup_close_ int fd = memfd_create("mcd-device", MFD_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	*ret = st.st_dev;
	return 0;
}

/* Of a descriptor that may be of anything.  DONT_SYNC: a file system of QEMU's user's own (FUSE) is
 * not asked, for it might never answer. */
static int identify(int fd, struct memory_id *ret)
{
	struct statx sx;
	dev_t memory = 0;
	int r = memory_device(&memory);
	if (r < 0)
		return r;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &sx) < 0)
		return -errno;
	dev_t dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
	if (dev != memory || !S_ISREG(sx.stx_mode))
		return -ENOTSUP;
	*ret = (struct memory_id){dev, sx.stx_ino};
	return 0;
}

int memory_is_file(int fd)
{
	struct memory_id id;
	return identify(fd, &id);
}

int memory_identify(const char *path, struct memory_id *ret)
{
	/* O_PATH opens no file: neither a device nor a FIFO notices. */
	_cleanup_close_ int at = open(path, O_PATH | O_CLOEXEC);
	return at < 0 ? -errno : identify(at, ret);
}

int memory_open(
	const char *path, int flags, const struct memory_id *want, int *ret, struct mc_error *err)
{
	struct memory_id id;
	char again[64];
	_cleanup_close_ int at = open(path, O_PATH | O_CLOEXEC);
	int r = at < 0 ? -errno : identify(at, &id);
	if (r == 0 && want && (id.dev != want->dev || id.ino != want->ino))
		r = -ENOTSUP;
	if (r == -ENOTSUP)
		return mc_error_set(err, r, MC_ECLASS_GUEST,
			"%s is not the memory that QEMU maps; let mcd supply the memory", path);
	/* The same file, whatever the name means by now. */
	snprintf(again, sizeof again, "/proc/self/fd/%d", at);
	int fd = r < 0 ? -1 : open(again, flags | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return mc_error_set(err, r < 0 ? r : -errno, MC_ECLASS_PERMISSION,
			"%s cannot be opened (%s); run mcd as root or with CAP_SYS_ADMIN and "
			"CAP_SYS_PTRACE",
			path, strerror(r < 0 ? -r : errno));
	*ret = fd;
	return 0;
}

/* --- pages that are not there --- */

/* Where the thread goes when it meets one; NULL: it is not in memory_try, and to die is right. */
static _Thread_local sigjmp_buf *way_out;

static void on_bus_error(int sig, siginfo_t *si, void *context)
{
	if (way_out)
		siglongjmp(*way_out, 1);
	/* As if we were not there: the instruction is run again, and ends the process. */
	signal(SIGBUS, SIG_DFL);
	if (si->si_code <= 0) /* somebody's kill(2) */
		raise(sig);
}

static void install(void)
{
	/* NODEFER: we leave by a jump, which would leave the signal blocked. */
	struct sigaction sa = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigaction(SIGBUS, &sa, NULL);
}

int memory_try(void (*fn)(void *arg), void *arg)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sigjmp_buf here;
	pthread_once(&once, install);
	int r = 0;
	if (sigsetjmp(here, 0) == 0) {
		way_out = &here;
		fn(arg);
	} else {
		r = -EFAULT;
	}
	way_out = NULL;
	return r;
}

int memory_lost(const char *whose, struct mc_error *err)
{
	return mc_error_set(err, -EFAULT, MC_ECLASS_QMP,
		"the memory of %s cannot be read or written: its QEMU made it smaller, this host "
		"has no memory left for it, or lost a page by a hardware error (see the kernel's "
		"log)",
		whose);
}
