/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by soft-dirty bits, for kernels before 6.7.
 *
 *   pagemap entry, 64 bits   55 soft-dirty, 62 swapped, 63 present
 *   "4" to clear_refs        clears the bit of every page of the process
 *
 * Reading and clearing are two steps, so a write between them would be lost: QEMU's threads are
 * stopped for both (trace_freeze).  When the guest is paused they are idle and this costs little.
 *
 * A page that loses its mapping (reclaim, khugepaged) loses the bit with it and is then
 * indistinguishable from one that was never mapped.  So every page is mapped before tracking
 * begins, by reading a byte of it through the kernel, and a page without mapping counts as written
 * (and is mapped again before the bits are cleared).  One that is written, loses its mapping and is
 * then read, all between two collects, would still escape: it is mapped, without the bit.  So what
 * takes mappings away is kept out: our own locked mapping of the memory makes it unevictable, and
 * with huge pages in shared memory (khugepaged) tracking is refused.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/guest/dirty/private.h"
#include "mcd/guest/dirty/trace.h"
#include "common/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define PM_SOFT_DIRTY (1ull << 55)
#define PM_SWAPPED    (1ull << 62)
#define PM_PRESENT    (1ull << 63)

#define CHUNK_PAGES    65536 /* 512 KiB of pagemap at a time */
#define TOUCH_BATCH    1024  /* UIO_MAXIOV */
#define FREEZE_TIMEOUT (2 * MC_SEC)

static int softdirty_probe(struct mc_error *err)
{
	size_t page = (size_t)getpagesize();
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint8_t *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;
	if (p != MAP_FAILED) {
		*(volatile uint8_t *)p = 1;
		off_t at = (off_t)((uintptr_t)p / page * sizeof entry);
		if (fd < 0 || pread(fd, &entry, sizeof entry, at) != sizeof entry)
			entry = 0;
		munmap(p, page);
	}
	/* A page just written in a new mapping has the bit, if there is such a bit. */
	if (!(entry & PM_SOFT_DIRTY))
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"the kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY); use a kernel "
			"of a distribution, or Linux 6.7 or later for pagemap-scan");
	return 0;
}

static int gone(const struct dirty *d, struct mc_error *err)
{
	return mc_error_set(err, -ESRCH, MC_ECLASS_QMP,
		"QEMU (process %d) ended while its dirty pages were read", (int)d->pid);
}

/* Makes QEMU map the pages. Best effort: a page that stays unmapped is reported each time. */
static void touch(const struct dirty *d, uint64_t addr, uint64_t len)
{
	static const uint64_t step = 4096; /* a smaller step than the page is harmless */
	struct iovec remote[TOUCH_BATCH];
	uint8_t sink[TOUCH_BATCH];
	for (uint64_t at = addr; at < addr + len;) {
		size_t n = 0;
		for (; n < TOUCH_BATCH && at < addr + len; n++, at += step)
			remote[n] = (struct iovec){(void *)(uintptr_t)at, 1};
		struct iovec local = {sink, n};
		process_vm_readv(d->pid, &local, 1, remote, n, 0);
	}
}

static int refuse_huge_pages(struct mc_error *err)
{
	char mode[128] = "";
	_cleanup_fclose_ FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	if (f && fgets(mode, sizeof mode, f) && !strstr(mode, "[never]") && !strstr(mode, "[deny]"))
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
			"soft-dirty tracking is not reliable with huge pages in shared memory; "
			"write \"never\" to /sys/kernel/mm/transparent_hugepage/shmem_enabled, or "
			"use Linux 6.7 or later");
	return 0;
}

static int lock_failed(const struct dirty *d, const char *what, struct mc_error *err)
{
	return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
		"the memory of QEMU (process %d) cannot be locked, which soft-dirty tracking needs "
		"(%s: %s); run mcd as root, or with CAP_IPC_LOCK, CAP_SYS_PTRACE and "
		"CAP_CHECKPOINT_RESTORE",
		(int)d->pid, what, strerror(errno));
}

/* Maps and locks one line of /proc/PID/maps here. */
static int lock_mapping(
	struct dirty *d, uint64_t start, uint64_t end, uint64_t off, struct mc_error *err)
{
	char path[96];
	snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)d->pid, start,
		end);
	struct dirty_lock *v = realloc(d->lock, (d->n_lock + 1) * sizeof *v);
	if (!v)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to track dirty pages");
	d->lock = v;
	_cleanup_close_ int fd = -1;
	int r = memory_open(path, O_RDONLY, NULL, &fd, err);
	if (r < 0)
		return r;
	size_t len = (size_t)(end - start);
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)off);
	if (p == MAP_FAILED)
		return lock_failed(d, "mmap", err);
	d->lock[d->n_lock++] = (struct dirty_lock){p, len};
	return mlock(p, len) ? lock_failed(d, "mlock", err) : 0;
}

