/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/peer.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <xxhash.h>

int peer_post(
	struct session *s, const struct wire_header *h, const void *payload, struct mc_error *err)
{
	return session_fails(s, END_LINK, transport_post(s->link, h, payload, err));
}

int peer_flush(struct session *s, uint64_t deadline, struct mc_error *err)
{
	int r = transport_flush(s->link, deadline, err);
	return session_fails(s, r == -ETIMEDOUT ? END_ACK_OVERDUE : END_LINK, r);
}

int peer_recv(struct session *s, struct wire_header *ret, uint64_t deadline, struct mc_error *err)
{
	int r = transport_recv(s->link, ret, deadline, s->vm->wake, err);
	return r == -ETIMEDOUT || r == -EINTR ? r : session_fails(s, END_LINK, r);
}

int peer_payload(struct session *s, void *buf, uint64_t timeout_ns, struct mc_error *err)
{
	return session_fails(
		s, END_LINK, transport_recv_payload(s->link, buf, mc_now() + timeout_ns, err));
}

int peer_tell(struct session *s, uint16_t type, uint64_t epoch, struct mc_error *err)
{
	struct wire_header h = {
		.type = type,
		.generation = s->generation,
		.epoch = epoch,
		.digest = XXH3_64bits("", 0),
	};
	if (!s->link)
		return session_ends(s, END_LINK, err, -ENOTCONN, MC_ECLASS_UNREACHABLE,
			"the connection to %s is given up", s->peer);
	int r = peer_post(s, &h, NULL, err);
	return r < 0 ? r : peer_flush(s, mc_now() + MC_SEC, err);
}

int peer_unexpected(struct session *s, const struct wire_header *h, struct mc_error *err)
{
	if (h->type == WIRE_ERROR && h->length <= WIRE_CONTROL_MAX) {
		_cleanup_free_ uint8_t *buf = malloc(h->length + 1);
		struct mc_error theirs = MC_ERROR_INIT;
		int r = buf ? peer_payload(s, buf, MC_SEC, err)
			    : mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
		if (r == 0)
			r = wire_get_error(buf, h->length, &theirs, err);
		if (r == 0)
			r = mc_error_set(
				err, -EREMOTEIO, theirs.cls, "%s: %s", s->peer, theirs.msg);
		return session_fails(s, END_LINK, r);
	}
	return session_ends(s, END_LINK, err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"%s sent message type %u (%" PRIu64 " bytes) where it does not belong", s->peer,
		h->type, h->length);
}

void peer_their_word(struct session *s, uint64_t timeout_ns, struct mc_error *err)
{
	uint64_t deadline = mc_now() + timeout_ns;
	struct mc_error theirs = MC_ERROR_INIT;
	struct wire_header h;
	while (s->link && transport_recv(s->link, &h, deadline, -1, NULL) == 0) {
		if (h.type == WIRE_ERROR && peer_unexpected(s, &h, &theirs) == -EREMOTEIO)
			*err = theirs;
		if (h.type == WIRE_ERROR || h.length)
			return;
	}
}
