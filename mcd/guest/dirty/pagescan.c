/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by PAGEMAP_SCAN (Linux 6.7 and later).
 *
 * A userfaultfd made inside QEMU write-protects guest memory in asynchronous mode: the kernel
 * itself resolves the first write to a page, by dropping the page's uffd-wp bit.  PAGEMAP_SCAN
 * finds the pages without the bit and sets it again, atomically page by page.
 *
 * Which pages count as written.  A page table entry is one of
 *
 *   present, uffd-wp          not written since the last collect
 *   present, no uffd-wp       written (PAGE_IS_WRITTEN)
 *   uffd-wp marker            not mapped, and not written since (PAGE_IS_SWAPPED)
 *   none, or no page table    not mapped, history unknown
 *
 * The last arises when a written page loses its mapping before the collect: reclaim under memory
 * pressure, khugepaged, MADV_DONTNEED, a huge mapping that is split.  The page cache keeps the
 * data, the page table forgets that it was written.  Kernels disagree on whether PAGE_IS_WRITTEN
 * covers it (the first ones leave out what has no page table; later ones, and stable kernels with
 * the correction, do not), and where it does not, the standby's copy would be silently stale.  So
 * the kernel is tried out, in memory of our own.  If it fails, the query is "written, or not
 * present", markers are sorted out here, and what is left counts as written; this takes twice the
 * time.  As every scan puts markers into what it finds empty, nothing is reported twice.
 */
#include "common/cleanup.h"
#include "mcd/guest/dirty/private.h"
#include "mcd/guest/dirty/inject.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* Debian 12's headers are those of Linux 6.1 and have none of this. */
#ifndef PAGEMAP_SCAN
#define PAGE_IS_WRITTEN       (1ull << 1)
#define PAGE_IS_PRESENT       (1ull << 3)
#define PAGE_IS_SWAPPED       (1ull << 4)
#define PM_SCAN_WP_MATCHING   (1ull << 0)
#define PM_SCAN_CHECK_WPASYNC (1ull << 1)
struct page_region {
	uint64_t start, end, categories;
};
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

/* 96 KiB; a scan that finds more goes on in further calls. */
#define VEC_LEN 4096

#define FEATURES                                                                                   \
	(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM |                        \
		UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC)

/* USER_MODE_ONLY because a process without CAP_SYS_PTRACE may make no other kind unless
 * vm.unprivileged_userfaultfd is set.  It forbids to *handle* faults taken in kernel mode; in
 * asynchronous mode the kernel handles them without us, whatever the mode, so nothing is lost. */
#define UFFD_FLAGS (UFFD_USER_MODE_ONLY | O_CLOEXEC | O_NONBLOCK)

static int scan(int pagemap_fd, struct pm_scan_arg *arg)
{
	arg->size = sizeof *arg;
	int r;
	do
		r = ioctl(pagemap_fd, PAGEMAP_SCAN, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static int enable_features(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};
	return ioctl(uffd, UFFDIO_API, &api) ? -errno : 0;
}

static int pagescan_probe(struct mc_error *err)
{
#if !defined(__x86_64__)
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
		"pagemap-scan needs system call injection, implemented on x86-64 only");
#endif
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_KERNEL,
			"/proc/self/pagemap cannot be opened (%s): is /proc mounted, and is "
			"CONFIG_PROC_PAGE_MONITOR set?",
			strerror(errno));
	struct page_region vec;
	struct pm_scan_arg arg = {.vec = (uintptr_t)&vec,
		.vec_len = 1,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN};
	if (scan(fd, &arg) == -ENOTTY)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"the kernel has no PAGEMAP_SCAN; use Linux 6.7 or later");
	_cleanup_close_ int uffd = (int)syscall(SYS_userfaultfd, UFFD_FLAGS);
	if (uffd < 0 && (errno == EPERM || errno == EACCES))
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"userfaultfd is forbidden, by a seccomp filter or a security module; allow "
			"it for mcd and QEMU, or run mcd outside of the container");
	if (uffd < 0 || enable_features(uffd))
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"the kernel has no asynchronous userfaultfd write protection; use Linux "
			"6.7 or later with CONFIG_USERFAULTFD");
	return 0;
}

