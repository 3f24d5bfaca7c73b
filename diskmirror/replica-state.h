/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far this host's copy of a VM's disks can be trusted, across crashes: one small text file per
 * VM, replaced as a whole and fsynced.
 */
#pragma once
#include "common/error.h"
#include <stdint.h>

enum replica_trust {
	REPLICA_NONE,    /* never was a replica: the configured images are the VM's disks */
	REPLICA_SYNCING, /* being overwritten by a synchronisation: of no use */
	REPLICA_WHOLE,   /* a standby's: consistent, as of some committed epoch of `generation` */
	REPLICA_ACTIVE,  /* the VM ran on it here: newer than the configured images */
};

struct replica_state {
	enum replica_trust trust;
	uint64_t generation;
	char primary[64];
	char boot[40]; /* not empty: WHOLE only until this host starts anew (durability `none`) */
};

/* A missing file is REPLICA_NONE.  WHOLE with the boot id of another boot is returned as SYNCING,
 * with `boot` still set.  -EBADMSG: damaged; name it and say what to do. */
int replica_state_load(const char *path, struct replica_state *ret, struct mc_error *err);
int replica_state_save(const char *path, const struct replica_state *s, struct mc_error *err);
/* The running kernel's boot id, for replica_state.boot. */
int replica_state_boot(char ret[40], struct mc_error *err);
