/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files of the mirror: mirror.c (life), mirror-queue.c (what waits to be sent),
 * mirror-nbd.c (what QEMU's requests do), mirror-table.c (what the standby has already),
 * mirror-link.c (the two threads of the link), mirror-fail.c (how it breaks).
 *
 * One lock covers everything that changes.  Never held while anything is hashed, copied, sent or
 * received, nor while the owner is called: a barrier must not wait for those.
 */
#pragma once
#include "diskmirror/mirror.h"
#include "diskmirror/nbd-server.h"
#include <pthread.h>

/* A message that waits.  Those of one request share its payload; the last of them owns it, which is
 * enough because the queue is sent and freed in order. */
struct mirror_item {
	struct mirror_item *next;
	struct disk_header h;
	const void *data; /* of h.length bytes, NULL = no payload */
	void *owned;
	uint64_t cost; /* memory, with what is owned */
	bool waits;    /* an END whose mirror_end has not been called: nothing may pass it */
	uint8_t header[DISK_HEADER_SIZE];
};

/* A READ of QEMU's that the standby has not answered. */
struct mirror_read {
	struct mirror_read *next;
	struct disk_header h;
	void *buf;
	enum { MIRROR_READ_QUEUED, MIRROR_READ_FILLING, MIRROR_READ_DONE } state;
};

#define MIRROR_SEND_PIECE (256u << 10) /* bytes that are sent in one go, and are worth it */

struct mirror_table;

#define MIRROR_EXTENTS_MAX 4096u
struct mirror_extents {
	bool all; /* there were too many to remember */
	size_t n;
	struct {
		uint16_t disk;
		uint64_t offset, length;
	} v[MIRROR_EXTENTS_MAX];
};

struct mirror {
	/* Set once */
	struct disk_hello hello;
	uint64_t budget, stall_after;
	void (*broken_fn)(void *ctx);
	void (*pressure_fn)(void *ctx);
	void *ctx;
	struct disklink *link;
	struct nbd_server *server;
	struct disk_hash *hash;
	pthread_t sender, receiver;
	bool sender_runs, receiver_runs;

	pthread_mutex_t lock;
	pthread_cond_t work; /* for the sender: there is something, or it is over */
	/* for NBD's threads: something was sent, a READ is answered, it is over */
	pthread_cond_t done;

	bool broken, closing;
	struct mc_error error;

	/* What the sender is to be woken for, besides the end. */
	enum { MIRROR_WAITS_NOT, MIRROR_WAITS_FOR_ANY, MIRROR_WAITS_FOR_MORE } sender_waits;
	uint64_t hurry_to; /* until so much has left the queue somebody waits for it */

	struct mirror_item *head, **tail;
	struct mirror_item *open_end; /* END in the queue that waits for mirror_end */
	uint64_t in_total, out_total; /* costs of all that ever entered and left the queue */
	struct mirror_read *reads, **reads_tail;

	uint64_t epoch; /* 0 while synchronising */
	struct disk_epoch_sum sum;
	struct disk_digest digest;
	bool pressed;                           /* the owner was told in this epoch */
	struct mirror_table *tables[DISKS_MAX]; /* NULL once synchronised */

	struct mirror_stats stats;

	/* For mirror_touched: of the running epoch, and of the one before; NULL unless watched. */
	struct mirror_extents *running, *closed;
};

/* mirror-fail.c: the first call's reason stays; shuts link and server, rings.  Without the lock. */
void mirror_fail(struct mirror *m, int code, const char *cls, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* mirror-queue.c.  data of length h->length, or NULL.  Computes the payload's digest. */
struct mirror_item *mirror_item_new(const struct disk_header *h, const void *data);
void mirror_items_free(struct mirror_item *first);
/* Under the lock.  Somebody waits for what is in the queue: nothing lingers there. */
void mirror_queue_hurry(struct mirror *m);
/* Under the lock.  Tags with the running epoch and counts.  Returns what mirror_queue_wait takes.
 */
uint64_t mirror_queue_add(struct mirror *m, struct mirror_item *i);
/* True once in an epoch, when the owner should be told of pressure (without the lock). Under the
 * lock. */
bool mirror_queue_presses(struct mirror *m);
/* Until what was added by then fits into the budget.  -ESHUTDOWN: the mirror broke. Without the
 * lock. */
int mirror_queue_wait(struct mirror *m, uint64_t position);

/* mirror-touched.c, under the lock */
void mirror_extents_add(struct mirror_extents *x, const struct disk_header *h);

/* mirror-nbd.c */
extern const struct nbd_ops mirror_nbd_ops;

/* mirror-table.c; all but new and free under the lock. */
struct mirror_table *mirror_table_new(uint64_t size, const struct disk_hash *hash);
void mirror_table_free(struct mirror_table *t);
void mirror_table_store(struct mirror_table *t, uint64_t first, size_t n, const uint8_t *digests);
/* NULL: not known, or void because something was sent to that block. */
const uint8_t *mirror_table_get(const struct mirror_table *t, uint64_t block);
const uint8_t *mirror_table_zero(const struct mirror_table *t, uint64_t block);
void mirror_table_void(struct mirror_table *t, uint64_t offset, uint64_t length);

/* mirror-link.c */
int mirror_say_hello(struct mirror *m, uint64_t deadline, struct mc_error *err);
void *mirror_send_thread(void *m);
void *mirror_receive_thread(void *m);
