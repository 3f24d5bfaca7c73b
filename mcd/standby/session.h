/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One protection of a VM, on its standby.  Belongs to the VM's thread. */
#pragma once
#include "diskmirror/replica.h"
#include "failover/timing.h"
#include "mcd/guest/roms.h"
#include "mcd/vm/published.h"
#include "mcd/vm/takeover-file.h"
#include "mcd/vm/vm.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/transport.h"

#define STANDBY_SPARE 24 /* descriptors */

struct standby {
	struct vm *vm;
	char primary[LINK_NAME_MAX + 1];
	struct transport *link; /* NULL once it is down */
	uint64_t link_down_at, last_received;
	struct timing timing;
	struct wire_hello hello;
	uint64_t generation;             /* of the record that names us standby */
	uint8_t *replica[RAMBLOCKS_MAX]; /* our mappings of the memfds QEMU maps as guest RAM */
	uint64_t sizes[RAMBLOCKS_MAX];
	struct slab_pool *pool;
	struct replica *disks; /* NULL: the VM has none */
	struct roms roms;      /* for every QEMU that is to wait here */
	bool has_roms;         /* the one that waits was given them */

	/* slot one: the last committed epoch.  Its RAM is in the replica, once it is applied. */
	uint64_t committed, applied; /* 0 = none yet; applied <= committed */
	uint8_t *devices;
	size_t devices_len;
	enum wire_guest guest_state;
	uint64_t kept; /* the generation whose takeover_keep was done, 0 = none */
	struct takeover_room room;
	int spare[STANDBY_SPARE]; /* for a takeover: reserve.h */
	size_t n_spare;

	/* slot two: the epoch that is being received */
	uint64_t receiving;
	struct slab *staged, **staged_tail;
	uint8_t *staged_devices;
	size_t staged_devices_len;
	struct wire_epoch_digest digest;
	struct wire_commit counted;
	struct wire_verify_range *verify; /* to be compared when that epoch is applied, or NULL */
	size_t verify_n;

	bool won;        /* what is here is the only copy */
	bool wanted;     /* `mcctl takeover`: the operator wants it, failover = manual or not */
	bool discard;    /* the primary ended the protection in order */
	bool superseded; /* it offers another one before this was decided */
};

/* The record of this session, or a later one, is what we act under: the primary said PROTECTED. */
static inline bool standby_named(const struct standby *s)
{
	return s->vm->rec.generation >= s->generation;
}
