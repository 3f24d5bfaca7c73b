/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Three voters in one process, over real TCP on the loopback of an own network namespace. */
#pragma once
#include "failover/vote.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define HOSTS 3
#define VM    "vm1"

enum { A, B, C };

extern const struct link_key key;
extern struct voter_peer peers[HOSTS];
extern char root[64]; /* of the hosts' state directories */

struct host {
	unsigned index;
	bool mute; /* accepts and authenticates, then says nothing: power was cut */
	struct voter *voter;
	int listener;
	atomic_bool stop;
	pthread_t thread;
	struct connection *connections;
	atomic_ullong learned; /* highest generation the callback told */
	uint64_t heard;
	atomic_bool gate_closed;
	char dir[80];
};
extern struct host hosts[HOSTS];

/* Before all else, once: a network of our own. False: not possible here. */
bool rig_enter(void);
/* cmocka's, of each test: three connected voters with empty disks. */
int rig_setup(void **state);
int rig_teardown(void **state);

uint64_t in_ms(unsigned ms);
int host_open(unsigned i, const struct voter_peer *voters, size_t n);
void host_listen(unsigned i);
void host_start(unsigned i);
void host_stop(unsigned i);
/* From now on the others see a host that is connected and never answers. */
void host_mute(unsigned i);
bool wait_connected(unsigned i, size_t n);
void wait_known(unsigned i, uint64_t generation);

struct own_record rec(uint64_t g, const char *owner, const char *standby);
int propose(unsigned i, uint64_t g, const char *owner, const char *standby, unsigned ms,
	struct own_record *ret, struct mc_error *err);

#define must_win(i, g, owner, standby)                                                             \
	do {                                                                                       \
		struct own_record got_;                                                            \
		struct mc_error err_ = MC_ERROR_INIT;                                              \
		int r_ = propose(i, g, owner, standby, 5000, &got_, &err_);                        \
		if (r_)                                                                            \
			fail_msg("line %d: %d %s", __LINE__, r_, err_.msg);                        \
		struct own_record want_ = rec(g, owner, standby);                                  \
		assert_memory_equal(&got_, &want_, sizeof got_);                                   \
	} while (0)
