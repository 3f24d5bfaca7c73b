/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a disk of a running VM for comparing it: a raw one from its file, any other format
 * through QEMU, which alone knows where its blocks are. */
#pragma once
#include "mcd/vm/vm.h"

struct verify_disk;
int verify_disk_open(struct vm *vm, size_t disk, struct verify_disk **ret, struct mc_error *err);
void verify_disk_close(struct verify_disk *d);
uint64_t verify_disk_size(const struct verify_disk *d);
int verify_disk_digest(
	struct verify_disk *d, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err);
