/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The primary's side: an NBD server that QEMU's mirror jobs write to, answered from memory, and the
 * stream that carries every write on to the standby at once, tagged with the running epoch.
 *
 * Threads: one accepts NBD connections, one serves each, one sends, one receives from the
 * standby.  The functions here are for the VM's thread, except mirror_get_stats (any).
 *
 * A write that QEMU may be going on without (refused, failed, or its connection ended without a
 * goodbye) breaks the mirror: look at mirror_error, or at what mirror_end returns, before a
 * commit.
 */
#pragma once
#include "diskmirror/disklink.h"
#include "diskmirror/stream.h"
#include <stdbool.h>

struct mirror;

struct mirror_config {
	/* unix socket made for QEMU, mode 0600, removed by mirror_close */
	const char *socket_path;
	const struct disk_hello *hello;
	/* bytes of writes in memory that the standby has not been sent yet; beyond it NBD answers
	 * wait, which makes the guest's writes wait */
	uint64_t budget;
	/* ns that a write may wait, or the link make no progress, before all NBD connections are
	 * closed: QEMU's jobs end and the guest goes on */
	uint64_t stall_after;
	/* Called once, from a thread of the mirror, when it broke (see mirror_error).  Must only
	 * ring. */
	void (*broken)(void *ctx);
	/* Called when the writes of the running epoch passed half of the budget: it should end
	 * early. */
	void (*pressure)(void *ctx);
	void *ctx;
};

struct mirror_stats {
	uint64_t requests, written_bytes; /* NBD, since the start */
	uint64_t sent_bytes;              /* to the standby, payloads and headers */
	/* of the synchronisation: the standby had them already */
	uint64_t skipped_bytes;
	uint64_t queued_bytes, queued_peak; /* in memory now, at most so far */
	uint64_t epoch_bytes;               /* of the running epoch */
	unsigned connections;
};

/* Says HELLO, waits for HELLO_OK by the deadline, starts the threads.  Takes over link (also on
 * failure). */
int mirror_open(const struct mirror_config *c, struct disklink *link, uint64_t deadline,
	struct mirror **ret, struct mc_error *err);
/* Ends everything, closing NBD connections at once.  Cancel QEMU's jobs before if it answers. */
void mirror_close(struct mirror *m);

/* Until mirror_begin writes are those of the synchronisation: whole blocks that the standby's table
 * says it has are not sent.  From then on every write belongs to `epoch`. */
void mirror_begin(struct mirror *m, uint64_t epoch);
/* The guest is stopped and QEMU has drained: everything NBD has received is epoch n.  The next
 * write belongs to n + 1.  Nothing waits here: a few microseconds. */
void mirror_barrier(struct mirror *m, uint64_t n, struct disk_epoch_sum *ret);
/* Sends the END of epoch n, whose barrier was; flushed: the guest may have flushed in it. */
int mirror_end(struct mirror *m, uint64_t n, bool flushed, struct mc_error *err);
/* From the next barrier on, what an epoch writes is remembered, for mirror_touched. */
void mirror_watch(struct mirror *m, bool on);
/* Whether the epoch that the last barrier closed wrote to that range, as far as can be told. */
bool mirror_touched(struct mirror *m, size_t disk, uint64_t offset, uint64_t length);
/* 0 while all is well; else why it broke (-ETIMEDOUT: stalled). */
int mirror_error(struct mirror *m, struct mc_error *err);
void mirror_get_stats(struct mirror *m, struct mirror_stats *ret);
