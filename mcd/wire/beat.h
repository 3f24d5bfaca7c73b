/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A beat as TCP carries it.  Pure; the layout is at the head of the .c. */
#pragma once
#include "common/clock.h"
#include "common/error.h"
#include <stdint.h>

#define BEAT_SIZE         40
#define BEAT_INTERVAL_MIN MC_MSEC
#define BEAT_INTERVAL_MAX (60 * MC_SEC)

struct beat {
	uint64_t seq;      /* counts intervals: a beat that could not be sent leaves a gap */
	uint64_t time;     /* of the sender's CLOCK_MONOTONIC, ns */
	uint64_t interval; /* of the sender, ns */
};

void beat_encode(uint8_t buf[BEAT_SIZE], const struct beat *b);
/* prev: the connection's last beat, seq 0 before the first.  -EBADMSG, -EPROTONOSUPPORT: what no
 * mcd of this version sends. */
int beat_decode(const uint8_t buf[BEAT_SIZE], const struct beat *prev, struct beat *ret,
	struct mc_error *err);