static int register_region(struct dirty *d, const struct dirty_region *g, struct mc_error *err)
{
	struct uffdio_register reg = {
		.range = {.start = g->addr, .len = g->len},
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	if (!ioctl(d->uffd, UFFDIO_REGISTER, &reg))
		return 0;
	if (errno == EBUSY)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"the memory of QEMU (process %d) is already tracked by another "
			"userfaultfd; stop the other mcd, or restart the VM",
			(int)d->pid);
	if (errno == ESRCH)
		return mc_error_set(
			err, -ESRCH, MC_ECLASS_QMP, "QEMU (process %d) has ended", (int)d->pid);
	return mc_error_set(err, -errno, MC_ECLASS_FAILED,
		"write-protecting the memory of QEMU (process %d) failed: %s", (int)d->pid,
		strerror(errno));
}

/* Whether PAGE_IS_WRITTEN covers what has no page table, and what lost its mapping. */
static bool written_is_enough(void)
{
	const size_t size = 2 << 20, page = (size_t)getpagesize();
	_cleanup_close_ int uffd = (int)syscall(SYS_userfaultfd, UFFD_FLAGS);
	_cleanup_close_ int memfd = memfd_create("mcd-probe", MFD_CLOEXEC);
	_cleanup_close_ int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (uffd < 0 || memfd < 0 || pagemap < 0 || enable_features(uffd) ||
		ftruncate(memfd, (off_t)size))
		return false;
	/* Twice the size, to have an aligned part that begins without page table. */
	uint8_t *p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	uint8_t *at = (uint8_t *)(((uintptr_t)p + size - 1) & ~(uintptr_t)(size - 1));
	bool enough =
		/* cppcheck-suppress leakReturnValNotUsed ; it is in the place of a part of p */
		mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0) == at;
	struct uffdio_register reg = {{(uintptr_t)at, size}, UFFDIO_REGISTER_MODE_WP, 0};
	enough = enough && !ioctl(uffd, UFFDIO_REGISTER, &reg);
	for (int round = 0; enough && round < 2; round++) {
		struct page_region vec = {0};
		struct pm_scan_arg arg = {.flags = PM_SCAN_WP_MATCHING,
			.vec = (uintptr_t)&vec,
			.vec_len = 1,
			.start = (uintptr_t)at,
			.end = (uintptr_t)at + size,
			.category_mask = PAGE_IS_WRITTEN,
			.return_mask = PAGE_IS_WRITTEN};
		size_t want = round ? page : size;
		enough = scan(pagemap, &arg) == 1 && vec.start == (uintptr_t)at &&
			 vec.end - vec.start == want;
		*(volatile uint8_t *)at = 1;
		madvise(at, page, MADV_DONTNEED);
	}
	munmap(p, 2 * size);
	return enough;
}

static int pagescan_arm(struct dirty *d, struct mc_error *err)
{
	d->vec = malloc(VEC_LEN * sizeof *d->vec);
	if (!d->vec)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to scan page tables");
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
	if (pidfd < 0)
		return mc_error_set(
			err, -ESRCH, MC_ECLASS_QMP, "QEMU (process %d) has ended", (int)d->pid);
	d->wide = !written_is_enough();
	int r = inject_userfaultfd(d->pid, pidfd, UFFD_FLAGS, err);
	if (r < 0)
		return r;
	d->uffd = r;
	r = enable_features(d->uffd);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_KERNEL,
			"userfaultfd refused asynchronous write protection: %s", strerror(-r));
	for (size_t i = 0; i < d->n; i++) {
		r = register_region(d, &d->region[i], err);
		if (r < 0)
			return r;
		d->registered = i + 1;
	}
	/* Nothing is write-protected yet, so the first collect finds everything written. */
	return 0;
}

