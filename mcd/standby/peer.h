/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Talking to the primary over the stream. */
#pragma once
#include "common/clock.h"
#include "mcd/standby/session.h"

/* Of one message.  Keep-alives end a wait sooner; this bounds one on a live host. */
#define PAYLOAD_WAIT (30 * MC_SEC)

/* A payload; gives up (-ECONNRESET) when the primary is suspected meanwhile. */
int standby_payload(struct standby *s, void *buf, uint64_t deadline, struct mc_error *err);
/* An answer without a payload.  digest: of the epoch, for an ACK; the others carry none. */
int standby_answer(
	struct standby *s, uint16_t type, uint64_t epoch, uint64_t digest, struct mc_error *err);
/* Tells the primary why it ends, if that can still be told. */
void standby_send_error(struct standby *s, const struct mc_error *why);
