/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Talking to the standby over the stream.  What goes wrong with it ends the session (END_LINK). */
#pragma once
#include "mcd/primary/session.h"

/* Queues a message; the payload must stay until peer_flush has returned. */
int peer_post(
	struct session *s, const struct wire_header *h, const void *payload, struct mc_error *err);
/* Until all is with the kernel.  At the deadline the peer takes nothing any more:
 * END_ACK_OVERDUE. */
int peer_flush(struct session *s, uint64_t deadline, struct mc_error *err);
/* The next header.  -ETIMEDOUT, and -EINTR when the bell rings, end nothing. */
int peer_recv(struct session *s, struct wire_header *ret, uint64_t deadline, struct mc_error *err);
int peer_payload(struct session *s, void *buf, uint64_t timeout_ns, struct mc_error *err);

/* A message without a payload, sent at once. */
int peer_tell(struct session *s, uint16_t type, uint64_t epoch, struct mc_error *err);
/* A message that does not belong here: the peer's WIRE_ERROR turned into ours, or a protocol
 * error. */
int peer_unexpected(struct session *s, const struct wire_header *h, struct mc_error *err);
/* The disks' connection ended, as err says; if the standby says why on the other one, that is what
 * err says instead. */
void peer_their_word(struct session *s, uint64_t timeout_ns, struct mc_error *err);
