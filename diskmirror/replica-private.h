/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The standby's side, inside.  Who touches what:
 *
 *   receiver   takes messages, appends to the newest epoch while it is not ended, applies epoch 0
 *   sender     computes the digest table, sends it, answers to READs and the farewell
 *   VM thread  everything else; only it removes epochs
 *
 * Locks: `lock` for the members below it, held for a moment; `files` while an epoch goes into the
 * files or a READ looks at them, so that a READ finds each epoch either held or applied whole.
 * `files` before `lock`.
 */
#pragma once
#include "diskmirror/held.h"
#include "diskmirror/journal.h"
#include "diskmirror/replica-io.h"
#include "diskmirror/replica-state.h"
#include "diskmirror/replica.h"

#include "common/clock.h"

#include <pthread.h>

#define MESSAGE_TIME  (30 * MC_SEC) /* for a message that has begun, either way */
#define FAREWELL_TIME (2 * MC_SEC)
#define ANSWERS_MAX   (64ull << 20) /* bytes of answers to READs waiting to be sent */
#define AHEAD_MAX     2             /* epochs after the committed one: one ended, one running */

struct answer {
	struct answer *next;
	struct disk_header h;
	uint8_t data[];
};

struct replica {
	struct replica_config c; /* strings and disks copied, see replica_open */
	struct disklink *link;
	struct disk_hello hello;
	struct diskfile files_[DISKS_MAX]; /* in the order of the HELLO */
	struct diskio *io;                 /* the VM thread's */
	struct diskio *sync_io;            /* the receiver's */
	struct journal *journal;
	struct replica_state state;
	pthread_t receiver, sender;
	bool started;
	int kick;        /* eventfd: an END was received, or something broke */
	bool unhardened; /* the files have writes that no hardening has covered */
	pthread_mutex_t files;

	pthread_mutex_t lock;
	pthread_cond_t changed;   /* answers, error, stop */
	struct mc_error error;    /* code 0: all is well */
	bool tell;                /* the primary is told about it */
	bool disk_failed;         /* the files cannot be trusted any more, */
	struct mc_error disk_why; /* as this says */
	bool stop, told_broken;
	struct held_epoch *epochs; /* oldest first; all but the last have ended */
	/* the first epoch has come: committed and ended mean something */
	bool numbered;
	uint64_t committed, ended;
	struct answer *answers, **answers_tail;
	uint64_t answers_bytes;
	struct replica_stats stats;
};

/* The first error stays.  From any thread. */
void replica_break(struct replica *r, const struct mc_error *why, bool tell);
/* replica-setup.c: HELLO, files, state and journal; answers HELLO_OK. */
int replica_setup(struct replica *r, uint64_t deadline, struct mc_error *err);
int replica_mark(
	struct replica *r, enum replica_trust trust, uint64_t generation, struct mc_error *err);
/* replica-receive.c, replica-send.c: the threads. */
void *replica_receiver(void *replica);
void *replica_sender(void *replica);
/* replica-read.c: the content of a range with all that is held, as an answer. */
int replica_read(struct replica *r, const struct disk_header *h, struct mc_error *err);
/* One message; data may be NULL. For the thread that sends. */
int replica_send(struct disklink *link, struct disk_header *h, const void *data, uint64_t deadline,
	struct mc_error *err);

/* replica-table.c */
struct table {
	struct replica *r;
	struct disk_hash *hash;
	size_t disk;
	uint64_t at, data_until, hole_until; /* what is known about the bytes from `at` on */
	uint8_t *blocks, *entries;
};
int table_open(struct table *t, struct replica *r, struct mc_error *err);
void table_close(struct table *t);
/* Fills h and t->entries with the next part. 0: there is no more. */
int table_next(struct table *t, struct disk_header *h);
