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

/* Its place in the run directory, had before it is needed: a file system that is full keeps nobody
 * from saving it then. */
struct takeover_room {
	int fd; /* -1: none */
	size_t size;
};
/* For a device state of that length; nothing is done if there is room for it already. */
int takeover_file_reserve(
	const char *dir, size_t len, struct takeover_room *room, struct mc_error *err);
void takeover_room_close(struct takeover_room *room);

/* dir: the VM's run directory, in memory; written whole or not at all.  room (may be NULL): is used
 * up, if there is one and it is large enough. */
int takeover_file_save(const char *dir, const struct takeover_state *t, struct takeover_room *room,
	struct mc_error *err);
/* -ENOENT, without a message: there is none. -EBADMSG: damaged, or of another version. */
int takeover_file_load(const char *dir, struct takeover_state *ret, struct mc_error *err);
void takeover_file_remove(const char *dir); /* and its room */
