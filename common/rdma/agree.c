/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From an authenticated TCP connection to an RDMA one, or to the certainty that it stays TCP.
 *
 * Whatever keeps RDMA from working, on either side and also in the middle of connecting, is said
 * over the TCP connection, which both can then go on with.  Only when that itself fails the
 * connection is lost.
 */
#include "common/rdma/private.h"

#include "common/clock.h"
#include "common/cleanup.h"
#include "common/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Less than the acceptor waits: its end learns why from us, not from its own timer.  More than
 * 4.3 s, after which the kernel repeats a request that was lost. */
#define CONNECT_TIME (RD_AGREE_TIME * 3 / 5)

static int say(int fd, const struct rd_agree *a, uint64_t deadline, struct mc_error *err)
{
	uint8_t buf[RD_AGREE_SIZE];
	rd_put_agree(buf, a);
	int r = link_write(fd, buf, sizeof buf, deadline);
	if (r == 0)
		return 0;
	return mc_error_set(err, r, MC_ECLASS_UNREACHABLE,
		"the connection broke while agreeing on RDMA: %s", strerror(-r));
}

static int say_no(int fd, enum rd_agree_type type, const struct mc_error *why, uint64_t deadline,
	struct mc_error *err)
{
	struct rd_agree a = {.type = type, .no = true};
	snprintf(a.reason, sizeof a.reason, "%.*s", RD_REASON_SIZE - 1, why->msg);
	return say(fd, &a, deadline, err);
}

static int hear(int fd, enum rd_agree_type type, struct rd_agree *ret, uint64_t deadline,
	struct mc_error *err)
{
	uint8_t buf[RD_AGREE_SIZE];
	int r = link_read(fd, buf, sizeof buf, deadline, -1);
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT,
			"the peer was silent while agreeing on RDMA; is it healthy?");
	if (r < 0)
		return mc_error_set(err, r == -ENODATA ? -ECONNRESET : r, MC_ECLASS_UNREACHABLE,
			"the connection broke while agreeing on RDMA: %s", strerror(-r));
	return rd_get_agree(buf, type, ret, err);
}

/* Not an errno of ours: what the peer said. */
static int their_no(const struct rd_agree *a, struct mc_error *err)
{
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_KERNEL, "the peer says: %s",
		a->reason[0] ? a->reason : "no RDMA");
}

static int local_address(int fd, struct sockaddr_storage *ret, struct mc_error *err)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof ss;
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"the own address of a connection is unknown: %s", strerror(errno));
	if (ss.ss_family == AF_INET)
		((struct sockaddr_in *)&ss)->sin_port = 0;
	else if (ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&ss)->sin6_port = 0;
	else
		return mc_error_set(err, -EAFNOSUPPORT, MC_ECLASS_FAILED,
			"RDMA needs a connection between two addresses");
	*ret = ss;
	return 0;
}

static void to_in6(const struct sockaddr_storage *ss, struct in6_addr *ret)
{
	if (ss->ss_family == AF_INET6) {
		*ret = ((const struct sockaddr_in6 *)ss)->sin6_addr;
		return;
	}
	memset(ret, 0, sizeof *ret);
	ret->s6_addr[10] = ret->s6_addr[11] = 0xff;
	memcpy(ret->s6_addr + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
}

static void from_in6(const struct in6_addr *a, uint16_t port, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof *ret);
	if (IN6_IS_ADDR_V4MAPPED(a)) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, a->s6_addr + 12, 4);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		in6->sin6_addr = *a;
	}
}

static int check_local(const char *local, const struct rd_wants *w, struct mc_error *err)
{
	struct rd_device dev;
	int r = rd_probe(local, &dev, err);
	return r < 0 ? r : rd_memlock_check(w->region + RD_STREAM_FIXED + w->pinned, err);
}

static int bind_here(int fd, const struct rd_wants *w, struct sockaddr_storage *ret_local,
	struct rd_conn **ret, struct mc_error *err)
{
	int r = local_address(fd, ret_local, err);
	return r < 0 ? r : rd_cm_new((struct sockaddr *)ret_local, w, ret, err);
}

/* --- dialer -------------------------------------------------------------------------------- */

/* Nothing is to be said while we connect: what makes the socket readable is its end. */
static int dialer_readable(void *ctx, struct mc_error *err)
{
	return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
		"the peer closed the connection while agreeing on RDMA; its own log says why");
}

