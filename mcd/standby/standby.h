/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "common/link.h"

struct vm;

/* Serves a primary that offers to protect the VM on this host, until the protection ends: the VM
 * runs here then (took over), or this host's copy is gone.  Takes over fd. */
void standby_run(struct vm *vm, int fd, const struct link_peer *peer);
