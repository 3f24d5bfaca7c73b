/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's disks, kept here for another host. */
#pragma once
#include "mcd/standby/session.h"

/* Waits for the primary's disk connection and opens the replica, if the VM has disks. */
int disks_receive(struct standby *s, struct mc_error *err);
/* VERIFY: the disk writes of the epoch that c ends are here, and as hard as the durability says. */
int disks_await(
	struct standby *s, uint64_t epoch, const struct wire_commit *c, struct mc_error *err);
