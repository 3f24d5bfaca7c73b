/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A transport within one process, for unit tests of whoever uses one. */
#pragma once
#include "mcd/wire/transport.h"
#include <stdint.h>

/* Two connected ends in one process, for unit tests; they may be used by two threads.  The plan
 * (NULL: none) counts the messages that end a posts, from 1; 0 = never.  The connection ends after
 * message cut_after was delivered; a bit of message corrupt_at is flipped; of message truncate_at
 * only a part arrives, and then the connection ends.  delay_ns: of every message, both ways. */
struct transport_fake_plan {
	uint64_t cut_after, corrupt_at, truncate_at, delay_ns;
};
int transport_fake_pair(const struct transport_fake_plan *plan, struct transport **ret_a,
	struct transport **ret_b, struct mc_error *err);
