/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * The handshake of every connection between two mcds.  All integers big-endian.
 *
 * Every message begins with the same 16 bytes, in every version of the protocol, for ever:
 *
 *   offset size
 *        0    8  magic "mcd-link"
 *        8    2  version of the sender (LINK_VERSION)
 *       10    1  type: 1 HELLO, 2 PROOF, 3 WELCOME, 4 REFUSED
 *       11    1  code: 0, or why it is refused (REFUSE_*)
 *       12    4  zero
 *
 * HELLO (type 1) goes on with 240 bytes, 256 in all:
 *
 *       16    1  role of the sender: 1 connector, 2 acceptor
 *       17    1  purpose (enum link_purpose), the highest bit set: an offer of RDMA follows the
 *                handshake (common/rdma/format.c); the acceptor repeats the connector's
 *       18    6  zero
 *       24    8  instance
 *       32   32  nonce: random, new for every connection
 *       64   64  name of the sender; this and the next two NUL-terminated and NUL-padded
 *      128   64  subject: the connector's VM name for LINK_DATA and LINK_DISK, else ""
 *      192   64  name that the connector expects of the acceptor, "" = any; acceptor's: ""
 *
 * PROOF (type 2) and WELCOME (type 3) go on with a MAC of 32 bytes, 48 in all:
 * HMAC-SHA256(key, label || HELLO of the connector || HELLO of the acceptor || the 16 bytes), where
 * the label is "mcd-link connector" or "mcd-link acceptor", NUL-padded to 32 bytes.
 * REFUSED (type 4) has nothing more.  It is not authenticated: it can only end a handshake.
 *
 *   connector               acceptor
 *   HELLO         ------>             looks at magic, version, type; REFUSED(version)
 *                 <------   HELLO
 *   PROOF         ------>             MAC wrong: REFUSED(key).  Only now parses the HELLO.
 *                 <------   WELCOME   code != 0: authentic, but not let in (name | bad)
 *   MAC wrong: WrongKey
 *
 * 1. The MACs cover both HELLOs, so version, purpose, subject, names, instances and both nonces:
 *    nothing of one connection is of use in another (replay), and the labels keep one side's proof
 *    from serving as the other's (reflection).
 * 2. The connector proves first: a stranger gets no MAC from an acceptor.
 * 3. Before the proof is verified an acceptor reads 304 bytes and interprets 16 of them.
 * 4. The handshake authenticates the ends.  It does not encrypt or sign what follows; the
 *    replication network must be one on which no stranger can inject into a TCP connection.
 */
/* clang-format on */
#include "common/link.h"
#include "common/link-tcp.h"
#include "common/be.h"
#include "common/cleanup.h"
#include "common/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define LINK_VERSION 1

#define PREFIX_SIZE 16
#define HELLO_SIZE  256
#define MAC_SIZE    32
#define PROOF_SIZE  (PREFIX_SIZE + MAC_SIZE)
#define NAME_SIZE   64
#define DRAIN_MAX   4096
#define DRAIN_TIME  (200 * MC_MSEC)

_Static_assert(NAME_SIZE == LINK_NAME_MAX + 1, "a name and its NUL fill the field");
_Static_assert(64 + 3 * NAME_SIZE == HELLO_SIZE, "a HELLO ends with its third name");
_Static_assert(HELLO_SIZE + PROOF_SIZE == 304, "what an acceptor reads before it trusts");
_Static_assert(LINK_DISK < LINK_OFFERS_RDMA, "the highest bit of the purpose is free");

static const char magic[8] = {'m', 'c', 'd', '-', 'l', 'i', 'n', 'k'};

enum { TYPE_HELLO = 1, TYPE_PROOF = 2, TYPE_WELCOME = 3, TYPE_REFUSED = 4 };
enum { ROLE_CONNECTOR = 1, ROLE_ACCEPTOR = 2 };
enum { REFUSE_VERSION = 1, REFUSE_KEY = 2, REFUSE_NAME = 3, REFUSE_BAD = 4 };

struct hello {
	uint8_t role, purpose;
	bool offers_rdma;
	uint64_t instance;
	char name[NAME_SIZE], subject[NAME_SIZE], expect[NAME_SIZE];
};

