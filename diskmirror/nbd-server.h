/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NBD server on a unix socket: one thread per connection, each request answered before the next
 * one is read.  What the requests do is the owner's (struct nbd_ops).
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_CONNECTIONS_MAX 64 /* more are closed at once: each may hold a request in memory */

struct nbd_server;

struct nbd_export {
	const char *name;
	uint64_t size;
};

/* Called from the connections' threads, several at a time, with ranges that were checked.  0, or a
 * negative errno: -ESHUTDOWN closes the connection without an answer, all others answer EIO. */
struct nbd_ops {
	/* data (from malloc) is taken over, also on failure. */
	int (*write)(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *data);
	/* The range reads as zeroes from now on; trim: and need not occupy space. */
	int (*zero)(void *ctx, unsigned export, uint64_t offset, uint32_t length, bool trim);
	int (*read)(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *buf);
	/* The client may go on without something that it wanted to write: a write was refused or
	 * failed, or a connection that has written ended without a goodbye.  Perhaps more than
	 * once. */
	void (*lost)(void *ctx, unsigned export);
};

/* Binds and listens (mode 0600; a stale socket of that name is replaced); nobody is served before
 * nbd_server_start.  The exports' names must outlive the server. */
int nbd_server_new(const char *path, const struct nbd_export *exports, size_t n_exports,
	const struct nbd_ops *ops, void *ctx, struct nbd_server **ret, struct mc_error *err);
int nbd_server_start(struct nbd_server *s, struct mc_error *err);
/* Every connection is closed under its client and there will be no new one.  Never waits; from any
 * thread, also from an op, also more than once. */
void nbd_server_shut(struct nbd_server *s);
/* nbd_server_shut, ends the threads (an op that waits must be made to return by the owner), removes
 * the socket.  NULL is fine. */
void nbd_server_free(struct nbd_server *s);
unsigned nbd_server_connections(struct nbd_server *s);
