/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A primary that a test scripts message by message, and a replica with two disks to talk to. */
#pragma once
#include "diskmirror/replica.h"

#include "common/clock.h"

#define DISKS      2
#define SIZE0      (1u << 20)
#define SIZE1      (5 * 65536u + 1536) /* its last block is short */
#define GENERATION 7

struct world {
	char dir[64], state[128], journal[128];
	struct replica_disk disks[DISKS];
	struct replica_config c;
	int fd; /* the primary's end */
	struct replica *r;
	struct disk_epoch_sum sum; /* of the running epoch */
	struct disk_digest digest;
	uint64_t running;
	uint64_t align;        /* of what send_random sends; 0: none */
	uint8_t *model[DISKS]; /* what the guest has written */
	int broken;            /* calls of the callback; eventfd below rings */
	int broken_fd;
};

extern const uint64_t disk_size[DISKS];

void world_init(struct world *w); /* directories and configuration; nothing is open yet */
void world_open(struct world *w); /* HELLO, replica_open, HELLO_OK; must succeed */
int world_try(struct world *w, struct mc_error *err);
void world_close(struct world *w);
void world_destroy(struct world *w);

void send_raw(struct world *w, const void *buf, size_t len);
void send_message(struct world *w, struct disk_header h, const void *payload);
void send_hello(struct world *w, uint64_t generation, const char *id0, uint64_t size0);
/* These keep the model and the sum. */
void send_write(
	struct world *w, uint64_t epoch, int disk, uint64_t off, uint64_t len, unsigned seed);
void send_zero(struct world *w, uint64_t epoch, int disk, uint64_t off, uint64_t len, bool trim);
/* One operation at random, of at most max bytes. */
void send_random(struct world *w, uint64_t epoch, unsigned *seed, uint64_t max);
struct disk_epoch_sum send_end(struct world *w, uint64_t epoch, bool flushed);
/* The next message but TABLE parts; the payload is malloc'ed. */
struct disk_header recv_message(struct world *w, uint8_t **payload);
void expect_error(struct world *w, const char *part_of_it);
void wait_broken(struct world *w);

void expect_files(struct world *w, uint8_t *const want[DISKS]);
uint8_t *file_content(const char *path, uint64_t *ret_size);
void copy_model(struct world *w, uint8_t *to[DISKS]);
void free_model(uint8_t *m[DISKS]);
/* wait, harden, apply: all must succeed. */
void commit(struct world *w, uint64_t n, const struct disk_epoch_sum *sum);
uint64_t soon(void);
