/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of evilpeer: how it talks, and the misdeeds of either role. */
#pragma once
#include "common/clock.h"
#include "common/link.h"
#include "common/log.h"
#include "mcd/config/config.h"
#include "mcd/wire/slab.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>

struct evil {
	const char *vm, *peer, *misdeed;
	struct config cfg;
	struct link_key key;
	const struct config_host *self;
	struct wire_hello hello; /* a correct one, for this VM */
	int fd;                  /* the LINK_DATA connection */
	bool gone;               /* the peer closed it while we were sending */
	uint64_t generation;     /* of the session */
	uint64_t acks, at;       /* at: when the misdeed was done */
};

extern struct mc_error evil_err;
void evil_die(const char *what) __attribute__((noreturn)); /* prints evil_err */

void evil_send(struct evil *e, const void *data, size_t len);
struct wire_header evil_header(
	const struct evil *e, uint16_t type, uint64_t epoch, const void *payload, size_t len);
void evil_message(struct evil *e, const struct wire_header *h, const void *payload);
void evil_patched(struct evil *e, const struct wire_header *h, size_t at, const void *bytes,
	size_t n, const void *payload, size_t len);
int evil_recv(struct evil *e, struct wire_header *h, void *buf, size_t cap, uint64_t deadline);
void evil_did(struct evil *e);
void evil_end(struct evil *e, uint64_t patience);

struct evil_misdeed {
	const char *name;
	void (*run)(struct evil *e);
	bool before_hello; /* the misdeed is the greeting, or instead of it */
	int patience;      /* seconds; 0: 2, the promise */
};
/* Tables of what a primary may do, each ended by an entry without a name. */
extern const struct evil_misdeed evil_hellos[]; /* evilhello.c: the greeting */
extern const struct evil_misdeed evil_bytes[];  /* evilbytes.c: one message */
extern const struct evil_misdeed evil_order[];  /* evilorder.c: the sequence of messages */
void evil_hello(struct evil *e, const struct wire_hello *w);
void evil_half_slab(struct evil *e);

/* evilprimary.c: a primary that does it right. */
extern uint8_t
	evil_page[WIRE_RANGE_SIZE + WIRE_PAGE_SIZE]; /* a slab of one page; see evil_one_page */
extern const uint8_t evil_state[1000]; /* nobody looks at device state before a takeover */
size_t evil_one_page(uint32_t block, uint32_t flags, uint64_t off, uint64_t len);
void evil_bare(struct evil *e, uint16_t type, uint64_t epoch);
void evil_slab(struct evil *e, uint64_t epoch);
void evil_devices(struct evil *e, uint64_t epoch, size_t len);
struct wire_commit evil_honest(const struct evil *e, uint64_t epoch);
void evil_commit(struct evil *e, uint64_t epoch, const struct wire_commit *c);
void evil_epoch(struct evil *e, uint64_t n); /* a whole one, and its ACK */

int evil_primary(struct evil *e);
void evil_primary_list(void);
int evil_standby(struct evil *e);
void evil_standby_list(void);
