/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two backends of dirty.h share. Guest-internal. */
#pragma once
#include "mcd/guest/dirty/dirty.h"

struct dirty {
	const struct dirty_ops *ops;
	pid_t pid;
	int pagemap_fd; /* /proc/PID/pagemap: bound to the address space, not to the number */
	size_t n;
	struct dirty_region *region;
	struct dirty_list peek; /* kept for its memory */
	/* pagescan */
	int uffd;
	size_t registered; /* regions, from the first on */
	struct page_region *vec;
	bool wide; /* PAGE_IS_WRITTEN alone is not enough: see pagescan.c. May be set at any time */
	/* softdirty */
	uint64_t *chunk;
	size_t n_lock;
	struct dirty_lock {
		void *at;
		size_t len;
	} * lock;   /* our mappings that keep the memory from being evicted */
	bool fresh; /* nothing has been collected yet: report everything */
};

struct dirty_ops {
	const char *name;
	int (*probe)(struct mc_error *err);
	int (*arm)(struct dirty *d, struct mc_error *err);
	int (*collect)(struct dirty *d, struct dirty_list *list, struct mc_error *err);
	int (*peek)(struct dirty *d, uint64_t *ret_bytes, struct mc_error *err);
	void (*disarm)(struct dirty *d); /* also after a failed arm */
};

extern const struct dirty_ops dirty_pagescan_ops, dirty_softdirty_ops;

/* Adds a range; ranges must come in order of region and start, and may overlap. */
int dirty_list_add(
	struct dirty_list *l, uint32_t region, uint64_t off, uint64_t len, struct mc_error *err);

/* Whether the address space was whole just now.  A scan of the page tables of a process that is
 * being torn down finds nothing and says "no page was written", which would commit a checkpoint
 * with pages missing: so every answer is checked by this, afterwards. */
int dirty_check_alive(const struct dirty *d, struct mc_error *err);
