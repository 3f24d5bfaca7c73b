/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * The formats of RDMA connections, byte by byte.  All integers big-endian; MBZ must be zero; text
 * is printable ASCII, NUL-padded.  In every version, for ever, magic and version are where they are
 * here, a message of the agreement has 256 bytes, and whoever finds another version refuses in
 * its own.
 *
 * Agreement, over TCP, after a handshake of link.c that announced an offer; 256 bytes each:
 *
 *	  0   4  magic "MCDR"
 *	  4   2  version (1)
 *	  6   1  type: 1 OFFER, 2 ANSWER, 3 VERDICT
 *	  7   1  0 yes, 1 no
 *	  8   2  capabilities (RD_CAP_*); unknown ones are dropped
 *	 10   2  port      \
 *	 12   4  MBZ        |  of a yes in an ANSWER, else MBZ;
 *	 16  16  address    |  IPv4 as ::ffff:a.b.c.d
 *	 32  16  token     /   random, for one connection
 *	 48 208  reason of a no, else MBZ
 *
 *	dialer              acceptor
 *	OFFER     ------>            listens on a port made for it
 *	          <------   ANSWER   no: the connection goes on as TCP, or ends
 *	(connects by RDMA, with the token)
 *	VERDICT   ------>            no: likewise
 *
 * After a VERDICT that is a yes nothing is said on the socket any more.
 *
 * Private data of the connection's request and of its acceptance, 48 bytes:
 *
 *	  0   4  magic "MCDR"
 *	  4   2  version
 *	  6   2  capabilities: offered, in the acceptance those that both have
 *	  8  16  token, in both
 *	 24   4  receives that the sender has posted (0 without a stream)
 *	 28   4  rkey     \
 *	 32   8  address   | of the memory that the other may write to
 *	 40   8  size     /
 *
 * Private data of a rejection, 136 bytes: magic, version, 2 bytes MBZ, 16 bytes MBZ, reason (112).
 *
 * Each SEND of a stream begins with 24 bytes:
 *
 *	  0   4  length: of what this message adds to the stream
 *	  4   2  type (enum rd_control_type)
 *	  6   2  repeat: with how many RDMA WRITEs it was put into the ring; 0 of the other types
 *	  8   8  how many bytes the sender has taken out of its own ring
 *	 16   4  how many receives the sender has posted, modulo 2^32
 *	 20   4  MBZ
 *
 * The stream is what its messages add, in the order of the SENDs.  The bytes of a PLACED lie behind
 * those of the one before it; at the end of the ring they go on at its beginning.  They are there
 * when the SEND is: a reliable connection completes in order.
 */
/* clang-format on */
#include "common/rdma/format.h"

#include "common/be.h"
#include "common/rdma/rdma.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(48 + RD_REASON_SIZE == RD_AGREE_SIZE, "an agreement ends with its reason");
_Static_assert(32 + RD_TOKEN_SIZE == 48 && 8 + RD_TOKEN_SIZE + 24 == RD_HELLO_SIZE,
	"the private data are as the table above says");
_Static_assert(24 + 112 == RD_REJECT_SIZE && RD_CONTROL_SIZE < RD_SLOT_SIZE, "likewise");

#define MAGIC 0x4d434452u /* "MCDR" */

static int refuse(struct mc_error *err, const char *what)
{
	return mc_error_set(err, -EPROTO, MC_ECLASS_PROTOCOL,
		"%s; the connection is closed (a broken peer, or not an mcd)", what);
}

static void put_prefix(uint8_t *p)
{
	put_be32(p, MAGIC);
	put_be16(p + 4, RD_VERSION);
}

static int get_prefix(const uint8_t *p, struct mc_error *err)
{
	if (get_be32(p) != MAGIC)
		return refuse(err, "what arrived has nothing to do with RDMA connections of mcd");
	if (get_be16(p + 4) == RD_VERSION)
		return 0;
	return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
		"the peer speaks version %u of RDMA connections, this mcd version %d; install the "
		"same release of mcd on both hosts",
		get_be16(p + 4), RD_VERSION);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* Reasons go into logs: one that is too long or not printable loses what does not fit. */
static void put_reason(uint8_t *p, size_t size, const char *reason)
{
	memset(p, 0, size);
	for (size_t i = 0; reason[i] && i < size - 1; i++)
		p[i] = reason[i] >= ' ' && reason[i] <= '~' ? (uint8_t)reason[i] : '?';
}

static bool get_reason(const uint8_t *p, size_t size, char ret[RD_REASON_SIZE])
{
	size_t n = 0;
	while (n < size && p[n] >= ' ' && p[n] <= '~')
		n++;
	if (n == size || !all_zero(p + n, size - n))
		return false;
	memset(ret, 0, RD_REASON_SIZE);
	memcpy(ret, p, n);
	return true;
}

void rd_put_agree(uint8_t buf[RD_AGREE_SIZE], const struct rd_agree *a)
{
	memset(buf, 0, RD_AGREE_SIZE);
	put_prefix(buf);
	buf[6] = (uint8_t)a->type;
	buf[7] = a->no;
	put_be16(buf + 8, a->caps);
	if (a->no) {
		put_reason(buf + 48, RD_REASON_SIZE, a->reason);
	} else if (a->type == RD_ANSWER) {
		put_be16(buf + 10, a->port);
		memcpy(buf + 16, &a->address, 16);
		memcpy(buf + 32, a->token, RD_TOKEN_SIZE);
	}
}

