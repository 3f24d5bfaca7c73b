/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a connection with librdmacm.  Every step has a timer of its own: a request to a peer that
 * died is answered by nothing for minutes, and an event channel does not know of time.
 *
 * Receives are posted before the other side can know of the queue pair, so that nothing that it
 * sends ever finds none.
 */
#include "common/rdma/private.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A packet is sent again after 4.096 us x 2^16 = 0.27 s, and given up after the 7th: 1.9 s.  Never
 * 7 retries: for some devices that means for ever, and a dead peer is not reported at all.  Not
 * much less time either: a host under load must not look dead, keep-alives are what finds the dead.
 */
#define ACK_TIMEOUT 16
#define RETRIES     6

static int cm_error(struct mc_error *err, const char *doing)
{
	int code = errno ? errno : EIO;
	return mc_error_set(
		err, -code, MC_ECLASS_UNREACHABLE, "RDMA: %s: %s", doing, strerror(code));
}

static void *pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_DONTFORK); /* a child must not make the device write to a copy */
	return p;
}

static int register_memory(struct rd_conn *c, struct mc_error *err)
{
	c->region = pages(c->region_size);
	if (c->region)
		c->region_mr = ibv_reg_mr(c->pd, c->region, c->region_size,
			IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
	if (c->region_mr) {
		c->fixed = pages(c->fixed_size);
		if (c->fixed)
			c->fixed_mr =
				ibv_reg_mr(c->pd, c->fixed, c->fixed_size, IBV_ACCESS_LOCAL_WRITE);
	}
	if (c->fixed_mr)
		return 0;
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
		"RDMA: %zu KiB of memory cannot be registered with the device: %s; free memory, or "
		"raise LimitMEMLOCK= of mcd (ulimit -l)",
		(c->region_size + c->fixed_size) >> 10, strerror(errno));
}

