/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The typed key table behind config.c and vm-file.c: one row says where a key belongs, what it
 * may be, and where it goes. */
#pragma once
#include "mcd/config/file.h"
#include "mcd/config/config.h"

enum config_key_type {
	CONFIG_NAME,     /* char[]: [A-Za-z0-9._-]+ */
	CONFIG_USER,     /* char[]: a user's name, or uid:gid */
	CONFIG_PATH,     /* char[]: absolute */
	CONFIG_TEXT,     /* char *: anything, also on several lines */
	CONFIG_DURATION, /* uint64_t ns, min .. max */
	CONFIG_SIZE,     /* uint64_t bytes, min .. max */
	CONFIG_UINT,     /* unsigned, min .. max */
	CONFIG_PORT,     /* uint16_t, not 0 */
	CONFIG_ADDRESS,  /* char[]: numeric IPv4 or IPv6 */
	CONFIG_MAC,      /* uint8_t[6] */
	CONFIG_CHOICE,   /* an enum: which of choices */
	CONFIG_SWITCH,   /* bool: whether it is the first of choices */
	CONFIG_FIXED,    /* nothing is kept: one of choices */
};

struct config_key {
	const char *section; /* first word of the section */
	const char *name;
	enum config_key_type type;
	size_t offset, size; /* size: of a char[] */
	uint64_t min, max;
	const char *const *choices; /* NULL-terminated */
};

#define CONFIG_KEY(sect, key, kind, type, member, ...)                                             \
	{                                                                                          \
		sect, key, kind, offsetof(type, member), sizeof(((type *)0)->member), __VA_ARGS__  \
	}

/* Stores the item's value in base; its line in lines[row of the table - first]. */
int config_keys_apply(const struct config_key *table, size_t n, const struct conf_file *f,
	const struct conf_item *item, void *base, unsigned *lines, struct mc_error *err);

/* The row of section and key; NULL if there is none. */
const struct config_key *config_keys_find(
	const struct config_key *table, size_t n, const char *section, const char *key);

/* Refuses a section that is none of the names, with the nearest. */
int config_unknown_section(const struct conf_file *f, const struct conf_item *item,
	const char *const *names, size_t n, struct mc_error *err);

/* Splits "host NAME" into its first word and the rest ("" if none). */
const char *config_section_arg(const char *section, const char *word);

/* Host, VM and NIC names: they become file names, QEMU ids and words of commands. */
bool config_name_ok(const char *name, size_t max);