/* Another version of this is a no like any other. */
static int hear_answer(
	int fd, struct rd_agree *ret, uint64_t deadline, struct mc_error *why, struct mc_error *err)
{
	struct mc_error e = MC_ERROR_INIT;
	int r = hear(fd, RD_ANSWER, ret, deadline, &e);
	if (r == 0 && ret->no) {
		their_no(ret, why);
	} else if (r == -EPROTONOSUPPORT) {
		*ret = (struct rd_agree){.type = RD_ANSWER, .no = true};
		*why = e;
		return 0;
	} else if (r < 0) {
		*err = e;
	}
	return r;
}

/* 0: *ret_conn is connected, or NULL and *why says why not; both go on with TCP then.  Otherwise
 * even the socket is of no use. */
static int offer(int fd, const struct rd_wants *w, struct rd_conn **ret_conn, struct mc_error *why,
	struct mc_error *err)
{
	uint64_t deadline = mc_now() + RD_AGREE_TIME;
	struct rd_conn *c = NULL;
	struct sockaddr_storage at;
	struct rd_agree theirs, mine = {.type = RD_OFFER, .caps = w->stream ? RD_CAP_STREAM : 0};
	if (bind_here(fd, w, &at, &c, why) < 0) {
		struct mc_error theirs_why = MC_ERROR_INIT; /* repeats ours */
		int r = say_no(fd, RD_OFFER, why, deadline, err);
		return r < 0 ? r : hear_answer(fd, &theirs, deadline, &theirs_why, err);
	}
	int r = say(fd, &mine, deadline, err);
	if (r == 0)
		r = hear_answer(fd, &theirs, deadline, why, err);
	if (r < 0 || theirs.no) {
		rd_close(c);
		return r;
	}
	memcpy(c->token, theirs.token, sizeof c->token);
	from_in6(&theirs.address, theirs.port, &at);
	struct rd_cm_watch watch = {fd, dialer_readable, NULL};
	uint64_t connect_by = mc_now() + CONNECT_TIME;
	r = rd_cm_connect(c, (struct sockaddr *)&at, &watch,
		connect_by < deadline ? connect_by : deadline, why);
	if (r < 0) {
		rd_close(c);
		return say_no(fd, RD_VERDICT, why, deadline, err);
	}
	mine = (struct rd_agree){.type = RD_VERDICT, .caps = c->peer.caps};
	r = say(fd, &mine, deadline, err);
	if (r < 0) {
		rd_close(c);
		return r;
	}
	*ret_conn = c;
	return 0;
}

static void stay_with_tcp(int fd, const struct mc_error *why, struct rd_link *ret)
{
	*ret = (struct rd_link){.fd = fd};
	snprintf(ret->why, sizeof ret->why, "%.*s", (int)sizeof ret->why - 1, why->msg);
}

static void connected(int fd, struct rd_conn *c, struct rd_link *ret)
{
	c->socket = fd;
	*ret = (struct rd_link){.fd = -1, .rdma = c};
}

/* Keep-alives want RDMA or nothing, whatever is configured: they have TCP besides. */
static int insisted(unsigned purpose, struct mc_error *err)
{
	return purpose == LINK_KEEPALIVE ? err->code : mc_error_wrap(err, "transport = rdma, but");
}

int rd_dial(enum rd_mode mode, const struct rd_wants *wants, const struct link_self *self,
	const struct link_target *to, uint64_t deadline, struct rd_link *ret, struct mc_error *err)
{
	struct link_target offering = *to;
	struct mc_error why = MC_ERROR_INIT, unused = MC_ERROR_INIT;
	struct rd_conn *c = NULL;
	int fd = -EOPNOTSUPP;
	if (!err)
		err = &unused;
	offering.purpose |= LINK_OFFERS_RDMA;
	if (mode != RD_TCP && check_local(self->address, wants, &why) == 0)
		fd = link_connect(self, &offering, deadline, NULL, &why);
	if (fd == -EOPNOTSUPP && mode != RD_RDMA) {
		fd = link_connect(self, to, deadline, NULL, err);
		if (fd >= 0)
			stay_with_tcp(fd, &why, ret);
		return fd < 0 ? fd : 0;
	}
	if (fd < 0) {
		*err = why;
		return fd == -EOPNOTSUPP ? insisted(to->purpose, err) : fd;
	}
	int r = offer(fd, wants, &c, &why, err);
	if (r == 0 && c) {
		connected(fd, c, ret);
		return 0;
	}
	if (r == 0 && mode == RD_AUTO) {
		stay_with_tcp(fd, &why, ret);
		return 0;
	}
	close(fd);
	if (r < 0)
		return r;
	*err = why;
	return insisted(to->purpose, err);
}

/* --- acceptor ------------------------------------------------------------------------------ */

struct acceptor {
	int fd;
	uint64_t deadline;
	bool heard, no; /* the VERDICT is here; they stay with TCP */
	bool broken;    /* the socket is of no use */
};