int rd_cm_new(const struct sockaddr *local, const struct rd_wants *w, struct rd_conn **ret,
	struct mc_error *err)
{
	struct rd_conn *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for a connection");
	c->socket = -1;
	c->stream = w->stream;
	c->region_size = w->region;
	c->fixed_size = w->stream ? RD_STREAM_FIXED : RD_PUTS_MAX * RD_PUT_MAX;
	int r = 0;
	c->events = rdma_create_event_channel();
	if (!c->events || fcntl(c->events->fd, F_SETFL, O_NONBLOCK) < 0 ||
		rdma_create_id(c->events, &c->id, c, RDMA_PS_TCP) < 0)
		r = cm_error(err, "no connection manager ('modprobe rdma_ucm')");
	else if (rdma_bind_addr(c->id, (struct sockaddr *)local) < 0 || !c->id->verbs)
		r = cm_error(err, "no device for this host's address");
	else if (!(c->pd = ibv_alloc_pd(c->id->verbs)))
		r = cm_error(err, "the device has no protection domain left");
	else
		r = register_memory(c, err);
	if (r < 0) {
		rd_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

static int create_qp(struct rd_conn *c, struct mc_error *err)
{
	unsigned sends = c->stream ? RD_SLOTS * (RD_WRITES + 1) : RD_PUTS_MAX;
	unsigned receives = c->stream ? RD_SLOTS : 1;
	c->channel = ibv_create_comp_channel(c->id->verbs);
	if (!c->channel || fcntl(c->channel->fd, F_SETFL, O_NONBLOCK) < 0)
		return cm_error(err, "no completion channel");
	c->cq = ibv_create_cq(c->id->verbs, (int)(sends + receives), c, c->channel, 0);
	if (!c->cq)
		return cm_error(err, "no completion queue");
	struct ibv_qp_init_attr attr = {
		.send_cq = c->cq,
		.recv_cq = c->cq,
		.qp_type = IBV_QPT_RC,
		.cap = {.max_send_wr = sends,
			.max_recv_wr = receives,
			.max_send_sge = 1,
			.max_recv_sge = 1},
	};
	if (rdma_create_qp(c->id, c->pd, &attr) < 0)
		return cm_error(err, "no queue pair");
	uint8_t timeout = ACK_TIMEOUT;
	if (rdma_set_option(c->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
		    sizeof timeout) < 0)
		log_debug("RDMA: the device keeps its own time-out: %s", strerror(errno));
	for (uint32_t i = 0; c->stream && i < RD_SLOTS; i++)
		if (rd_conn_post_recv(c, i) < 0)
			return cm_error(err, "a receive cannot be posted");
	return 0;
}

static void hello(
	struct rd_conn *c, uint16_t caps, uint8_t buf[RD_HELLO_SIZE], struct rdma_conn_param *param)
{
	struct rd_hello h = {
		.caps = caps,
		.slots = c->stream ? RD_SLOTS : 0,
		.rkey = c->region_mr->rkey,
		.addr = (uintptr_t)c->region,
		.size = c->region_size,
	};
	memcpy(h.token, c->token, sizeof h.token);
	rd_put_hello(buf, &h);
	*param = (struct rdma_conn_param){
		.private_data = buf,
		.private_data_len = RD_HELLO_SIZE,
		.retry_count = RETRIES,
		/* Credits keep every SEND from finding no receive: if one does, it is our bug. */
		.rnr_retry_count = 0,
	};
}

/* The next event, which must be acknowledged. */
static int next_event(struct rd_conn *c, const struct rd_cm_watch *watch, uint64_t deadline,
	const char *doing, struct rdma_cm_event **ret, struct mc_error *err)
{
	for (;;) {
		struct pollfd p[2] = {
			{.fd = c->events->fd, .events = POLLIN},
			{.fd = watch->fd, .events = POLLIN},
		};
		if (rdma_get_cm_event(c->events, ret) == 0)
			return 0;
		if (errno != EAGAIN)
			return cm_error(err, doing);
		int left = mc_ms_left(deadline);
		if (!left)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"RDMA: no answer while %s; do packets of RDMA (RoCE: UDP port "
				"4791) pass between the hosts?",
				doing);
		if (poll(p, 2, left) > 0 && p[1].revents) {
			int r = watch->readable(watch->ctx, err);
			if (r < 0)
				return r;
		}
	}
}

static int refused(const struct rdma_cm_event *ev, struct mc_error *err)
{
	char reason[RD_REASON_SIZE] = "";
	if (ev->event == RDMA_CM_EVENT_REJECTED)
		rd_get_reject(ev->param.conn.private_data, ev->param.conn.private_data_len, reason);
	if (reason[0])
		return mc_error_set(err, -ECONNREFUSED, MC_ECLASS_UNREACHABLE,
			"the peer refused the RDMA connection: %s", reason);
	return mc_error_set(err, -ECONNREFUSED, MC_ECLASS_UNREACHABLE,
		"the RDMA connection was not made: %s, status %d", rdma_event_str(ev->event),
		ev->status);
}

/* Waits for one kind of event, any other is the end. */
static int await(struct rd_conn *c, enum rdma_cm_event_type want, const struct rd_cm_watch *watch,
	uint64_t deadline, const char *doing, struct mc_error *err)
{
	struct rdma_cm_event *ev;
	int r = next_event(c, watch, deadline, doing, &ev, err);
	if (r < 0)
		return r;
	if (ev->event != want)
		r = refused(ev, err);
	rdma_ack_cm_event(ev);
	return r;
}

int rd_cm_listen(struct rd_conn *c, uint16_t *ret_port, struct mc_error *err)
{
	if (rdma_listen(c->id, 4) < 0)
		return cm_error(err, "cannot listen");
	*ret_port = ntohs(rdma_get_src_port(c->id));
	return 0;
}

/* Whether the request may come in; if not, both sides are told why. */
static int check_request(struct rd_conn *c, struct rdma_cm_event *ev)
{
	struct mc_error why = MC_ERROR_INIT;
	struct rd_hello h;
	int r = rd_get_hello(
		ev->param.conn.private_data, ev->param.conn.private_data_len, &h, &why);
	if (r == 0 && memcmp(h.token, c->token, RD_TOKEN_SIZE))
		r = mc_error_set(&why, -EACCES, MC_ECLASS_PROTOCOL,
			"it does not have the token of the connection that is expected here");
	if (r == 0 && !(h.caps & RD_CAP_STREAM) == c->stream)
		r = mc_error_set(&why, -EPROTO, MC_ECLASS_VERSION,
			"one side wants a stream, the other does not");
	if (r == 0) {
		c->peer = h;
		return 0;
	}
	uint8_t buf[RD_REJECT_SIZE];
	rd_put_reject(buf, why.msg);
	rdma_reject(ev->id, buf, sizeof buf);
	log_warn("an RDMA connection was refused: %s", why.msg);
	return r;
}

static int accept_one(
	struct rd_conn *c, const struct rd_cm_watch *watch, uint64_t deadline, struct mc_error *err)
{
	uint8_t buf[RD_HELLO_SIZE];
	struct rdma_conn_param param;
	int r = create_qp(c, err);
	if (r < 0)
		return r;
	hello(c, c->peer.caps, buf, &param);
	if (rdma_accept(c->id, &param) < 0)
		return cm_error(err, "cannot accept");
	return await(c, RDMA_CM_EVENT_ESTABLISHED, watch, deadline, "accepting a connection", err);
}

int rd_cm_accept(
	struct rd_conn *c, const struct rd_cm_watch *watch, uint64_t deadline, struct mc_error *err)
{
	struct rdma_cm_event *ev;
	for (;;) {
		int r = next_event(c, watch, deadline, "waiting for the connection", &ev, err);
		if (r < 0)
			return r;
		struct rdma_cm_id *id = ev->id;
		bool request = ev->event == RDMA_CM_EVENT_CONNECT_REQUEST;
		r = request ? check_request(c, ev) : -EPROTO;
		rdma_ack_cm_event(ev); /* before its id may be destroyed */
		if (r == 0) {
			rdma_destroy_id(c->id); /* nobody else is let in */
			c->id = id;
			return accept_one(c, watch, deadline, err);
		}
		if (request && id != c->id)
			rdma_destroy_id(id);
	}
}

int rd_cm_connect(struct rd_conn *c, const struct sockaddr *peer, const struct rd_cm_watch *watch,
	uint64_t deadline, struct mc_error *err)
{
	uint8_t buf[RD_HELLO_SIZE];
	struct rdma_conn_param param;
	struct rdma_cm_event *ev;
	if (rdma_resolve_addr(c->id, NULL, (struct sockaddr *)peer, mc_ms_left(deadline)) < 0)
		return cm_error(err, "the peer's address cannot be resolved");
	int r = await(c, RDMA_CM_EVENT_ADDR_RESOLVED, watch, deadline,
		"resolving the peer's address", err);
	if (r == 0 && rdma_resolve_route(c->id, mc_ms_left(deadline)) < 0)
		r = cm_error(err, "there is no route to the peer");
	if (r == 0)
		r = await(c, RDMA_CM_EVENT_ROUTE_RESOLVED, watch, deadline, "resolving the route",
			err);
	if (r == 0)
		r = create_qp(c, err);
	if (r < 0)
		return r;
	hello(c, c->stream ? RD_CAP_STREAM : 0, buf, &param);
	if (rdma_connect(c->id, &param) < 0)
		return cm_error(err, "cannot connect");
	r = next_event(c, watch, deadline, "connecting", &ev, err);
	if (r < 0)
		return r;
	if (ev->event != RDMA_CM_EVENT_ESTABLISHED)
		r = refused(ev, err);
	else
		r = rd_get_hello(ev->param.conn.private_data, ev->param.conn.private_data_len,
			&c->peer, err);
	rdma_ack_cm_event(ev);
	if (r == 0 && (memcmp(c->peer.token, c->token, RD_TOKEN_SIZE) ||
			      !(c->peer.caps & RD_CAP_STREAM) == c->stream))
		r = mc_error_set(err, -EPROTO, MC_ECLASS_PROTOCOL,
			"somebody else than was expected accepted the RDMA connection");
	return r;
}
