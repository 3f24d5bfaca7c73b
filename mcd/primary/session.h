/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One protection of a VM, on its primary, and the epoch that runs in it.  Belongs to the VM's
 * thread.
 *
 * Lives from `protect` to the end of the protection: the session.  Lives for one epoch, and is
 * cleared when the next begins: session.e.  The buffers are the session's, so that an epoch finds
 * its memory where the last one left it.
 */
#pragma once
#include "common/error.h"
#include "failover/decide.h"
#include "failover/timing.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/guest/ramblocks.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"
#include "mcd/wire/slab.h"
#include "mcd/wire/transport.h"

#include <stdbool.h>
#include <stdint.h>

struct epoch {
	uint64_t n;                  /* 1 is the first */
	const char *step;            /* name of the step that runs, or failed */
	bool urgent;                 /* it is to end now: a call waits, or held output piles up */
	bool under_way;              /* sent, or being sent, and not acknowledged yet */
	enum wire_guest guest_state; /* at its end */
	size_t devices_len;
	struct disk_epoch_sum disk_sum;
	struct wire_epoch_digest digest;
	struct wire_commit commit;
	uint8_t commit_buf[64];
	uint64_t send_began;
	uint64_t step_ns[STEP_MAX];
};

struct session {
	struct vm *vm;
	char peer[LINK_NAME_MAX + 1];
	uint64_t generation;    /* of the record {self, peer} that this session runs under */
	struct transport *link; /* NULL once it is given up */
	struct ramblocks ram;
	struct dirty *dirty;
	struct slab_pool *pool;
	struct timing timing;

	/* the newest epoch of which that is true, 0 = none; released <= acked */
	uint64_t acked, released;
	uint64_t tick_at; /* when the running epoch is due to end */
	uint64_t pause_began;
	bool holding;     /* output is held: from here on only a vote ends the session */
	bool stay_paused; /* RESUME does nothing: the last checkpoint before a move */
	bool powered_off; /* the guest is; one more epoch has its last words */
	enum session_end end;
	uint64_t lost_before; /* frames of the guest's output, before it was held */

	struct {                         /* disks.c's */
		struct mirror *mirror;   /* NULL if the VM has none */
		struct flusher *flusher; /* of their images on this host; may be NULL */
		uint64_t flush_ns;       /* how long that took last */
		uint64_t flushes;        /* of the guest, when INSPECT asked last */
		bool flushed;            /* ... and there were more than the time before */
	} disks;
	struct verify *verify; /* mcctl verify is under way */

	/* buffers */
	struct dirty_list list;
	struct slab *slabs, **slabs_tail;
	uint8_t *devices;
	size_t devices_cap;

	struct epoch e;
};

/* Ends the session for that reason, unless it has one already; fills err and returns code. */
int session_ends(struct session *s, enum session_end end, struct mc_error *err, int code,
	const char *cls, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* The same for an error that err has already; returns r. */
int session_fails(struct session *s, enum session_end end, int r);

/* Of max-buffer what is for memory. */
uint64_t session_memory(const struct vm *vm);
