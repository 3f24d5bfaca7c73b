/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every time-out of the product, derived from what the administrator configures. All in ns. */
#pragma once
#include <stdint.h>

struct timing_inputs {
	uint64_t keepalive_interval; /* default 50 ms */
	unsigned keepalive_misses;   /* default 5 */
	uint64_t delay;              /* epoch interval */
	uint64_t round_trip;         /* measured or assumed network round trip */
};

struct timing {
	uint64_t suspect_after; /* silence after which a peer is suspected: interval x misses */
	uint64_t heard_fresh;   /* a voter's "I heard it" younger than this means alive */
	uint64_t ack_overdue;   /* an epoch unacknowledged for so long, link up: standby counts as
				   lost */
	uint64_t head_start;    /* standby's patience with a primary that others hear */
	uint64_t vote_retry;    /* a standby's pause between two looks at the facts */
	/* a primary that lives has long decided whether its standby is named */
	uint64_t unnamed_wait;
	uint64_t command;        /* a QMP command on a healthy QEMU */
	uint64_t ask_heard;      /* wait for the other voters' "I heard it" (voter_ask_heard) */
	uint64_t worst_takeover; /* bound printed by mcctl check: power-off to running */
};

void timing_derive(const struct timing_inputs *in, struct timing *ret);
