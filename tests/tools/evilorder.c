/* SPDX-License-Identifier: GPL-2.0-or-later */
/* evilpeer as a primary whose messages are right, each by itself, and wrong where they stand. */
#include "evil.h"

#include <xxhash.h>

/* --- the order of messages --- */

static void epoch_gap(struct evil *e)
{
	evil_slab(e, 2);
}

static void epoch_zero(struct evil *e)
{
	evil_slab(e, 0);
}

static void epoch_gap_later(struct evil *e)
{
	evil_epoch(e, 1);
	evil_slab(e, 3);
}

static void epoch_repeated(struct evil *e)
{
	evil_epoch(e, 1);
	evil_slab(e, 1);
}

static void epoch_mixed(struct evil *e)
{
	evil_slab(e, 1);
	evil_devices(e, 2, sizeof evil_state);
}

static void other_generation(struct evil *e)
{
	e->generation++;
	evil_slab(e, 1);
}

static void sync_other_generation(struct evil *e)
{
	e->generation--;
	evil_bare(e, WIRE_SYNC_END, 0);
}

static void slab_after_devices(struct evil *e)
{
	evil_devices(e, 1, sizeof evil_state);
	evil_slab(e, 1);
}

static void devices_twice(struct evil *e)
{
	evil_devices(e, 1, sizeof evil_state);
	evil_devices(e, 1, sizeof evil_state);
}

static void devices_empty(struct evil *e)
{
	evil_devices(e, 1, 0);
}

static void sync_after_commit(struct evil *e)
{
	evil_epoch(e, 1);
	size_t n = evil_one_page(0, 0, 0, WIRE_PAGE_SIZE);
	struct wire_header h = evil_header(e, WIRE_SYNC, 0, evil_page, n);
	evil_message(e, &h, evil_page);
}

static void endless_epoch(struct evil *e)
{
	/* Each is staged in a slab of 5 MiB of its own. */
	for (int i = 0; i < 5000 && !e->gone; i++)
		evil_slab(e, 1);
}

static void second_hello(struct evil *e)
{
	evil_hello(e, &e->hello);
}

static void ack_from_primary(struct evil *e)
{
	evil_bare(e, WIRE_ACK, 1);
}

static void hello_ok_from_primary(struct evil *e)
{
	evil_bare(e, WIRE_HELLO_OK, 0);
}

/* --- COMMIT --- */

static void commit_of(
	struct evil *e, int64_t slabs, int64_t bytes, int64_t device_bytes, uint64_t digest)
{
	struct wire_commit c = evil_honest(e, 1);
	c.slabs += (uint64_t)slabs;
	c.bytes += (uint64_t)bytes;
	c.device_bytes += (uint64_t)device_bytes;
	c.digest ^= digest;
	evil_slab(e, 1);
	evil_devices(e, 1, sizeof evil_state);
	evil_commit(e, 1, &c);
}

static void commit_slabs(struct evil *e)
{
	commit_of(e, 1, 0, 0, 0);
}

static void commit_bytes(struct evil *e)
{
	commit_of(e, 0, -1, 0, 0);
}

static void commit_device_bytes(struct evil *e)
{
	commit_of(e, 0, 0, 1, 0);
}

static void commit_digest(struct evil *e)
{
	commit_of(e, 0, 0, 0, 1);
}

static void commit_absurd(struct evil *e)
{
	commit_of(e, INT64_MAX, 0, 0, 0);
}

static void commit_without_devices(struct evil *e)
{
	struct wire_epoch_digest d;
	evil_slab(e, 1);
	wire_epoch_digest_init(&d, e->generation, 1);
	wire_epoch_digest_add(&d, XXH3_64bits(evil_page, sizeof evil_page), sizeof evil_page);
	evil_commit(e, 1, &(struct wire_commit){1, sizeof evil_page, 0, d.h});
}

static void commit_short(struct evil *e)
{
	evil_slab(e, 1);
	evil_devices(e, 1, sizeof evil_state);
	struct wire_header h = evil_header(e, WIRE_COMMIT, 1, evil_state, 31);
	evil_message(e, &h, evil_state);
}

static void commit_long(struct evil *e)
{
	static const uint8_t zero[WIRE_CONTROL_MAX];
	evil_slab(e, 1);
	evil_devices(e, 1, sizeof evil_state);
	struct wire_header h = evil_header(e, WIRE_COMMIT, 1, zero, sizeof zero);
	evil_message(e, &h, zero);
}

/* --- ownership --- */

static void protected_without_vote(struct evil *e)
{
	evil_epoch(e, 1);
	evil_bare(e, WIRE_PROTECTED, 1);
}

static void handover_without_vote(struct evil *e)
{
	evil_epoch(e, 1);
	evil_bare(e, WIRE_HANDOVER, 1);
}

static void handover_at_once(struct evil *e)
{
	evil_bare(e, WIRE_HANDOVER, 0);
}

static void payload_in_a_bare_message(struct evil *e)
{
	struct wire_header h = evil_header(e, WIRE_PROTECTED, 1, evil_state, 100);
	evil_message(e, &h, evil_state);
}

const struct evil_misdeed evil_order[] = {
	{"epoch-gap", epoch_gap},
	{"epoch-zero", epoch_zero},
	{"epoch-gap-later", epoch_gap_later},
	{"epoch-repeated", epoch_repeated},
	{"epoch-mixed", epoch_mixed},
	{"other-generation", other_generation},
	{"sync-other-generation", sync_other_generation},
	{"slab-after-devices", slab_after_devices},
	{"devices-twice", devices_twice},
	{"devices-empty", devices_empty},
	{"sync-after-commit", sync_after_commit},
	{"endless-epoch", endless_epoch, false, 10},
	{"second-hello", second_hello},
	{"ack-from-primary", ack_from_primary},
	{"hello-ok-from-primary", hello_ok_from_primary},
	{"commit-slabs", commit_slabs},
	{"commit-bytes", commit_bytes},
	{"commit-device-bytes", commit_device_bytes},
	{"commit-digest", commit_digest},
	{"commit-absurd", commit_absurd},
	{"commit-without-devices", commit_without_devices},
	{"commit-short", commit_short},
	{"commit-long", commit_long},
	{"payload-in-a-bare-message", payload_in_a_bare_message},
	{"handover-at-once", handover_at_once},
	{"protected-without-vote", protected_without_vote},
	{"handover-without-vote", handover_without_vote},
	{NULL},
};
