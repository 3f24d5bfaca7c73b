/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pure parts of ramblocks.c, apart so that recorded texts can test them. Guest-internal. */
#pragma once
#include "mcd/guest/ramblocks.h"
#include <stdbool.h>
#include <sys/stat.h>

#define RAMBLOCK_LINES_MAX 512 /* of "info ramblock": a VM of 60 cards has 200 */

/* One line of HMP "info ramblock". */
struct ramblock_line {
	char id[RAMBLOCK_ID_MAX + 1];
	uint64_t used, total;
	uint64_t hva;   /* 0: this QEMU does not tell */
	bool read_only; /* false: writable, or this QEMU does not tell */
};
/* ret is malloc'd. -EPROTO for a text that is none of the known layouts, or too long. */
int ramblocks_parse(
	const char *text, struct ramblock_line **ret, size_t *ret_n, struct mc_error *err);

/* A block that the guest cannot write, and that every QEMU of this command line makes alike. */
bool ramblocks_is_rom(const struct ramblock_line *l);

/* Says why a block that is no shared backend cannot be protected: always -ENOTSUP. */
int ramblocks_refuse(const char *id, bool is_backend, struct mc_error *err);

/* A file mapped shared and writable as a whole: one or several adjacent lines of /proc/PID/maps. */
struct ram_mapping {
	uint64_t addr, len;
	unsigned long dev_major, dev_minor;
	uint64_t ino;
	uint64_t first_end; /* end of the first line: names its entry in /proc/PID/map_files */
};
/* Every shared, writable, file-backed mapping that begins at the file's start. ret is malloc'd. */
int ramblocks_parse_maps(
	const char *text, struct ram_mapping **ret, size_t *ret_n, struct mc_error *err);

/* What is known of a backend when its mapping is looked for. */
struct ram_wanted {
	const char *id;
	uint64_t size;
	uint64_t hva; /* 0 = unknown */
	bool by_file; /* dev and ino are known */
	dev_t dev;
	uint64_t ino;
	size_t same_size; /* backends of this size whose file is not known, this one included */
};
/* Finds the one mapping; refuses (class GuestUnsuitable) when there is none or more than one. */
int ramblocks_choose(const struct ram_wanted *w, const struct ram_mapping *maps, size_t n_maps,
	const struct ram_mapping **ret, struct mc_error *err);
