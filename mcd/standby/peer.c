/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/peer.h"

#include "common/clock.h"

#include <errno.h>
#include <xxhash.h>

int standby_answer(
	struct standby *s, uint16_t type, uint64_t epoch, uint64_t digest, struct mc_error *err)
{
	struct wire_header h = {
		.type = type, .generation = s->generation, .epoch = epoch, .digest = digest};
	int r = transport_post(s->link, &h, NULL, err);
	return r < 0 ? r : transport_flush(s->link, mc_now() + s->timing.ack_overdue, err);
}

int standby_payload(struct standby *s, void *buf, uint64_t deadline, struct mc_error *err)
{
	for (;;) {
		uint64_t slice = mc_now() + s->timing.suspect_after / 4;
		int r = transport_recv_payload(
			s->link, buf, slice < deadline ? slice : deadline, err);
		if (r != -ETIMEDOUT) {
			s->last_received = mc_now();
			return r;
		}
		if (mc_now() >= deadline) /* not -ETIMEDOUT: the stream is of no use any more */
			return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
				"%s began a message and does not end it, though its host lives",
				s->primary);
		if (env_suspected(s->vm->env, s->primary))
			return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
				"%s fell silent in the middle of a message", s->primary);
	}
}

void standby_send_error(struct standby *s, const struct mc_error *why)
{
	uint8_t buf[2048];
	if (!s->link)
		return;
	size_t len = wire_put_error(buf, sizeof buf, why);
	struct wire_header h = {
		.type = WIRE_ERROR,
		.generation = s->generation,
		.length = len,
		.digest = XXH3_64bits(buf, len),
	};
	if (transport_post(s->link, &h, buf, NULL) == 0)
		transport_flush(s->link, mc_now() + MC_SEC, NULL);
}