static void put_prefix(uint8_t *p, uint8_t type, uint8_t code)
{
	memcpy(p, magic, sizeof magic);
	put_be16(p + 8, LINK_VERSION);
	p[10] = type;
	p[11] = code;
	memset(p + 12, 0, 4);
}

static int put_hello(uint8_t p[HELLO_SIZE], const struct hello *h, struct mc_error *err)
{
	assert(h->role == ROLE_CONNECTOR || h->role == ROLE_ACCEPTOR);
	memset(p, 0, HELLO_SIZE);
	put_prefix(p, TYPE_HELLO, 0);
	p[16] = h->role;
	p[17] = h->purpose | (h->offers_rdma ? LINK_OFFERS_RDMA : 0);
	put_be64(p + 24, h->instance);
	int r = gnutls_rnd(GNUTLS_RND_NONCE, p + 32, 32);
	if (r < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED, "cannot get random bytes: %s",
			gnutls_strerror(r));
	memcpy(p + 64, h->name, NAME_SIZE);
	memcpy(p + 128, h->subject, NAME_SIZE);
	memcpy(p + 192, h->expect, NAME_SIZE);
	return 0;
}

/* A name as sent: printable, without space and '/', NUL-padded to the end of its field. */
static bool get_name(char ret[NAME_SIZE], const uint8_t *p)
{
	size_t n = 0;
	while (n < NAME_SIZE && p[n] > ' ' && p[n] < 0x7f && p[n] != '/')
		n++;
	for (size_t i = n; i < NAME_SIZE; i++)
		if (p[i])
			return false;
	if (n == NAME_SIZE)
		return false;
	memcpy(ret, p, NAME_SIZE);
	return true;
}

static bool get_hello(struct hello *ret, const uint8_t p[HELLO_SIZE], uint8_t role)
{
	struct hello h = {
		.role = p[16],
		.purpose = p[17] & (uint8_t)~LINK_OFFERS_RDMA,
		.offers_rdma = p[17] & LINK_OFFERS_RDMA,
		.instance = get_be64(p + 24),
	};
	static const uint8_t zero[6];
	if (h.role != role || memcmp(p + 18, zero, 6) || p[11] || memcmp(p + 12, zero, 4))
		return false;
	if (h.purpose < LINK_KEEPALIVE || h.purpose > LINK_DISK)
		return false;
	if (role == ROLE_CONNECTOR && h.offers_rdma && h.purpose == LINK_VOTE)
		return false;
	if (!get_name(h.name, p + 64) || !get_name(h.subject, p + 128) ||
		!get_name(h.expect, p + 192) || !h.name[0])
		return false;
	bool has_subject = role == ROLE_CONNECTOR && h.purpose >= LINK_DATA;
	if (has_subject != (h.subject[0] != 0) || (role == ROLE_ACCEPTOR && h.expect[0]))
		return false;
	*ret = h;
	return true;
}

static int compute_mac(const struct link_key *key, uint8_t role, const uint8_t *connector,
	const uint8_t *acceptor, const uint8_t *prefix, uint8_t ret[MAC_SIZE])
{
	uint8_t text[32 + 2 * HELLO_SIZE + PREFIX_SIZE] = {0};
	const char *label = role == ROLE_CONNECTOR ? "mcd-link connector" : "mcd-link acceptor";
	memcpy(text, label, strlen(label));
	memcpy(text + 32, connector, HELLO_SIZE);
	memcpy(text + 32 + HELLO_SIZE, acceptor, HELLO_SIZE);
	memcpy(text + 32 + 2 * HELLO_SIZE, prefix, PREFIX_SIZE);
	int r = gnutls_hmac_fast(GNUTLS_MAC_SHA256, key->bytes, key->len, text, sizeof text, ret);
	return r < 0 ? -EIO : 0;
}

/* Constant time: how many bytes agree must not be measurable. */
static bool same_mac(const uint8_t *a, const uint8_t *b)
{
	return gnutls_memcmp(a, b, MAC_SIZE) == 0;
}

static int io_error(struct mc_error *err, int r, const char *doing)
{
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT,
			"the peer was silent while %s; is what runs there mcd, and is it healthy?",
			doing);
	if (r == -ENODATA)
		r = -ECONNRESET;
	return mc_error_set(err, r, MC_ECLASS_UNREACHABLE, "the connection broke while %s: %s",
		doing, strerror(-r));
}

