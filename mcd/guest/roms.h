/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The firmware in a QEMU's memory.  QEMU copies it there at every reset, except under -incoming:
 * then it waits for it to come with the guest's RAM, and forgets its own copy.  A standby that was
 * not given it runs well after a takeover, until the guest is reset and finds nothing to boot from.
 */
#pragma once
#include "common/error.h"
#include "common/qmp.h"
#include "mcd/guest/ramblocks.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ROMS_MAX      4
#define ROM_BYTES_MAX (15u << 20) /* of one block */

struct rom { /* constant for the life of its QEMU: the guest cannot write it */
	char id[RAMBLOCK_ID_MAX + 1];
	uint64_t size;
	uint8_t *data;
};

struct roms {
	size_t n;
	struct rom v[ROMS_MAX];
};

/* Reads the firmware out of a QEMU. Class GuestUnsuitable if there is some that cannot be found. */
int roms_read(struct qmp *q, pid_t pid, struct roms *ret, struct mc_error *err);
/* Puts it into a waiting QEMU of the same command line, whose blocks must be the same. */
int roms_write(struct qmp *q, pid_t pid, const struct roms *r, struct mc_error *err);
/* One block more, or another content of one that is there; takes over data. */
int roms_add(struct roms *r, const char *id, uint8_t *data, uint64_t size, struct mc_error *err);
void roms_clear(struct roms *r);
