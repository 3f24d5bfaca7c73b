/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM needs of the daemon and of the other hosts, handed to vm_new.  The daemon's is made in
 * hosts/env.c of voters, keep-alives, cluster and links; a unit test makes its own
 * (tests/fakes/world.c).  Read-only, and outlives every VM.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include "diskmirror/disklink.h"
#include "failover/vote.h"
#include "mcd/config/config.h"
#include "mcd/guest/guest.h"
#include "mcd/wire/transport.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The replication stream to another host, and what it goes over. */
struct vm_stream {
	struct transport *link;
	char device[64]; /* the RDMA device; "" = TCP */
	char why[300];   /* why it is not RDMA, where that was looked for */
};

struct vm_env_ops {
	/* The voters (failover/vote.h: voter_known and so on). */
	void (*known)(void *ctx, const char *vm, struct own_record *ret);
	int (*current)(void *ctx, const char *vm, uint64_t deadline, struct own_record *ret,
		struct mc_error *err);
	int (*propose)(void *ctx, const char *vm, const struct own_record *next, uint64_t deadline,
		struct own_record *ret_decided, struct mc_error *err);
	int (*force)(void *ctx, const char *vm, const struct own_record *next,
		struct own_record *ret_decided, struct mc_error *err);
	void (*reachable)(void *ctx, size_t *ret_connected, size_t *ret_total);
	uint64_t (*ask_heard)(void *ctx, const char *host, uint64_t deadline);
	/* The keep-alives (wire/keepalive.h). */
	bool (*suspected)(void *ctx, const char *host);
	uint64_t (*heard_age)(void *ctx, const char *host);
	/* The cluster's gate; and: what is announced of the VMs here has changed (any thread). */
	bool (*quorate)(void *ctx);
	void (*changed)(void *ctx);
	/* An event for the subscribers; steals data; any thread. */
	void (*emit)(void *ctx, const char *event, json_t *data);
	/* Streams.  connect: to that host's mcd, for this VM; buffer: bytes that it is sent from.
	 * welcome: over an accepted connection, which is taken over, also on failure. */
	int (*connect)(void *ctx, const char *vm, const char *host, uint64_t buffer,
		struct vm_stream *ret, struct mc_error *err);
	int (*welcome)(void *ctx, int fd, const struct link_peer *peer, struct vm_stream *ret,
		struct mc_error *err);
	/* The same for the disks' stream beside it, by RDMA if that one is. */
	int (*connect_disk)(void *ctx, const char *vm, const char *host, bool rdma,
		struct disklink **ret, struct mc_error *err);
	int (*welcome_disk)(void *ctx, int fd, const struct link_peer *peer, struct disklink **ret,
		struct mc_error *err);
};

struct vm_env {
	const struct vm_env_ops *ops;
	void *ctx;
	const struct config *cfg;
	const char *netbuf;                /* the backend of every VM's network */
	const struct guest_source *guests; /* where QEMUs come from */
};

static inline bool env_suspected(const struct vm_env *e, const char *host)
{
	return e->ops->suspected(e->ctx, host);
}

static inline bool env_quorate(const struct vm_env *e)
{
	return e->ops->quorate(e->ctx);
}

static inline uint64_t env_heard_age(const struct vm_env *e, const char *host)
{
	return e->ops->heard_age(e->ctx, host);
}

static inline uint64_t env_ask_heard(const struct vm_env *e, const char *host, uint64_t deadline)
{
	return e->ops->ask_heard(e->ctx, host, deadline);
}
