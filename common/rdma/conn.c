/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection that is made: what completes, what ends it, rd_put.
 *
 * What ends it: a work request that failed, the peer's disconnection, the end of the socket beside
 * it.  Not an event "unreachable" on a connection that works: it only says that a packet of the
 * connection manager got no answer, while the queue pair may come through a short cut of the link.
 */
#include "common/rdma/private.h"

#include "common/clock.h"
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int rd_conn_lose(struct rd_conn *c, int code, const char *cls, const char *fmt, ...)
{
	if (!c->broken.code) {
		va_list ap;
		va_start(ap, fmt);
		c->broken.code = code;
		c->broken.cls = cls;
		vsnprintf(c->broken.msg, sizeof c->broken.msg, fmt, ap);
		va_end(ap);
	}
	return c->broken.code;
}

static void lose_request(struct rd_conn *c, const struct ibv_wc *wc)
{
	switch (wc->status) {
	case IBV_WC_RETRY_EXC_ERR:
		rd_conn_lose(c, -EHOSTUNREACH, MC_ECLASS_UNREACHABLE,
			"the peer does not acknowledge RDMA packets any more; its host is gone, or "
			"the network between the hosts");
		break;
	case IBV_WC_WR_FLUSH_ERR:
	case IBV_WC_REM_OP_ERR:
		rd_conn_lose(c, -ECONNRESET, MC_ECLASS_UNREACHABLE,
			"the RDMA connection to the peer was reset; its mcd ended or its host "
			"restarted");
		break;
	case IBV_WC_RNR_RETRY_EXC_ERR:
		rd_conn_lose(c, -EPROTO, MC_ECLASS_PROTOCOL,
			"the peer had no room for an RDMA message that it had asked for; its mcd "
			"is broken");
		break;
	default:
		rd_conn_lose(c, -EPROTO, MC_ECLASS_PROTOCOL,
			"an RDMA work request failed: %s (vendor code %u); the connection is "
			"closed",
			ibv_wc_status_str(wc->status), wc->vendor_err);
	}
}

int rd_conn_complete(struct rd_conn *c, struct ibv_wc *ret)
{
	if (!c->id || !c->id->qp)
		return 0;
	for (;;) {
		int n = ibv_poll_cq(c->cq, 1, ret);
		if (n < 0)
			rd_conn_lose(
				c, -EIO, MC_ECLASS_FAILED, "the RDMA completion queue is broken");
		if (n <= 0)
			return 0;
		/* Of a failed request only wr_id and status say anything. */
		if (ret->wr_id >> 32 == RD_WR_PUT && c->puts)
			c->puts--;
		if (ret->status == IBV_WC_SUCCESS)
			return 1;
		/* Go on: what the peer said last may come behind our own failure. */
		lose_request(c, ret);
	}
}

void rd_conn_channel(struct rd_conn *c)
{
	struct ibv_cq *cq;
	void *ctx;
	while (ibv_get_cq_event(c->channel, &cq, &ctx) == 0) {
		c->armed = false;
		ibv_ack_cq_events(cq, 1);
	}
}

void rd_conn_arm(struct rd_conn *c)
{
	if (!c->armed && c->id && c->id->qp && ibv_req_notify_cq(c->cq, 0) == 0)
		c->armed = true;
}

void rd_conn_events(struct rd_conn *c)
{
	struct rdma_cm_event *ev;
	while (rdma_get_cm_event(c->events, &ev) == 0) {
		switch (ev->event) {
		case RDMA_CM_EVENT_DISCONNECTED:
			rd_conn_lose(c, -ENODATA, MC_ECLASS_UNREACHABLE,
				"the peer closed the RDMA connection; its own log says why");
			break;
		case RDMA_CM_EVENT_DEVICE_REMOVAL:
			rd_conn_lose(c, -ENODEV, MC_ECLASS_UNREACHABLE,
				"the RDMA device of this host was removed");
			break;
		default:
			log_debug("RDMA: %s, status %d", rdma_event_str(ev->event), ev->status);
		}
		rdma_ack_cm_event(ev);
	}
}

void rd_conn_socket(struct rd_conn *c)
{
	char byte;
	ssize_t n = c->socket >= 0 ? recv(c->socket, &byte, 1, MSG_DONTWAIT | MSG_PEEK) : -1;
	if (n == 0)
		rd_conn_lose(c, -ENODATA, MC_ECLASS_UNREACHABLE,
			"the peer closed the RDMA connection; its own log says why");
	else if (n > 0)
		rd_conn_lose(c, -EPROTO, MC_ECLASS_PROTOCOL,
			"the peer sent something on the silent socket of an RDMA connection");
	else if (c->socket >= 0 && errno != EAGAIN && errno != EINTR)
		rd_conn_lose(c, -ECONNRESET, MC_ECLASS_UNREACHABLE,
			"the RDMA connection to the peer was reset; its mcd ended or its host "
			"restarted");
}

void rd_conn_stop(struct rd_conn *c)
{
	if (!c->id || !c->id->qp)
		return;
	rdma_disconnect(c->id); /* the peer is told at once */
	rdma_destroy_qp(c->id);
}