static int scan_failed(const struct dirty *d, int r, struct mc_error *err)
{
	if (r == -ESRCH)
		return mc_error_set(err, r, MC_ECLASS_QMP,
			"QEMU (process %d) ended while its dirty pages were read", (int)d->pid);
	if (r == -EPERM)
		return mc_error_set(err, r, MC_ECLASS_QMP,
			"QEMU (process %d) replaced a mapping of guest memory, whose writes are no "
			"longer seen; protect the VM anew",
			(int)d->pid);
	return mc_error_set(err, r, MC_ECLASS_FAILED, "PAGEMAP_SCAN of process %d failed: %s",
		(int)d->pid, strerror(-r));
}

static int scan_region(struct dirty *d, uint32_t index, uint64_t flags, struct dirty_list *list,
	struct mc_error *err)
{
	const struct dirty_region *g = &d->region[index];
	uint64_t end = g->addr + g->len;
	for (uint64_t at = g->addr; at < end;) {
		struct pm_scan_arg arg = {
			.flags = flags | PM_SCAN_CHECK_WPASYNC,
			.start = at,
			.end = end,
			.vec = (uintptr_t)d->vec,
			.vec_len = VEC_LEN,
		};
		if (d->wide) {
			arg.category_inverted = PAGE_IS_PRESENT;
			arg.category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT;
			arg.return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
		} else { /* exactly this is the kernel's fast path */
			arg.category_mask = PAGE_IS_WRITTEN;
			arg.return_mask = PAGE_IS_WRITTEN;
		}
		int n = scan(d->pagemap_fd, &arg);
		if (n < 0)
			return scan_failed(d, n, err);
		for (int i = 0; i < n; i++) {
			const struct page_region *p = &d->vec[i];
			if (!(p->categories & PAGE_IS_WRITTEN) && (p->categories & PAGE_IS_SWAPPED))
				continue;
			int r = dirty_list_add(
				list, index, p->start - g->addr, p->end - p->start, err);
			if (r < 0)
				return r;
		}
		/* walk_end may be left over from an earlier stage of the same call; fewer regions
		 * than asked for means that the walk is complete. */
		if (n < VEC_LEN)
			break;
		at = d->vec[n - 1].end > arg.walk_end ? d->vec[n - 1].end : arg.walk_end;
	}
	return 0;
}

static int scan_all(struct dirty *d, uint64_t flags, struct dirty_list *list, struct mc_error *err)
{
	for (size_t i = 0; i < d->n; i++) {
		int r = scan_region(d, (uint32_t)i, flags, list, err);
		if (r < 0)
			return r;
	}
	return dirty_check_alive(d, err);
}

static int pagescan_collect(struct dirty *d, struct dirty_list *list, struct mc_error *err)
{
	assert(d->uffd >= 0 && d->registered == d->n); /* or writes would be missed */
	return scan_all(d, PM_SCAN_WP_MATCHING, list, err);
}

static int pagescan_peek(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err)
{
	d->peek.n = 0;
	d->peek.bytes = 0;
	int r = scan_all(d, 0, &d->peek, err);
	if (r < 0)
		return r;
	*ret_bytes = d->peek.bytes;
	return 0;
}

/* The order matters: unprotected first, so that no thread can newly stop on a protected page;
 * unregistered; then whoever waited is woken (in asynchronous mode nobody should); only then
 * closed.  Only for what we registered: the kernel does not check whose protection it is, and we
 * would tear down another tracker's.  Errors are those of a dead QEMU, and do not matter. */
static void pagescan_disarm(struct dirty *d)
{
	assert(d->registered <= d->n && (d->uffd >= 0 || !d->registered));
	for (size_t i = 0; i < d->registered; i++) {
		struct uffdio_range range = {.start = d->region[i].addr, .len = d->region[i].len};
		struct uffdio_writeprotect wp = {.range = range, .mode = 0};
		ioctl(d->uffd, UFFDIO_WRITEPROTECT, &wp);
		ioctl(d->uffd, UFFDIO_UNREGISTER, &range);
		ioctl(d->uffd, UFFDIO_WAKE, &range);
	}
	if (d->uffd >= 0)
		close(d->uffd);
	free(d->vec);
}

const struct dirty_ops dirty_pagescan_ops = {
	.name = "pagemap-scan",
	.probe = pagescan_probe,
	.arm = pagescan_arm,
	.collect = pagescan_collect,
	.peek = pagescan_peek,
	.disarm = pagescan_disarm,
};
