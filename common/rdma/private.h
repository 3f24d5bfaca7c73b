/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection inside.  cm.c makes it, conn.c looks after it; stream.c and its kin use its
 * queue pair for a byte stream.  Without a stream it belongs to one thread; with one, to whoever
 * holds the stream's lock.
 */
#pragma once
#include "common/rdma/format.h"
#include "common/rdma/rdma.h"

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

/* Of a stream.  A batch is up to RD_WRITES RDMA WRITEs and the SEND that announces them. */
#define RD_SLOTS  64u
#define RD_WRITES 8u
#define RD_BOUNCE (RD_STREAM_FIXED - 2 * RD_SLOTS * RD_SLOT_SIZE)

/* What a work request was, in its wr_id; the rest of it is a number. */
enum { RD_WR_PUT = 1, RD_WR_WRITE, RD_WR_SEND, RD_WR_RECV };
#define RD_WR(kind, n) ((uint64_t)(kind) << 32 | (uint32_t)(n))

struct rd_conn {
	struct rdma_event_channel *events;
	struct rdma_cm_id *id;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	bool armed; /* the next completion makes channel readable */
	int socket; /* the companion, -1 while connecting */

	/* fixed: of a stream its receive slots, send slots and bounce buffer */
	uint8_t *region, *fixed;
	size_t region_size, fixed_size;
	struct ibv_mr *region_mr, *fixed_mr;
	bool stream;
	uint8_t token[RD_TOKEN_SIZE];
	struct rd_hello peer;
	unsigned puts, put_next; /* under way, and where the next one is copied to */
	struct mc_error broken;  /* code 0: it works */
};

/* cm.c; addresses are numeric.  A connection under construction is closed by rd_close too. */

/* Bound to a local address, memory registered; nothing sent yet. */
int rd_cm_new(const struct sockaddr *local, const struct rd_wants *w, struct rd_conn **ret,
	struct mc_error *err);
/* Listens, and says on which port. */
int rd_cm_listen(struct rd_conn *c, uint16_t *ret_port, struct mc_error *err);
/* The socket beside it, to be looked at meanwhile: a negative errno, with err filled, gives up. */
struct rd_cm_watch {
	int fd;
	int (*readable)(void *ctx, struct mc_error *err);
	void *ctx;
};
/* Lets in whoever has the token, refuses all others. */
int rd_cm_accept(struct rd_conn *c, const struct rd_cm_watch *watch, uint64_t deadline,
	struct mc_error *err);
int rd_cm_connect(struct rd_conn *c, const struct sockaddr *peer, const struct rd_cm_watch *watch,
	uint64_t deadline, struct mc_error *err);

/* conn.c */
/* One completion into *ret (status looked at, puts accounted): 1 = there was one, 0 = none, or the
 * connection is broken. */
int rd_conn_complete(struct rd_conn *c, struct ibv_wc *ret);
/* Looks at what poll(2) found readable: the channel, events, the socket. */
void rd_conn_channel(struct rd_conn *c);
void rd_conn_events(struct rd_conn *c);
void rd_conn_socket(struct rd_conn *c);
/* The next completion will be heard; collect what came before it. */
void rd_conn_arm(struct rd_conn *c);
/* Breaks it, unless it is broken already; returns the code of what broke it. */
int rd_conn_lose(struct rd_conn *c, int code, const char *cls, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The device forgets everything that is posted: nothing points to memory of ours any more. */
void rd_conn_stop(struct rd_conn *c);
int rd_conn_post_recv(struct rd_conn *c, uint32_t slot);

/* probe.c */
int rd_address(const char *text, uint16_t port, struct sockaddr_storage *ret, struct mc_error *err);
