/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by disks*.c only. */
#pragma once
#include "diskmirror/replica.h"
#include "mcd/vm/vm.h"

struct disks_paths {
	char state[400], journal[400];
};
int disks_paths(const struct vm *vm, struct disks_paths *ret,
	struct mc_error *err); /* makes the directory */
size_t disks_list(const struct config_vm *cfg, struct replica_disk *out);
enum disk_durability disks_durability(const struct vm *vm);