static int wrong_version(struct mc_error *err, unsigned theirs)
{
	return mc_error_set(err, -EPROTONOSUPPORT, MC_ECLASS_VERSION,
		"the peer speaks version %u of the link protocol, this mcd speaks version %d; "
		"install the same version of mcd on both hosts",
		theirs, LINK_VERSION);
}

static int wrong_key(struct mc_error *err)
{
	return mc_error_set(err, -EKEYREJECTED, MC_ECLASS_WRONG_KEY,
		"the cluster keys of the two hosts differ; copy the same key file to every host");
}

static int refused(struct mc_error *err, uint8_t code, unsigned their_version)
{
	switch (code) {
	case REFUSE_VERSION:
		return wrong_version(err, their_version);
	case REFUSE_KEY:
		return wrong_key(err);
	default:
		return mc_error_set(err, -EPROTO, MC_ECLASS_PROTOCOL,
			"the peer refused the connection (code %u); its log says why", code);
	}
}

/* Reads the first 16 bytes and accepts only `type` in our version. */
static int read_prefix(int fd, uint8_t type, uint8_t p[PREFIX_SIZE], const char *doing,
	uint64_t deadline, struct mc_error *err)
{
	int r = link_read(fd, p, PREFIX_SIZE, deadline, -1);
	if (r < 0)
		return io_error(err, r, doing);
	if (memcmp(p, magic, sizeof magic))
		return mc_error_set(err, -EPROTO, MC_ECLASS_PROTOCOL,
			"what connects or listens there is not an mcd (wrong magic); check address "
			"and port");
	unsigned version = get_be16(p + 8);
	if (version != LINK_VERSION)
		return wrong_version(err, version);
	if (p[10] == TYPE_REFUSED)
		return refused(err, p[11], version);
	if (p[10] != type)
		return mc_error_set(err, -EPROTO, MC_ECLASS_PROTOCOL,
			"the peer sent message type %u while %s; it is broken or not an mcd", p[10],
			doing);
	return 0;
}

/* Says why and lets it arrive: closing with unread bytes in our queue would send a reset, which
 * may overtake the refusal.  Bounded in bytes and time. */
static void refuse(int fd, uint8_t code, uint64_t deadline)
{
	uint8_t p[PREFIX_SIZE];
	put_prefix(p, TYPE_REFUSED, code);
	uint64_t end = mc_now() + DRAIN_TIME;
	if (end > deadline)
		end = deadline;
	if (link_write(fd, p, sizeof p, end) < 0)
		return;
	shutdown(fd, SHUT_WR);
	uint8_t sink[1];
	for (size_t n = 0; n < DRAIN_MAX && link_read(fd, sink, 1, end, -1) == 0; n++)
		;
}

static void fill_peer(
	struct link_peer *ret, const struct hello *connector, const struct hello *peer)
{
	memset(ret, 0, sizeof *ret);
	memcpy(ret->name, peer->name, NAME_SIZE);
	memcpy(ret->subject, connector->subject, NAME_SIZE);
	ret->purpose = connector->purpose;
	ret->offers_rdma = connector->offers_rdma;
	ret->instance = peer->instance;
}

static int set_name(char field[NAME_SIZE], const char *name, const char *what, struct mc_error *err)
{
	uint8_t padded[NAME_SIZE] = {0};
	size_t n = name ? strlen(name) : 0;
	if (n < NAME_SIZE)
		memcpy(padded, name ? name : "", n);
	if (n >= NAME_SIZE || !get_name(field, padded))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"the %s '%.80s' is not usable: at most %d printable characters without "
			"space and '/'",
			what, name, LINK_NAME_MAX);
	return 0;
}

