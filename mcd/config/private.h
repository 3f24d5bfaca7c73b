/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The key tables, for the dump; only config*.c include this. */
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

extern const struct config_key config_main_keys[CONFIG_MAIN_KEYS];
extern const struct config_key config_host_keys[CONFIG_HOST_KEYS];
extern const struct config_key config_vm_keys[CONFIG_VM_KEYS];
extern const struct config_key config_nic_keys[CONFIG_NIC_KEYS];
extern const struct config_key config_disk_keys[CONFIG_DISK_KEYS];

/* config-disk.c: a new [disk ID], and the defaults of all of them at the end. */
int config_add_disk(struct config_vm *vm, const struct conf_file *f, const struct conf_item *it,
	const char *id, struct mc_error *err);
int config_check_disks(struct config_vm *vm, const struct conf_file *f, struct mc_error *err);

