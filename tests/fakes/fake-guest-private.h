/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the fake guest. */
#pragma once
#include "tests/fakes/fake-guest.h"

#include "mcd/guest/ops.h"
#include <pthread.h>

#define EVENTS_MAX 64

struct fake_block {
	char id[RAMBLOCK_ID_MAX + 1];
	uint64_t size;
	int fd;
	uint8_t *map;
	bool *dirty; /* of each page, while it is tracked */
};

struct fake_guest {
	struct guest guest;
	struct fake_guest *next; /* the one launched before */
	char vm[64];
	pthread_mutex_t lock;

	size_t n_blocks;
	struct fake_block block[RAMBLOCKS_MAX];
	struct dirty *tracker;
	struct roms roms;

	bool dead, freed;
	bool running;
	bool incoming; /* and was not activated yet */
	bool stay_stopped;
	enum guest_event why;          /* it stands: SHUTDOWN, PANICKED or STOPPED */
	bool standing, ran, was_reset; /* as in struct qemu */
	enum guest_event events[EVENTS_MAX];
	size_t n_events;

	uint8_t *devices, *activated;
	size_t devices_len, activated_len;
	struct guest_inventory inventory;
	uint64_t disk_size, flushes;
	struct guest_mirror mirror;
	char mirrored[CONFIG_DISKS_MAX][64];

	void (*hook)(void *ctx, struct guest *g, enum fake_guest_op op);
	void *hook_ctx;
	struct {
		unsigned skip, calls;
		int code;
	} op[FAKE_GUEST_OP_MAX];
	char *log;
	size_t log_len;
};

extern const struct guest_ops fake_guest_ops;

static inline struct fake_guest *fake_of(struct guest *g)
{
	return (struct fake_guest *)g;
}

/* Writes the call down and returns with the lock. */
struct fake_guest *fake_begin(struct guest *g, enum fake_guest_op op);
/* What becomes of it: 0, or the failure that the test wished, or that of a dead one. */
int fake_verdict(struct fake_guest *f, enum fake_guest_op op, struct mc_error *err);
/* Gives the lock back, and r. */
int fake_end(struct fake_guest *f, int r);
/* With the lock. */
void fake_push(struct fake_guest *f, enum guest_event ev);
void fake_end_process(struct fake_guest *f);
