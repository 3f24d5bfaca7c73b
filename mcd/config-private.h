/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The key tables, for the dump; only config*.c include this. */
#pragma once
#include "mcd/config-keys.h"

enum {
	CONFIG_MAIN_KEYS = 16,
	CONFIG_DEFAULTS_FIRST = 13,
	CONFIG_HOST_KEYS = 2,
	CONFIG_VM_KEYS = 5,
	CONFIG_NIC_KEYS = 2
};

extern const struct config_key config_main_keys[CONFIG_MAIN_KEYS];
extern const struct config_key config_host_keys[CONFIG_HOST_KEYS];
extern const struct config_key config_vm_keys[CONFIG_VM_KEYS];
extern const struct config_key config_nic_keys[CONFIG_NIC_KEYS];