/* The connector's half, from an established stream on. */
static int handshake_connect(int fd, const struct link_key *key, const struct hello *self,
	uint64_t deadline, struct link_peer *ret_peer, struct mc_error *err)
{
	uint8_t mine[HELLO_SIZE], theirs[HELLO_SIZE], msg[PROOF_SIZE], mac[MAC_SIZE];
	int r = put_hello(mine, self, err);
	if (r < 0)
		return r;
	r = link_write(fd, mine, sizeof mine, deadline);
	if (r < 0)
		return io_error(err, r, "sending the first message");
	r = read_prefix(fd, TYPE_HELLO, theirs, "waiting for its first message", deadline, err);
	if (r < 0)
		return r;
	r = link_read(fd, theirs + PREFIX_SIZE, HELLO_SIZE - PREFIX_SIZE, deadline, -1);
	if (r < 0)
		return io_error(err, r, "waiting for its first message");

	put_prefix(msg, TYPE_PROOF, 0);
	if (compute_mac(key, ROLE_CONNECTOR, mine, theirs, msg, msg + PREFIX_SIZE) < 0)
		return mc_error_set(
			err, -EIO, MC_ECLASS_FAILED, "cannot compute HMAC-SHA256 by GnuTLS");
	r = link_write(fd, msg, sizeof msg, deadline);
	if (r < 0)
		return io_error(err, r, "proving the cluster key");
	r = read_prefix(
		fd, TYPE_WELCOME, msg, "waiting for its proof of the cluster key", deadline, err);
	if (r < 0)
		return r;
	r = link_read(fd, msg + PREFIX_SIZE, MAC_SIZE, deadline, -1);
	if (r < 0)
		return io_error(err, r, "waiting for its proof of the cluster key");
	if (compute_mac(key, ROLE_ACCEPTOR, mine, theirs, msg, mac) < 0 ||
		!same_mac(mac, msg + PREFIX_SIZE))
		return wrong_key(err);

	/* Only from here on anything of theirs is parsed. */
	struct hello peer;
	if (!get_hello(&peer, theirs, ROLE_ACCEPTOR))
		return mc_error_set(
			err, -EPROTO, MC_ECLASS_PROTOCOL, "the peer's first message is malformed");
	if (msg[11] == REFUSE_NAME || (self->expect[0] && strcmp(self->expect, peer.name)))
		return mc_error_set(err, -EHOSTUNREACH, MC_ECLASS_UNREACHABLE,
			"the host there calls itself '%s', not '%s'; check the addresses of [host "
			"...] and 'name' in its mcd.conf",
			peer.name, self->expect);
	if (msg[11] == REFUSE_BAD && self->offers_rdma)
		return mc_error_set(err, -EOPNOTSUPP, MC_ECLASS_VERSION,
			"the peer's mcd does not know RDMA; install the same version of mcd on "
			"both hosts");
	if (msg[11] || peer.purpose != self->purpose || peer.offers_rdma != self->offers_rdma)
		return refused(err, msg[11], LINK_VERSION);
	fill_peer(ret_peer, self, &peer);
	return 0;
}

/* Their first message, of which nothing is interpreted yet, and ours in answer. */
static int exchange_hellos(int fd, const struct link_self *self, uint8_t theirs[HELLO_SIZE],
	uint8_t mine[HELLO_SIZE], uint64_t deadline, struct mc_error *err)
{
	struct hello hello = {.role = ROLE_ACCEPTOR, .instance = self->instance};
	int r = set_name(hello.name, self->name, "own host name", err);
	if (r < 0)
		return r;
	r = read_prefix(fd, TYPE_HELLO, theirs, "waiting for its first message", deadline, err);
	if (r < 0) {
		if (r == -EPROTONOSUPPORT)
			refuse(fd, REFUSE_VERSION, deadline);
		return r;
	}
	r = link_read(fd, theirs + PREFIX_SIZE, HELLO_SIZE - PREFIX_SIZE, deadline, -1);
	if (r < 0)
		return io_error(err, r, "waiting for its first message");
	/* Repeated as an opaque byte. */
	hello.purpose = theirs[17] & (uint8_t)~LINK_OFFERS_RDMA;
	hello.offers_rdma = theirs[17] & LINK_OFFERS_RDMA;
	r = put_hello(mine, &hello, err);
	if (r < 0)
		return r;
	r = link_write(fd, mine, HELLO_SIZE, deadline);
	return r < 0 ? io_error(err, r, "sending the first message") : 0;
}