int rd_conn_post_recv(struct rd_conn *c, uint32_t slot)
{
	struct ibv_sge sge = {
		.addr = (uintptr_t)c->fixed + slot * RD_SLOT_SIZE,
		.length = RD_SLOT_SIZE,
		.lkey = c->fixed_mr->lkey,
	};
	struct ibv_recv_wr wr = {.wr_id = RD_WR(RD_WR_RECV, slot), .sg_list = &sge, .num_sge = 1},
			   *bad;
	int r = ibv_post_recv(c->id->qp, &wr, &bad);
	if (r)
		return rd_conn_lose(c, -r, MC_ECLASS_FAILED, "an RDMA receive cannot be posted: %s",
			strerror(r));
	return 0;
}

/* --- without a stream ---------------------------------------------------------------------- */

static int state(struct rd_conn *c, struct mc_error *err)
{
	if (c->broken.code && err)
		*err = c->broken;
	return c->broken.code;
}

static void collect(struct rd_conn *c)
{
	struct ibv_wc wc;
	while (rd_conn_complete(c, &wc))
		;
}

int rd_check(struct rd_conn *c, struct mc_error *err)
{
	struct pollfd p[] = {
		{.fd = c->events->fd, .events = POLLIN},
		{.fd = c->socket, .events = POLLIN},
	};
	if (c->broken.code)
		return state(c, err);
	rd_conn_channel(c);
	collect(c);
	if (!c->armed) {
		rd_conn_arm(c);
		collect(c);
	}
	if (poll(p, 2, 0) > 0) {
		if (p[0].revents)
			rd_conn_events(c);
		if (p[1].revents)
			rd_conn_socket(c);
	}
	return state(c, err);
}

int rd_put(struct rd_conn *c, uint64_t off, const void *data, size_t len, struct mc_error *err)
{
	assert(!c->stream && len <= RD_PUT_MAX);
	if (!c->broken.code)
		collect(c);
	if (c->broken.code)
		return state(c, err);
	if (off > c->peer.size || len > c->peer.size - off)
		return mc_error_set(err, -ERANGE, MC_ECLASS_PROTOCOL,
			"the peer's region of %llu bytes has no room for this",
			(unsigned long long)c->peer.size);
	if (c->puts == RD_PUTS_MAX)
		return -EAGAIN;
	assert(c->puts < RD_PUTS_MAX && c->put_next < RD_PUTS_MAX);
	uint8_t *copy = c->fixed + c->put_next * RD_PUT_MAX;
	memcpy(copy, data, len);
	struct ibv_sge sge = {
		.addr = (uintptr_t)copy, .length = (uint32_t)len, .lkey = c->fixed_mr->lkey};
	struct ibv_send_wr wr = {
		.wr_id = RD_WR(RD_WR_PUT, c->put_next),
		.sg_list = &sge,
		.num_sge = 1,
		.opcode = IBV_WR_RDMA_WRITE,
		.send_flags = IBV_SEND_SIGNALED,
		.wr.rdma = {.remote_addr = c->peer.addr + off, .rkey = c->peer.rkey},
	};
	struct ibv_send_wr *bad;
	int r = ibv_post_send(c->id->qp, &wr, &bad);
	if (r) {
		rd_conn_lose(
			c, -r, MC_ECLASS_FAILED, "an RDMA WRITE cannot be posted: %s", strerror(r));
		return state(c, err);
	}
	c->puts++;
	c->put_next = (c->put_next + 1) % RD_PUTS_MAX;
	return 0;
}

volatile uint8_t *rd_region(struct rd_conn *c, size_t *ret_size)
{
	*ret_size = c->region_size;
	return c->region;
}

size_t rd_poll_fds(struct rd_conn *c, int ret_fds[RD_FDS])
{
	ret_fds[0] = c->events->fd;
	ret_fds[1] = c->socket;
	ret_fds[2] = c->channel->fd;
	return 3;
}

const char *rd_device_name(const struct rd_conn *c)
{
	return c->id && c->id->verbs ? ibv_get_device_name(c->id->verbs->device) : "";
}

/* Also of what cm.c gave up half made. */
void rd_close(struct rd_conn *c)
{
	if (!c)
		return;
	rd_conn_stop(c);
	if (c->cq)
		ibv_destroy_cq(c->cq);
	if (c->channel)
		ibv_destroy_comp_channel(c->channel);
	if (c->region_mr)
		ibv_dereg_mr(c->region_mr);
	if (c->fixed_mr)
		ibv_dereg_mr(c->fixed_mr);
	if (c->region)
		munmap(c->region, c->region_size);
	if (c->fixed)
		munmap(c->fixed, c->fixed_size);
	/* Before the id: with the last one of a device that was replaced, its context goes. */
	if (c->pd)
		ibv_dealloc_pd(c->pd);
	if (c->id)
		rdma_destroy_id(c->id);
	if (c->events)
		rdma_destroy_event_channel(c->events);
	if (c->socket >= 0)
		close(c->socket);
	free(c);
}
