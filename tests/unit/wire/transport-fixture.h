/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two ends of a transport of some kind, and what tests do with them. */
#pragma once
#include "mcd/wire/transport.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PATIENCE 60000 /* ms: an emulated host may be slow */

/* UNIX: what TCP's engine does over a socketpair. */
enum kind { UNIX, TCP, RDMA, FAKE };

struct fixture {
	enum kind kind;
	struct transport *a, *b;
	int raw; /* a's end as a bare socket instead of a transport, for hand-made bytes */
	struct rd_stream *raw_rdma; /* the same over RDMA */
};

uint64_t in_ms(unsigned ms);
void socket_pair(enum kind kind, int fd[2]);

void open_pair(struct fixture *f);
void open_raw(struct fixture *f);   /* not of FAKE */
void close_pair(struct fixture *f); /* of either */
void raw_write(struct fixture *f, const void *buf, size_t len);
void raw_close(struct fixture *f);

struct wire_header header(uint16_t type, uint64_t epoch, const void *payload, size_t len);
void post(struct transport *t, uint16_t type, uint64_t epoch, const void *payload, size_t len);
void flush(struct transport *t);
/* The next message, which must be of this type. */
struct wire_header expect(struct transport *t, uint16_t type);
uint8_t *noise(size_t n); /* malloc'd */

/* transport-promises.c: what every transport promises; the fixture of the kind is the state. */
int run_promises(struct fixture *f, const char *name);