static int read_proof(int fd, const struct link_self *self, const uint8_t theirs[HELLO_SIZE],
	const uint8_t mine[HELLO_SIZE], uint64_t deadline, struct mc_error *err)
{
	uint8_t msg[PROOF_SIZE], mac[MAC_SIZE];
	int r = read_prefix(
		fd, TYPE_PROOF, msg, "waiting for its proof of the cluster key", deadline, err);
	if (r < 0)
		return r;
	r = link_read(fd, msg + PREFIX_SIZE, MAC_SIZE, deadline, -1);
	if (r < 0)
		return io_error(err, r, "waiting for its proof of the cluster key");
	if (compute_mac(self->key, ROLE_CONNECTOR, theirs, mine, msg, mac) == 0 &&
		same_mac(mac, msg + PREFIX_SIZE))
		return 0;
	wrong_key(err);
	refuse(fd, REFUSE_KEY, deadline);
	return -EKEYREJECTED;
}

/* What it says, now that it has proved to know the key: 0, or what it is refused with. */
static uint8_t judge_hello(const struct link_self *self, const uint8_t theirs[HELLO_SIZE],
	struct hello *ret, struct mc_error *err)
{
	if (!get_hello(ret, theirs, ROLE_CONNECTOR)) {
		mc_error_set(
			err, -EPROTO, MC_ECLASS_PROTOCOL, "the peer's first message is malformed");
		return REFUSE_BAD;
	}
	if (!ret->expect[0] || !strcmp(ret->expect, self->name))
		return 0;
	mc_error_set(err, -EHOSTUNREACH, MC_ECLASS_UNREACHABLE,
		"host '%s' wants to talk to '%s', but this host is '%s'; check the addresses of "
		"[host ...] in its mcd.conf",
		ret->name, ret->expect, self->name);
	return REFUSE_NAME;
}

int link_accept(int fd, const struct link_self *self, uint64_t deadline, struct link_peer *ret_peer,
	struct mc_error *err)
{
	uint8_t mine[HELLO_SIZE], theirs[HELLO_SIZE], msg[PROOF_SIZE];
	struct mc_error dummy = MC_ERROR_INIT;
	struct hello peer;
	if (!err)
		err = &dummy;
	/* Bulk data goes in large writes, votes and ACKs in small ones that must not wait. */
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	int r = exchange_hellos(fd, self, theirs, mine, deadline, err);
	if (r == 0)
		r = read_proof(fd, self, theirs, mine, deadline, err);
	if (r < 0)
		return r;
	uint8_t code = judge_hello(self, theirs, &peer, err);
	put_prefix(msg, TYPE_WELCOME, code);
	if (compute_mac(self->key, ROLE_ACCEPTOR, theirs, mine, msg, msg + PREFIX_SIZE) < 0)
		return mc_error_set(
			err, -EIO, MC_ECLASS_FAILED, "cannot compute HMAC-SHA256 by GnuTLS");
	r = link_write(fd, msg, sizeof msg, deadline);
	if (code)
		return err->code;
	if (r < 0)
		return io_error(err, r, "welcoming it");
	fill_peer(ret_peer, &peer, &peer);
	return 0;
}

int link_listen(const char *address, uint16_t port, struct mc_error *err)
{
	return link_tcp_listen(address, port, err);
}

int link_connect(const struct link_self *self, const struct link_target *to, uint64_t deadline,
	struct link_peer *ret_peer, struct mc_error *err)
{
	struct hello hello = {
		.role = ROLE_CONNECTOR,
		.purpose = (uint8_t)(to->purpose & ~LINK_OFFERS_RDMA),
		.offers_rdma = to->purpose & LINK_OFFERS_RDMA,
		.instance = self->instance,
	};
	assert(hello.purpose >= LINK_KEEPALIVE && hello.purpose <= LINK_DISK);
	assert(self->key && self->key->len >= LINK_KEY_MIN && self->key->len <= LINK_KEY_MAX);
	int r = set_name(hello.name, self->name, "own host name", err);
	if (r == 0)
		r = set_name(hello.subject, to->subject, "VM name", err);
	if (r == 0)
		r = set_name(hello.expect, to->name, "peer's host name", err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd =
		link_tcp_connect(self->address, to->address, to->port, deadline, err);
	if (fd < 0)
		return fd;
	struct link_peer peer;
	r = handshake_connect(fd, self->key, &hello, deadline, &peer, err);
	if (r < 0) {
		mc_error_wrap(err, "%s port %u", to->address, to->port);
		return r;
	}
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot make the socket blocking: %s", strerror(errno));
	if (ret_peer)
		*ret_peer = peer;
	return mc_steal_fd(&fd);
}
