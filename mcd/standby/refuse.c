/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/refuse.h"

#include "common/clock.h"
#include "common/rdma/rdma.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/session.h"

void standby_refuse_tcp(int fd, const struct mc_error *why)
{
	struct standby s = {0};
	struct wire_header h;
	if (transport_tcp_new(fd, &s.link, NULL) < 0)
		return;
	/* The HELLO is read first: closing over unread data would reset the connection and lose our
	 * answer. */
	if (transport_recv(s.link, &h, mc_now() + MC_SEC, -1, NULL) == 0 &&
		h.length <= WIRE_CONTROL_MAX) {
		uint8_t buf[WIRE_CONTROL_MAX];
		transport_recv_payload(s.link, buf, mc_now() + MC_SEC, NULL);
	}
	standby_send_error(&s, why);
	transport_close(s.link);
}

void standby_refuse(int fd, const struct link_peer *peer, const struct mc_error *why)
{
	rd_refuse(fd, peer, why, mc_now() + MC_SEC);
	standby_refuse_tcp(fd, why);
}
