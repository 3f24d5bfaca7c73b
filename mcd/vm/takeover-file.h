/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device state of a takeover under way, kept beside the waiting QEMU until it runs: an mcd that
 * dies in between is followed by one that can finish.  Layout at the head of takeover-file.c. */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include <stddef.h>
#include <stdint.h>

struct takeover_state {
	uint64_t generation; /* of the record {self, none} that entitles to it */
	uint64_t epoch;
	uint32_t guest_state;            /* enum wire_guest */
	char primary[LINK_NAME_MAX + 1]; /* whose copy it was: to be its standby once it is back */
	uint8_t *devices;                /* malloc'd when loaded */
	size_t len;
};

/* dir: the VM's run directory, in memory; written whole or not at all. */
int takeover_file_save(const char *dir, const struct takeover_state *t, struct mc_error *err);
/* -ENOENT, without a message: there is none. -EBADMSG: damaged, or of another version. */
int takeover_file_load(const char *dir, struct takeover_state *ret, struct mc_error *err);
void takeover_file_remove(const char *dir);