static int verdict(struct acceptor *a, struct mc_error *err)
{
	struct rd_agree theirs;
	int r = hear(a->fd, RD_VERDICT, &theirs, a->deadline, err);
	a->broken = r < 0;
	a->heard = true;
	a->no = r == 0 && theirs.no;
	return a->no ? their_no(&theirs, err) : r;
}

static int acceptor_readable(void *ctx, struct mc_error *err)
{
	struct acceptor *a = ctx;
	if (!a->heard)
		return verdict(a, err);
	a->broken = true;
	return dialer_readable(NULL, err);
}

static int take_offer(struct acceptor *a, struct rd_conn *c, const struct sockaddr_storage *at,
	struct mc_error *why, struct mc_error *err)
{
	struct rd_agree mine = {.type = RD_ANSWER, .caps = c->stream ? RD_CAP_STREAM : 0};
	int r = rd_cm_listen(c, &mine.port, why);
	if (r < 0)
		return say_no(a->fd, RD_ANSWER, why, a->deadline, err);
	if (gnutls_rnd(GNUTLS_RND_NONCE, c->token, sizeof c->token) < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED, "cannot get random bytes");
	to_in6(at, &mine.address);
	memcpy(mine.token, c->token, sizeof mine.token);
	r = say(a->fd, &mine, a->deadline, err);
	if (r < 0)
		return r;
	struct rd_cm_watch watch = {a->fd, acceptor_readable, a};
	r = rd_cm_accept(c, &watch, a->deadline, why);
	if (!a->heard && !a->broken) {
		struct mc_error no = MC_ERROR_INIT;
		if (verdict(a, &no) < 0 && r == 0)
			*why = no;
	}
	/* Connected for them and not for us: there is no way back to TCP. */
	if (r < 0 && !a->no)
		a->broken = true;
	if (a->broken) {
		*err = *why;
		return why->code;
	}
	return 0;
}

int rd_welcome(enum rd_mode mode, const struct rd_wants *wants, int fd,
	const struct link_peer *peer, uint64_t deadline, struct rd_link *ret, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT, ours = MC_ERROR_INIT;
	struct acceptor a = {.fd = fd, .deadline = deadline};
	struct rd_conn *c = NULL;
	struct sockaddr_storage at;
	struct rd_agree theirs;
	int r = 0;
	if (!err)
		err = &ours;
	if (!peer->offers_rdma) {
		mc_error_set(&why, -ENOTSUP, MC_ECLASS_KERNEL,
			"%s does not offer RDMA: its log says why", peer->name);
	} else if ((r = hear(fd, RD_OFFER, &theirs, deadline, &why)) == -EPROTONOSUPPORT) {
		r = say_no(fd, RD_ANSWER, &why, deadline, err);
	} else if (r < 0) {
		*err = why;
		return r;
	} else if (theirs.no) {
		their_no(&theirs, &why);
		r = say_no(fd, RD_ANSWER, &why, deadline, err);
	} else {
		if (mode == RD_TCP)
			mc_error_set(&why, -ENOTSUP, MC_ECLASS_CONFIG, "transport = tcp there");
		else if (!(theirs.caps & RD_CAP_STREAM) == wants->stream)
			mc_error_set(&why, -ENOTSUP, MC_ECLASS_VERSION,
				"its mcd wants something else of RDMA");
		else if (rd_memlock_check(wants->region + RD_STREAM_FIXED + wants->pinned, &why) ==
			 0)
			bind_here(fd, wants, &at, &c, &why);
		r = c ? take_offer(&a, c, &at, &why, err)
		      : say_no(fd, RD_ANSWER, &why, deadline, err);
	}
	if (r == 0 && c && !why.code) {
		connected(fd, c, ret);
		return 0;
	}
	rd_close(c);
	if (r == 0 && mode != RD_RDMA) {
		stay_with_tcp(fd, &why, ret);
		if (mode == RD_TCP)
			ret->why[0] = '\0';
		return 0;
	}
	if (r == 0) {
		*err = why;
		r = why.code;
		mc_error_wrap(err, "transport = rdma here, but");
	}
	return r;
}

void rd_refuse(int fd, const struct link_peer *peer, const struct mc_error *why, uint64_t deadline)
{
	struct rd_agree theirs;
	if (peer->offers_rdma && hear(fd, RD_OFFER, &theirs, deadline, NULL) == 0)
		say_no(fd, RD_ANSWER, why, deadline, NULL);
}

void rd_link_close(struct rd_link *l)
{
	rd_close(l->rdma);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct rd_link){.fd = -1};
}
