/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A beat as RDMA writes it into the peer's memory.  Pure; the layout is at the head of the .c. */
#pragma once
#include "common/error.h"
#include "mcd/wire/beat.h"
#include <stdint.h>

#define SLOT_SIZE 48

void slot_encode(uint8_t buf[SLOT_SIZE], const struct beat *b, uint64_t instance);
/* A copy of the memory, made at any time.  1: a beat newer than prev (seq 0: none yet); 0: nothing
 * new, or one that is just being written; -EBADMSG, -EPROTONOSUPPORT: what no mcd of this version
 * writes. */
int slot_decode(const uint8_t buf[SLOT_SIZE], uint64_t instance, const struct beat *prev,
	struct beat *ret, struct mc_error *err);
