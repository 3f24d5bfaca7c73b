/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections to all other voters, kept open, and calls over them: one request to many, answers as
 * they come.  Every peer has a thread that connects (again and again, bounded, so that a dead host
 * delays nobody else) and then reads.  Sending never blocks: a peer whose socket is full is dropped
 * and reconnected.  Requests must be idempotent: a call repeats its request on a connection that
 * comes up while it waits.
 */
#pragma once
#include "failover/vote-wire.h"
#include <pthread.h>
#include <time.h>

#define MESH_ALL UINT32_MAX

struct mesh;

struct mesh_config {
	const struct paxos_group *group; /* kept by reference; node numbers are the group's */
	unsigned self;
	const struct voter_peer *voters; /* any order; copied by mesh_open */
	size_t n_voters;
	struct link_self link; /* copied, with what it points to */
	/* From the peer's thread: it is connected now / it answered (after the waiting call got
	 * it). */
	void (*connected)(void *ctx, unsigned node);
	void (*answered)(void *ctx, unsigned node, const struct vote_msg *answer);
	void *ctx;
};

/* One request under way, in the caller's frame between mesh_call_begin and mesh_call_end. */
struct mesh_call {
	struct mesh *mesh;
	struct mesh_call *next;
	pthread_cond_t cond;
	struct vote_msg request;
	uint32_t targets, asked, answered, unread; /* bit per node */
	bool poked;
	struct vote_msg answers[VOTERS_MAX + 1];
};

int mesh_open(const struct mesh_config *cfg, struct mesh **ret, struct mc_error *err);
/* Starts the threads; apart, because the callbacks may need what mesh_open returned. */
int mesh_start(struct mesh *m, struct mc_error *err);
/* Ends every wait, then every thread; bounded by a connect attempt under way. */
void mesh_close(struct mesh *m);
/* The first half of mesh_close: ends every wait with -ESHUTDOWN, and every connection. */
void mesh_shutdown(struct mesh *m);

uint32_t mesh_connected(struct mesh *m); /* bit per node */

/* Sends without waiting for an answer (id 0), to the nodes in `targets` that are connected. */
void mesh_post(struct mesh *m, const struct vote_msg *msg, uint32_t targets);

void mesh_call_begin(struct mesh *m, struct mesh_call *c);
void mesh_call_end(struct mesh_call *c);
/* Sends a request (its id is set here), from now on only answers to this one are delivered. */
void mesh_call_send(struct mesh_call *c, const struct vote_msg *request, uint32_t targets);
/* 1 = an answer, 0 = the deadline passed, -EINTR = poked, -ESHUTDOWN = closing. */
int mesh_call_wait(
	struct mesh_call *c, uint64_t deadline, unsigned *ret_node, struct vote_msg *ret);
/* The same without taking answers. */
int mesh_call_pause(struct mesh_call *c, uint64_t until);
/* Are all connected targets answered? */
bool mesh_call_complete(struct mesh_call *c);
/* Wakes all calls with -EINTR: something they may wait for has become known otherwise. */
void mesh_poke(struct mesh *m);

/* Has a dead peer of an idle connection noticed in seconds (for accepted connections too). */
void mesh_watch_socket(int fd);
