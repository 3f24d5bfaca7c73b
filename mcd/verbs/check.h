/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of `mcctl check`. */
#pragma once
#include "mcd/guest/cmdline/cmdline.h"
#include <jansson.h>

struct daemon;
struct vm;

/* How output would be held on this host. check-network.c */
void check_network(struct daemon *d, json_t *checks);
/* What a former mcd made and nobody runs any more: it lets nothing out, and starting its VM
 * removes it, but the VM may never be started here again. check-network.c */
void check_leftovers(struct daemon *d, json_t *checks);
/* check-add.c: one line of the answer; the hint says what to do, also about one that is ok. */
void check_add(json_t *checks, const char *name, bool ok, const char *detail, const char *hint);
/* What the VM's QEMU needs of this host: its user, KVM, the guest's clock (check-vm.c). */
void check_vm_host(struct vm *vm, const struct config_vm *cfg, const struct cmdline_plan *plan,
	json_t *checks);