static int lock_memory(struct dirty *d, struct mc_error *err)
{
	char path[64], line[4352];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)d->pid);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f)
		return gone(d, err);
	while (fgets(line, sizeof line, f)) {
		uint64_t start, end, off;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &off) != 3)
			continue;
		bool ours = false;
		for (size_t i = 0; i < d->n; i++)
			ours = ours || (start < d->region[i].addr + d->region[i].len &&
					       end > d->region[i].addr);
		int r = ours ? lock_mapping(d, start, end, off, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int softdirty_arm(struct dirty *d, struct mc_error *err)
{
	int r = refuse_huge_pages(err);
	if (!r)
		r = lock_memory(d, err);
	if (r < 0)
		return r;
	d->chunk = malloc(CHUNK_PAGES * sizeof *d->chunk);
	if (!d->chunk)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to read page tables");
	for (size_t i = 0; i < d->n; i++)
		touch(d, d->region[i].addr, d->region[i].len);
	return 0;
}

/* Adds the written pages of one region to the list, and maps those that are not mapped. */
static int read_region(
	struct dirty *d, uint32_t index, struct dirty_list *list, struct mc_error *err)
{
	const struct dirty_region *g = &d->region[index];
	uint64_t page = (uint64_t)getpagesize(), pages = g->len / page;
	for (uint64_t first = 0; first < pages; first += CHUNK_PAGES) {
		size_t n = pages - first < CHUNK_PAGES ? (size_t)(pages - first) : CHUNK_PAGES;
		off_t at = (off_t)((g->addr / page + first) * sizeof *d->chunk);
		if (pread(d->pagemap_fd, d->chunk, n * sizeof *d->chunk, at) !=
			(ssize_t)(n * sizeof *d->chunk))
			return gone(d, err);
		for (size_t i = 0; i < n; i++) {
			uint64_t e = d->chunk[i];
			bool mapped = e & (PM_PRESENT | PM_SWAPPED);
			if (mapped && !(e & PM_SOFT_DIRTY) && !d->fresh)
				continue;
			if (!mapped)
				touch(d, g->addr + (first + i) * page, page);
			int r = dirty_list_add(list, index, (first + i) * page, page, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int clear_bits(const struct dirty *d, struct mc_error *err)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)d->pid);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "4", 1) == 1)
		return 0;
	if (errno == ENOENT || errno == ESRCH)
		return gone(d, err);
	return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
		"%s cannot be written (%s); run mcd as root", path, strerror(errno));
}

struct job {
	struct dirty *d;
	struct dirty_list *list;
};

static int collect_frozen(void *arg, struct mc_error *err)
{
	struct job *job = arg;
	struct trace_frozen frozen;
	int r = trace_freeze(job->d->pid, mc_now() + FREEZE_TIMEOUT, &frozen, err);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < job->d->n; i++)
		r = read_region(job->d, (uint32_t)i, job->list, err);
	if (!r)
		r = clear_bits(job->d, err);
	/* After the clearing, and still on the address space that was read: a reused process number
	 * or an exec shows here. */
	if (!r)
		r = dirty_check_alive(job->d, err);
	trace_thaw(&frozen);
	return r;
}

static int softdirty_collect(struct dirty *d, struct dirty_list *list, struct mc_error *err)
{
	assert(d->chunk);
	struct job job = {d, list};
	int r = trace_run(collect_frozen, &job, err);
	if (!r)
		d->fresh = false;
	return r;
}

static int softdirty_peek(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err)
{
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL,
		"soft-dirty bits cannot be counted cheaply; Linux 6.7 or later can (pagemap-scan)");
}

/* The bits are just bits: nothing of ours is in the process. */
static void softdirty_disarm(struct dirty *d)
{
	for (size_t i = 0; i < d->n_lock; i++)
		munmap(d->lock[i].at, d->lock[i].len);
	free(d->lock);
	free(d->chunk);
}

const struct dirty_ops dirty_softdirty_ops = {
	.name = "soft-dirty",
	.probe = softdirty_probe,
	.arm = softdirty_arm,
	.collect = softdirty_collect,
	.peek = softdirty_peek,
	.disarm = softdirty_disarm,
};
