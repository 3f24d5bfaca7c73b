/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

/* A takeover: what is gone on from, and how far it is. */
struct takeover {
	struct vm *vm;
	struct standby *s;   /* whose image it is; NULL: that of a former mcd */
	const char *primary; /* from whom */
	uint64_t epoch;
	const uint8_t *devices;
	size_t devices_len;
	enum wire_guest guest_state;
	struct roms *roms; /* for another QEMU in place of the one that waits */

	/* all zero at first */
	bool taken;    /* the disks are at the epoch */
	bool loaded;   /* QEMU has the state: it only has to run */
	bool told;     /* ... and was told to, and gave no answer */
	bool silent;   /* ... and nobody knows what it did, should it be dead */
	bool spoilt;   /* QEMU took half of the state, perhaps */
	unsigned slow; /* how often it was not through in time */
	unsigned tries;
};

/* After {self, none} was won.  Returns when the VM runs here, when the operator gave it up, when a
 * newer record says that it is another's, when it ran and its QEMU ended, or when mcd ends; not for
 * an error: the image here is the only one.  The VM's state says which it was. */
void takeover_run(struct takeover *t);
/* Between two attempts; false: there is to be no other. */
bool takeover_rest(struct vm *vm, uint64_t ns);
/* Has the memory of the QEMU that a former mcd left, so that it can be replaced. */
int takeover_bring(struct takeover *t, struct mc_error *err);
/* Puts the committed device state where a later mcd can finish the takeover by that generation. */
void takeover_keep(struct standby *s, uint64_t generation);
