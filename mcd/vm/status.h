/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is shown of a VM as a whole.  From any thread. */
#pragma once
#include "failover/cluster.h"

#include <jansson.h>

struct vm;

json_t *vm_status_json(struct vm *vm);                       /* `mcctl status` */
void vm_announcement(struct vm *vm, struct cluster_vm *ret); /* what the other hosts are told */
