/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The session of one protected VM on its primary: what an epoch works on. Belongs to the VM's thread. */
#pragma once
#include "common/error.h"
#include "failover/timing.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/guest/ramblocks.h"
#include "mcd/wire/slab.h"
#include "diskmirror/mirror.h"
#include "mcd/vm/vm.h"
#include "mcd/wire/transport.h"
#include <stdbool.h>

struct epoch {
	struct vm *vm;
	char peer[LINK_NAME_MAX + 1];
	struct transport *link;
	struct ramblocks ram;
	struct dirty *dirty;
	struct verify *verify; /* mcctl verify is under way */
	struct mirror *mirror; /* of the VM's disks; NULL if it has none */
	struct settle *settle; /* their images on this host; may be NULL */
	uint64_t settle_ns;    /* how long that took last */
	struct slab_pool *pool;
	struct timing timing;
	uint64_t generation; /* of the record {self, peer} that this session runs under */
	uint64_t n;          /* the epoch that runs; 1 is the first */
	enum wire_guest guest_state; /* at its end */
	uint64_t acked;      /* the newest acknowledged epoch, 0 = none */
	uint64_t tick_at;    /* when the running epoch is due to end */
	bool stay_paused;    /* RESUME does nothing: the last checkpoint before a hand-over */
	enum guest_event guest_event; /* why a step returned -ECHILD; SHUTDOWN also while epochs go on */
	const char *step;    /* name of the step that runs, or failed */

	/* the checkpoint in hand */
	struct dirty_list list;
	struct slab *slabs, **slabs_tail;
	struct wire_epoch_digest digest;
	struct wire_commit commit;
	uint8_t commit_buf[64];
	uint8_t *devices;
	size_t devices_cap, devices_len;
	struct disk_epoch_sum disk_sum;
	uint64_t lost_before; /* frames of the guest's output, before it was held */
	uint64_t flushes;    /* of the guest, up to the last epoch */
	bool urgent;         /* the running epoch is to end now: a call waits, or held output piles up */
	uint64_t pause_began, send_began;
	uint64_t step_ns[STEP_MAX];
};

/*
 * Runs one epoch from its TICK to DONE.  0: epoch e->n was acknowledged and its output released.
 * Otherwise nothing of it was released, the guest may still be stopped (guest_paused_by_us), and the caller
 * decides by failover/decide.c:
 *   -EHOSTDOWN  the peer's keep-alives stopped     -ETIMEDOUT  the ACK is overdue
 *   -ECONNRESET and other link errors              -ESTALE     a newer ownership record exists
 *   -ECHILD     the guest ended by itself          -ENOBUFS    output was lost while it was held
 *   others      QEMU or this host failed us
 */
int epoch_run(struct epoch *e, struct mc_error *err);

/* Stops the guest as PAUSE does, which then finds it stopped. */
int epoch_pause(struct epoch *e, struct mc_error *err);

/* RELEASE of the first epoch waits for the ownership vote (protect.c): epoch_run with hold_release
 * stops after ACKED, and this does the rest. */
int epoch_run_until_acked(struct epoch *e, struct mc_error *err);
int epoch_release(struct epoch *e, struct mc_error *err);

/* What waits on the VM's bell, turned into the error codes above; 0 = go on. */
int epoch_listen(struct epoch *e, struct mc_error *err);

/* Copies what is in e->list into slabs; sends early when the budget is reached. capture.c */
int capture_copy(struct epoch *e, struct mc_error *err);
void capture_reset(struct epoch *e); /* gives all slabs back */
int capture_post(struct epoch *e, uint16_t type, struct mc_error *err); /* seals and posts e->slabs */

/* A message without a payload. */
int protect_tell(struct epoch *e, uint16_t type, uint64_t epoch, struct mc_error *err);
/* The disks' connection ended, as err says; if the standby says why on the other one, that is what
 * err says instead. */
void protect_their_word(struct epoch *e, uint64_t timeout_ns, struct mc_error *err);
/* A message that does not belong here: the peer's WIRE_ERROR turned into ours, or a protocol error. */
int protect_unexpected(struct epoch *e, const struct wire_header *h, struct mc_error *err);

/* Sends the firmware: once, it never changes.  Before any WIRE_SYNC_END, where the standby puts it
 * in its place. sync.c */
int sync_roms(struct epoch *e, struct mc_error *err);
/* Initial synchronisation while the guest runs. sync.c */
int sync_rounds(struct epoch *e, struct vm_call *progress, struct mc_error *err);
/* Verbs that arrive while memory is synchronised: stop, unprotect and quit end it (-ECANCELED). protect.c */
int sync_calls(struct epoch *e, struct mc_error *err);
