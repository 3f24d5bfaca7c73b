/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The key tables, for the dump; only this folder includes it. */
#pragma once
#include "mcd/config/keys.h"

enum {
	CONFIG_MAIN_KEYS = 17,
	CONFIG_DEFAULTS_FIRST = 14,
	CONFIG_HOST_KEYS = 3,
	CONFIG_VM_KEYS = 9,
	CONFIG_NIC_KEYS = 3,
	CONFIG_DISK_KEYS = 3
};

#define LINES(type, member) (sizeof(((type *)0)->member) / sizeof(unsigned))
_Static_assert(LINES(struct config, lines) >= CONFIG_MAIN_KEYS &&
		       CONFIG_MAIN_KEYS <= CONFIG_KEYS_MAX &&
		       LINES(struct config_host, lines) == CONFIG_HOST_KEYS &&
		       LINES(struct config_vm, lines) == CONFIG_VM_KEYS &&
		       LINES(struct config_nic, lines) == CONFIG_NIC_KEYS &&
		       LINES(struct config_disk, lines) == CONFIG_DISK_KEYS,
	"each key has its line");
_Static_assert(CONFIG_DEFAULTS_FIRST + LINES(struct config_vm, defaults_lines) == CONFIG_MAIN_KEYS,
	"[defaults] comes last");

extern const struct config_key config_main_keys[CONFIG_MAIN_KEYS];
extern const struct config_key config_host_keys[CONFIG_HOST_KEYS];
extern const struct config_key config_vm_keys[CONFIG_VM_KEYS];
extern const struct config_key config_nic_keys[CONFIG_NIC_KEYS];
extern const struct config_key config_disk_keys[CONFIG_DISK_KEYS];

/* disk.c: a new [disk ID], and the defaults of all of them at the end. */
int config_add_disk(struct config_vm *vm, const struct conf_file *f, const struct conf_item *it,
	const char *id, struct mc_error *err);
int config_check_disks(struct config_vm *vm, const struct conf_file *f, struct mc_error *err);
