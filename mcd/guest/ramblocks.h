/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The RAM blocks of a QEMU, and the rule "complete or refused": every block that the guest can
 * write is shared and replicated, or the VM is refused with the block's name and the option that
 * avoids it. */
#pragma once
#include "common/error.h"
#include "common/qmp.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RAMBLOCK_ID_MAX 255 /* as in QEMU */
#define RAMBLOCKS_MAX   16  /* replicated blocks of one VM */

struct ramblock {
	char id[RAMBLOCK_ID_MAX + 1]; /* the memory backend's id: equal on both hosts */
	uint64_t size;                /* bytes, page aligned */
	uint64_t qemu_addr;           /* where QEMU maps it */
	/* our own shared mapping of the same memory; not populated: holes stay holes */
	uint8_t *map;
	int fd; /* a descriptor of the memory */
};

struct ramblocks {
	size_t n;
	struct ramblock v[RAMBLOCKS_MAX];
};

/* Asks QEMU for its blocks (info ramblock, query-memdev), finds the shared ones in /proc/PID and
 * maps them.  Read-only ROM blocks are left out (but see roms.h); any other block that is not
 * shared memory is refused (class GuestUnsuitable). */
int ramblocks_open(struct qmp *q, pid_t pid, struct ramblocks *ret, struct mc_error *err);
void ramblocks_close(struct ramblocks *b);