int rd_get_agree(const uint8_t buf[RD_AGREE_SIZE], enum rd_agree_type type, struct rd_agree *ret,
	struct mc_error *err)
{
	int r = get_prefix(buf, err);
	if (r < 0)
		return r;
	struct rd_agree a = {.type = type, .no = buf[7], .caps = get_be16(buf + 8) & RD_CAPS};
	if (buf[6] != (uint8_t)type || buf[7] > 1)
		return refuse(err, "a message about RDMA came out of order");
	bool place = type == RD_ANSWER && !a.no;
	if (!place && !all_zero(buf + 10, 38))
		return refuse(err, "a message about RDMA has an address where none belongs");
	if (!get_reason(buf + 48, RD_REASON_SIZE, a.reason) || (a.reason[0] && !a.no) ||
		!all_zero(buf + 12, 4))
		return refuse(err, "a message about RDMA is malformed");
	a.port = get_be16(buf + 10);
	memcpy(&a.address, buf + 16, 16);
	memcpy(a.token, buf + 32, RD_TOKEN_SIZE);
	if (place && (!a.port || IN6_IS_ADDR_UNSPECIFIED(&a.address) ||
			     IN6_IS_ADDR_MULTICAST(&a.address)))
		return refuse(err, "an answer about RDMA has no usable address");
	*ret = a;
	return 0;
}

void rd_put_hello(uint8_t buf[RD_HELLO_SIZE], const struct rd_hello *h)
{
	put_prefix(buf);
	put_be16(buf + 6, h->caps);
	memcpy(buf + 8, h->token, RD_TOKEN_SIZE);
	put_be32(buf + 24, h->slots);
	put_be32(buf + 28, h->rkey);
	put_be64(buf + 32, h->addr);
	put_be64(buf + 40, h->size);
}

int rd_get_hello(const uint8_t *buf, size_t len, struct rd_hello *ret, struct mc_error *err)
{
	if (len < 8)
		return refuse(err, "an RDMA connection says nothing about itself");
	int r = get_prefix(buf, err);
	if (r < 0)
		return r;
	if (len < RD_HELLO_SIZE)
		return refuse(err, "an RDMA connection says too little about itself");
	struct rd_hello h = {
		.caps = get_be16(buf + 6) & RD_CAPS,
		.slots = get_be32(buf + 24),
		.rkey = get_be32(buf + 28),
		.addr = get_be64(buf + 32),
		.size = get_be64(buf + 40),
	};
	memcpy(h.token, buf + 8, RD_TOKEN_SIZE);
	bool stream = h.caps & RD_CAP_STREAM;
	if (stream ? h.slots < RD_SLOTS_MIN || h.slots > RD_SLOTS_MAX : h.slots != 0)
		return refuse(err, "an RDMA connection has an impossible number of receives");
	if (h.size < RD_REGION_MIN || h.size > RD_REGION_MAX || h.size % RD_REGION_MIN ||
		h.addr > UINT64_MAX - h.size)
		return refuse(err, "an RDMA connection offers an impossible region of memory");
	*ret = h;
	return 0;
}

void rd_put_reject(uint8_t buf[RD_REJECT_SIZE], const char *reason)
{
	memset(buf, 0, RD_REJECT_SIZE);
	put_prefix(buf);
	put_reason(buf + 24, RD_REJECT_SIZE - 24, reason);
}

void rd_get_reject(const uint8_t *buf, size_t len, char ret_reason[RD_REASON_SIZE])
{
	if (len < RD_REJECT_SIZE || get_be32(buf) != MAGIC ||
		!get_reason(buf + 24, RD_REJECT_SIZE - 24, ret_reason))
		ret_reason[0] = '\0';
}

void rd_put_control(uint8_t buf[RD_CONTROL_SIZE], const struct rd_control *c)
{
	put_be32(buf, c->length);
	put_be16(buf + 4, c->type);
	put_be16(buf + 6, c->repeat);
	put_be64(buf + 8, c->freed);
	put_be32(buf + 16, c->posted);
	put_be32(buf + 20, 0);
}

int rd_get_control(const uint8_t *buf, size_t size, struct rd_control *ret, struct mc_error *err)
{
	if (size < RD_CONTROL_SIZE || size > RD_SLOT_SIZE)
		return refuse(err, "an RDMA message has an impossible size");
	struct rd_control c = {
		.length = get_be32(buf),
		.type = get_be16(buf + 4),
		.repeat = get_be16(buf + 6),
		.freed = get_be64(buf + 8),
		.posted = get_be32(buf + 16),
	};
	size_t follows = size - RD_CONTROL_SIZE;
	bool ok = !get_be32(buf + 20);
	switch (c.type) {
	case RD_INLINE:
		ok = ok && c.length && c.length == follows && !c.repeat;
		break;
	case RD_PLACED:
		ok = ok && c.length && !follows && c.repeat && c.repeat <= c.length;
		break;
	case RD_CREDIT:
		ok = ok && !c.length && !follows && !c.repeat;
		break;
	default:
		ok = false;
	}
	if (!ok)
		return refuse(err, "an RDMA message is malformed");
	*ret = c;
	return 0;
}
