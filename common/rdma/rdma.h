/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RDMA connections between two mcds.
 *
 * Each begins as an ordinary authenticated connection (common/link.h).  Over it the two agree on
 * RDMA, or on staying with TCP (agree.c, format.c); then one reliable connected queue pair is made
 * by librdmacm.  The socket stays open beside it, silent: its end tells of a dead process sooner
 * than the queue pair does.
 *
 * What such a connection can do: the peer's memory region is written by rd_put (keep-alives), or
 * both regions become the rings of a byte stream (stream.h).  Nothing here polls busily.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rd_conn;

enum rd_mode { RD_AUTO, RD_TCP, RD_RDMA }; /* transport = auto | tcp | rdma */

/* --- what this host has ---------------------------------------------------------------------- */

struct rd_device {
	char name[64]; /* such as rxe0, mlx5_0 */
	unsigned port;
	unsigned mtu; /* bytes of payload in a packet */
};

/* The RDMA device that has this numeric address.  -ENODEV and others with the cure: nothing is
 * changed, no module loaded. */
int rd_probe(const char *local, struct rd_device *ret, struct mc_error *err);

/* Whether this process may register so many bytes more: -ENOMEM with the number and the cure. */
int rd_memlock_check(uint64_t bytes, struct mc_error *err);

/* --- making a connection
 * ----------------------------------------------------------------------- */

#define RD_STREAM_FIXED (1u << 20) /* bytes that a stream registers for itself besides its region */
#define RD_REGION_MIN   4096u
#define RD_REGION_MAX   (64u << 20)
#define RD_AGREE_TIME   (10ull * 1000 * 1000 * 1000) /* ns; what an agreement takes at most */

struct rd_wants {
	bool stream; /* a byte stream goes over it (stream.h), else only rd_put */
	/* bytes of ours that the peer may write, whole pages, RD_REGION_MIN..MAX */
	size_t region;
	uint64_t pinned; /* bytes that the caller will register besides, for the memlock check */
};

/* What came of it.  rdma NULL: the TCP connection fd is to be used, and why says why in auto mode
 * ("" in RD_TCP).  Otherwise fd is -1: it belongs to rdma. */
struct rd_link {
	int fd;
	struct rd_conn *rdma;
	char why[300];
};

/* link_connect, and then the agreement on RDMA unless mode is RD_TCP.  With RD_AUTO it stays with
 * TCP if either side has no RDMA for it, or does not know what RDMA is.  With RD_RDMA that is the
 * error. */
int rd_dial(enum rd_mode mode, const struct rd_wants *wants, const struct link_self *self,
	const struct link_target *to, uint64_t deadline, struct rd_link *ret, struct mc_error *err);

/* The acceptor's half, after link_accept filled `peer`.  fd is taken over on success only; after a
 * failure it is good for one thing: saying why, in the protocol that the peer expects over TCP. */
int rd_welcome(enum rd_mode mode, const struct rd_wants *wants, int fd,
	const struct link_peer *peer, uint64_t deadline, struct rd_link *ret, struct mc_error *err);

/* For an acceptor that does not want the connection at all: refuses the offer that the peer may
 * make, so that what follows on fd is the TCP protocol, in which the reason can be said. */
void rd_refuse(int fd, const struct link_peer *peer, const struct mc_error *why, uint64_t deadline);

void rd_link_close(struct rd_link *l); /* whichever it is */

/* --- a connection
 * ------------------------------------------------------------------------------ */

/* Disconnects; the socket too.  NULL is fine. */
void rd_close(struct rd_conn *c);

/* Our region; zeroed at the beginning, written by the peer at any time. */
volatile uint8_t *rd_region(struct rd_conn *c, size_t *ret_size);

/* Writes len bytes (at most RD_PUT_MAX) to offset off of the peer's region, as one RDMA WRITE,
 * without waiting: -EAGAIN while RD_PUTS_MAX earlier ones are under way.  Else as rd_check. */
#define RD_PUT_MAX  64u
#define RD_PUTS_MAX 4u
int rd_put(struct rd_conn *c, uint64_t off, const void *data, size_t len, struct mc_error *err);

/* Collects what completed, without waiting.  0, or why the connection is over: -ENODATA the peer
 * closed it, -ECONNRESET its process or queue pair ended, -EHOSTUNREACH it did not acknowledge
 * (after about 2 s), -EPROTO.  The same answer for ever after.  No answer at all to silence: watch
 * that yourself. */
int rd_check(struct rd_conn *c, struct mc_error *err);

/* Descriptors that become readable when rd_check should be called; returns how many (at most 3). */
#define RD_FDS 3
size_t rd_poll_fds(struct rd_conn *c, int ret_fds[RD_FDS]);
const char *rd_device_name(const struct rd_conn *c);
