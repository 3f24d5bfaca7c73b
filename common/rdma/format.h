/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What two ends say to each other to get an RDMA connection and to share it.  The layout is at the
 * head of format.c; only common/rdma/ and its tests include this. */
#pragma once
#include "common/error.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RD_VERSION    1
#define RD_TOKEN_SIZE 16

/* Capabilities.  What an end does not know of the other's it drops; a connection has what both
 * know. */
#define RD_CAP_STREAM 0x0001u /* a byte stream goes over the connection */
#define RD_CAPS       RD_CAP_STREAM

enum rd_agree_type { RD_OFFER = 1, RD_ANSWER = 2, RD_VERDICT = 3 };

#define RD_AGREE_SIZE  256
#define RD_REASON_SIZE 208

struct rd_agree { /* over TCP */
	enum rd_agree_type type;
	bool no; /* rather not, and reason says why */
	uint16_t caps;
	uint16_t port;           /* of a yes in an ANSWER, with the next two */
	struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
	uint8_t token[RD_TOKEN_SIZE];
	char reason[RD_REASON_SIZE];
};

void rd_put_agree(uint8_t buf[RD_AGREE_SIZE], const struct rd_agree *a);
/* Accepts only that type. -EPROTO, or -EPROTONOSUPPORT for another version. */
int rd_get_agree(const uint8_t buf[RD_AGREE_SIZE], enum rd_agree_type type, struct rd_agree *ret,
	struct mc_error *err);

#define RD_HELLO_SIZE 48
#define RD_SLOTS_MIN  16u
#define RD_SLOTS_MAX  4096u

struct rd_hello { /* the connection's private data, both ways */
	uint16_t caps;
	uint32_t slots; /* receives that are posted from the beginning; 0 without RD_CAP_STREAM */
	uint32_t rkey;  /* of the sender's region */
	uint64_t addr, size;
	uint8_t token[RD_TOKEN_SIZE];
};

void rd_put_hello(uint8_t buf[RD_HELLO_SIZE], const struct rd_hello *h);
/* len: librdmacm pads, so there may be more. -EPROTO, or -EPROTONOSUPPORT. */
int rd_get_hello(const uint8_t *buf, size_t len, struct rd_hello *ret, struct mc_error *err);

#define RD_REJECT_SIZE 136

/* The private data of a rejection: why. */
void rd_put_reject(uint8_t buf[RD_REJECT_SIZE], const char *reason);
void rd_get_reject(const uint8_t *buf, size_t len, char ret_reason[RD_REASON_SIZE]);

#define RD_CONTROL_SIZE 24
#define RD_SLOT_SIZE    4096u /* of a control message at most */

enum rd_control_type {
	RD_INLINE = 1, /* `length` bytes of the stream follow */
	RD_PLACED = 2, /* `length` bytes of the stream are in the ring, by `repeat` RDMA WRITEs */
	RD_CREDIT = 3, /* nothing but the two counters */
};

struct rd_control { /* a SEND of the stream begins with it */
	uint32_t length;
	uint16_t type, repeat;
	uint64_t freed;  /* bytes that its sender has taken out of its ring, since the beginning */
	uint32_t posted; /* receives that its sender has posted, likewise, modulo 2^32 */
};

void rd_put_control(uint8_t buf[RD_CONTROL_SIZE], const struct rd_control *c);
/* size: of the whole SEND.  -EPROTO.  Whether the counters fit the connection is the caller's to
 * check. */
int rd_get_control(const uint8_t *buf, size_t size, struct rd_control *ret, struct mc_error *err);
