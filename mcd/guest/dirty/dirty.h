/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of a QEMU process were written since the last time we asked.
 *
 * Two real backends behind one interface: PAGEMAP_SCAN with an injected, asynchronous
 * write-protecting userfaultfd (Linux 6.7 and later), and soft-dirty bits (older kernels).
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct dirty;

/* A mapping of guest RAM in QEMU's address space. */
struct dirty_region {
	uint64_t addr; /* QEMU virtual address, page aligned */
	uint64_t len;  /* bytes, page aligned */
};

struct dirty_range {
	uint32_t region; /* index into the regions given to dirty_open */
	uint64_t off;    /* bytes from the region's start, page aligned */
	uint64_t len;    /* bytes, page aligned */
};

/* Grows as needed and is reused from epoch to epoch; ranges are sorted, merged, disjoint. */
struct dirty_list {
	struct dirty_range *v;
	size_t n, cap;
	uint64_t bytes; /* sum of v[].len */
};
void dirty_list_free(struct dirty_list *l);

enum dirty_backend { DIRTY_AUTO, DIRTY_PAGEMAP_SCAN, DIRTY_SOFT_DIRTY };

/* Whether this kernel and our privileges can track at all; fills the error with the reason and
 * the cure (class KernelUnsuitable or NoPermission).  ret_backend (may be NULL): which would be
 * used. */
int dirty_probe(enum dirty_backend want, enum dirty_backend *ret_backend, struct mc_error *err);

/* Starts tracking `pid`.  From its return on every write to the regions is seen by a later
 * dirty_collect; the first collect reports every page.  QEMU may run meanwhile (it is interrupted
 * for a fraction of a millisecond). */
int dirty_open(pid_t pid, const struct dirty_region *regions, size_t n, enum dirty_backend want,
	struct dirty **ret, struct mc_error *err);

/* Replaces `list` by what was written since the last collect, and re-arms.  Writes that race with
 * the call are in this answer or in the next one, never lost; for an exact cut the guest is
 * stopped. That holds for writes by the CPU.  A disk or network transfer that goes directly to
 * guest memory counts as a write when it is begun, and its data arrive later: with I/O in flight
 * (guest not stopped) a page may be copied without them.  So stop the guest (which drains its
 * I/O) for every collect whose pages are relied upon, also in the rounds of a first
 * synchronization. After a failure the answer is incomplete and some pages are re-armed already:
 * close, and begin anew with everything. */
int dirty_collect(struct dirty *d, struct dirty_list *list, struct mc_error *err);

/* How many bytes a collect would report now, without re-arming: cheap enough for every few
 * milliseconds with pagemap-scan; soft-dirty may return -ENOTSUP where it would be too dear. */
int dirty_peek(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err);

/* Stops tracking and leaves QEMU as it was; fine on a dead QEMU and on NULL. */
void dirty_close(struct dirty *d);
