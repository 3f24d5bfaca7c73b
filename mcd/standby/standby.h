/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The standby's half of a protected VM. Everything belongs to the VM's thread. */
#pragma once
#include "diskmirror/replica.h"
#include "failover/timing.h"
#include "mcd/guest/roms.h"
#include "mcd/wire/slab.h"
#include "mcd/vm/vm.h"
#include "mcd/wire/transport.h"

struct standby {
	struct vm *vm;
	char primary[LINK_NAME_MAX + 1];
	struct transport *link; /* NULL once it is down */
	uint64_t link_down_at, last_received;
	struct timing timing;
	struct wire_hello hello;
	uint64_t generation;    /* of the record that names us standby */
	uint8_t *replica[RAMBLOCKS_MAX]; /* our mappings of the memfds QEMU maps as guest RAM */
	uint64_t sizes[RAMBLOCKS_MAX];
	struct replica *disks; /* NULL: the VM has none */
	struct roms roms; /* for every QEMU that is to wait here */

	/* slot one: the last committed epoch. Its RAM is in the replica. */
	uint64_t committed; /* 0 = none yet */
	uint8_t *devices;
	size_t devices_len;
	enum wire_guest guest_state;
	/* slot two: the epoch that is being received */
	uint64_t receiving;
	struct slab_pool *pool;
	struct slab *staged, **staged_tail;
	uint8_t *staged_devices;
	size_t staged_devices_len;
	struct wire_epoch_digest digest;
	struct wire_commit counted;
	struct wire_verify_range *verify; /* to be compared when that epoch is applied, or NULL */
	size_t verify_n;
	uint64_t kept;     /* the generation whose takeover_keep was done, 0 = none */
	bool has_roms;     /* the waiting QEMU was given them */
	bool operator;     /* `mcctl takeover`: the operator wants it, failover = manual or not */
	bool discard;      /* the primary ended the protection in order */
	bool superseded;   /* it offers another one before this was decided */
};

/* Serves a primary that offers to protect the VM on this host, until the protection ends: the VM runs
 * here then (took over), or this host's copy is gone.  Takes over fd. */
void standby_run(struct vm *vm, int fd, const struct link_peer *peer);

/* Tells the other side why not, and closes. */
void standby_refuse(int fd, const struct link_peer *peer, const struct mc_error *why);

/* (Re)starts the waiting QEMU. */
int standby_launch(struct standby *s, struct mc_error *err);

/* takeover.c: loads the device state into the waiting QEMU, with which the guest goes on from where it
 * was: running, or stopped for the same reason. */
int takeover_activate(struct vm *vm, const uint8_t *devices, size_t len, enum wire_guest state,
	uint64_t *ret_loaded, struct mc_error *err);

/* Puts the committed device state where a later mcd can finish the takeover by that generation. */
void takeover_keep(struct standby *s, uint64_t generation);
/* takeover.c: after {self, none} was won. 0: the VM runs here. */
int takeover_run(struct standby *s, struct mc_error *err);
