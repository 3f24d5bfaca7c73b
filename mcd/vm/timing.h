/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "failover/timing.h"
#include "mcd/config/config.h"

/* The time-outs for a VM with that delay (ns). */
void vm_timing(const struct config *cfg, uint64_t delay, struct timing *ret);
