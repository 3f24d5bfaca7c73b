/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process with tracked memory that does as it is told: the stand-in for QEMU in test-dirty and
 * bench-dirty.  It maps memfds of ours, so that what it wrote can be compared from outside.
 */
#pragma once
#include "mcd/guest/dirty/dirty.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DIRTYCHILD_REGIONS 2

enum dirtychild_op {
	DC_WRITE,     /* one byte into each page listed by dirtychild_pages(seed, n) */
	DC_READ_INTO, /* the same by read(2) from a pipe: the kernel does the writing */
	DC_TOUCH,     /* reads every page */
	DC_UNMAP,    /* drops the mappings of all pages (MADV_DONTNEED): the memfd keeps the data */
	DC_COLLAPSE, /* asks for huge mappings (MADV_COLLAPSE); result 0 or errno */
	DC_RACE,     /* begins to write everywhere in threads */
	DC_RACE_STOP, /* ends that */
};

struct dirtychild {
	pid_t pid;
	int cmd, ack;
	struct dirty_region region[DIRTYCHILD_REGIONS];
	int fd[DIRTYCHILD_REGIONS];
	uint8_t *map[DIRTYCHILD_REGIONS]; /* ours */
	_Atomic uint64_t *writes;         /* how many it made in DC_RACE */
};

/* uid 0 keeps ours. Returns 0 or -errno. */
int dirtychild_start(struct dirtychild *c, uint64_t len0, uint64_t len1, unsigned int uid);
/* Returns the operation's result; waits until it is done. */
int dirtychild_do(struct dirtychild *c, enum dirtychild_op op, uint64_t seed, uint64_t n);
void dirtychild_stop(struct dirtychild *c);

/* Marks in bit[] (one byte a page, the regions one after the other) n pseudo-random pages. */
void dirtychild_pages(const struct dirtychild *c, uint64_t seed, uint64_t n, uint8_t *bit);
