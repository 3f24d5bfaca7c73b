/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Several hosts in one process that send each other keep-alives, at 127.0.0.1 and on. */
#pragma once
#include "common/clock.h"
#include "mcd/wire/keepalive-private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define INTERVAL (50 * MC_MSEC) /* less, and a busy machine is late now and then */
#define MISSES   5
#define LIMIT    (INTERVAL * MISSES)
#define PORT     7801
#define HOSTS    4

extern const struct link_key hosts_key;

struct event {
	char peer[LINK_NAME_MAX + 1];
	bool alive;
	uint64_t at, last_heard;
};

struct host {
	int index;
	char name[20], address[24];
	int listener;
	pthread_t acceptor;
	_Atomic bool leaving;
	struct keepalive *k;
	pthread_mutex_t lock;
	struct event events[64];
	size_t n_events;
	int conns[32];
	pthread_t servers[32];
	size_t n_conns;
};

/* Host i of n, 127.0.0.(i+1); the others are its peers. */
void host_up(struct host *h, int i, int n);
void host_down(struct host *h);

/* The n-th event of that kind about that peer, waited for. */
struct event wait_event(
	struct host *h, const char *peer, bool alive, unsigned nth, uint64_t deadline);
size_t count_events(struct host *h, const char *peer, bool alive);
void assert_suspected_in_time(const struct event *e);
uint64_t soon(void);
