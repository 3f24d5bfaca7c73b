/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An authenticated TCP connection between two mcds.
 *
 * Whoever connects says which version of the protocol it speaks, what the connection is for and
 * who it is; both sides then prove that they hold the cluster key by answering the other's random
 * challenge (HMAC-SHA256).  Nothing else is parsed before that.  The byte layout is at the head of
 * link.c.  After the handshake the socket belongs to the purpose's own protocol.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_KEY_MIN  32 /* bytes of a cluster key, at least and at most */
#define LINK_KEY_MAX  256
#define LINK_NAME_MAX 63 /* bytes of a host name, of a VM name */

enum link_purpose {
	LINK_KEEPALIVE = 1, /* one-way beats, connector -> acceptor */
	LINK_VOTE = 2,      /* requests of a proposer, answers of a voter */
	LINK_DATA = 3,      /* the checkpoint stream of one VM; subject = its name */
	LINK_DISK = 4,      /* its disk writes, beside that stream; subject = its name */
};

/* Or'ed to the purpose of a link_target: an offer to go on by RDMA comes first (common/rdma/).  A
 * peer that does not know it answers -EOPNOTSUPP; without it, it would be connected. */
#define LINK_OFFERS_RDMA 0x80u

struct link_key {
	size_t len;
	uint8_t bytes[LINK_KEY_MAX];
};

/* Who we are, in every handshake of this process. */
struct link_self {
	const char *name; /* of this host */
	const struct link_key *key;
	uint64_t instance;   /* random: tells this process from the one before it */
	const char *address; /* numeric, to connect from; NULL = any */
};

/* Whom to connect to, and what for. */
struct link_target {
	const char *name; /* it must call itself so; NULL = whatever it is called */
	const char *address;
	uint16_t port;
	unsigned purpose;    /* enum link_purpose, perhaps with LINK_OFFERS_RDMA */
	const char *subject; /* VM name for LINK_DATA and LINK_DISK, else NULL */
};

/* What the other side proved or claimed in the handshake. */
struct link_peer {
	char name[LINK_NAME_MAX + 1];    /* its host name, from its mcd.conf */
	char subject[LINK_NAME_MAX + 1]; /* VM name for LINK_DATA and LINK_DISK, else "" */
	enum link_purpose purpose;
	bool offers_rdma;  /* accepting: it sends an offer of RDMA first */
	uint64_t instance; /* random per mcd process: tells a restart */
};

/* Reads the key file (binary or text, as mcctl keygen wrote it); refuses a file that others can
 * read, and names the cure. */
int link_key_load(const char *path, struct link_key *ret, struct mc_error *err);
/* Makes a new random key file, mode 0600; fails if the file exists. */
int link_key_create(const char *path, struct mc_error *err);

/* Listens on exactly this numeric address and port.  Returns the descriptor (non-blocking,
 * close-on-exec, SO_REUSEADDR). */
int link_listen(const char *address, uint16_t port, struct mc_error *err);

/* Connects and authenticates.  Returns the connected descriptor, blocking, with TCP_NODELAY.
 * ret_peer may be NULL. */
int link_connect(const struct link_self *self, const struct link_target *to, uint64_t deadline,
	struct link_peer *ret_peer, struct mc_error *err);

/* The acceptor's half, on an accepted descriptor (which stays the caller's, also on failure). */
int link_accept(int fd, const struct link_self *self, uint64_t deadline, struct link_peer *ret_peer,
	struct mc_error *err);

/* Whole-buffer I/O on a blocking or non-blocking stream socket, bounded by the deadline.
 * -ETIMEDOUT, -ECONNRESET (also for end of stream in the middle), -ENODATA (end of stream before
 * the first byte), -EINTR when wake_fd (or -1) became readable before the first byte. */
int link_read(int fd, void *buf, size_t len, uint64_t deadline, int wake_fd);
int link_write(int fd, const void *buf, size_t len, uint64_t deadline);
