/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/timing.h"

#include "common/clock.h"

void vm_timing(const struct config *cfg, uint64_t delay, struct timing *ret)
{
	struct timing_inputs in = {
		.keepalive_interval = cfg->keepalive_interval,
		.keepalive_misses = cfg->keepalive_misses,
		.delay = delay,
		.round_trip = MC_MSEC,
	};
	timing_derive(&in, ret);
}
