/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hostB, at the other end of the stream: takes what it is sent, checks that it adds up, and
 * answers. */
#pragma once
#include "mcd/wire/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rig;

enum far_moment {
	FAR_HELLO,
	FAR_SYNC_END,
	FAR_COMMIT, /* epoch n is here whole; far.answer is the ACK that it will get */
	FAR_ACKED,  /* ... and was sent */
	FAR_PROTECTED,
	FAR_HANDOVER,
	FAR_DISCARD,
	FAR_END, /* the stream has ended */
};

struct far {
	struct transport *t;
	pthread_t thread;
	bool running;
	/* For the test, at a moment: the answer that is to be sent; no answer to this one; hang
	 * up instead. */
	struct wire_header answer;
	bool silent, hang_up;
	atomic_uint_fast64_t taken; /* messages */
	/* of the session */
	uint64_t generation, epoch; /* the newest that was committed */
	unsigned rounds;            /* of the synchronisation */
	struct wire_epoch_digest digest;
	struct wire_commit sum, commit; /* of the epoch under way; the newest COMMIT */
	uint32_t flags;
	size_t n_blocks;
	uint64_t sizes[WIRE_BLOCKS_MAX];
	uint8_t *image[WIRE_BLOCKS_MAX];  /* as of the newest epoch, once that is committed */
	struct wire_verify_range *verify; /* asked for with the epoch under way, WIRE_VERIFY_MAX */
	size_t n_verify;
	uint64_t verified; /* ranges that were compared, and are equal */
};

void far_start(struct rig *r);
void far_join(struct rig *r);
/* What the guest's count is in the image. */
uint64_t far_count(const struct far *f);
/* Where in memory the guest has its count. */
#define FAR_COUNT_AT 4096
