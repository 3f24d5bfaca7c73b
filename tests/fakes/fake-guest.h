/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest without a QEMU, in memory, for the tests of those who ask things of a guest.
 *
 * Its RAM is the memory files that it was launched with.  It runs or stands; what it writes, what
 * happens to it, and what fails is said by the test.  All functions are thread-safe: the code
 * under test may have the guest in another thread.
 */
#pragma once
#include "mcd/guest/guest.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fake_guest_op {
	FAKE_GUEST_LAUNCH,
	FAKE_GUEST_ADOPT,
	FAKE_GUEST_REQUIRE,
	FAKE_GUEST_PING,
	FAKE_GUEST_PAUSE,
	FAKE_GUEST_CONT,
	FAKE_GUEST_STOOD_STILL,
	FAKE_GUEST_RESET,
	FAKE_GUEST_WHY_STOPPED,
	FAKE_GUEST_SAVE,
	FAKE_GUEST_ACTIVATE,
	FAKE_GUEST_STAY_STOPPED,
	FAKE_GUEST_SHUTDOWN,
	FAKE_GUEST_KILL,
	FAKE_GUEST_FREE,
	FAKE_GUEST_OPEN_MEMORY,
	FAKE_GUEST_BRING_RAM,
	FAKE_GUEST_TRACK,
	FAKE_GUEST_COLLECT, /* dirty_collect */
	FAKE_GUEST_PEEK,
	FAKE_GUEST_READ_ROMS,
	FAKE_GUEST_WRITE_ROMS,
	FAKE_GUEST_MIGRATABLE,
	FAKE_GUEST_INVENTORY,
	FAKE_GUEST_SET_TIME,
	FAKE_GUEST_DISK_SIZE,
	FAKE_GUEST_DISK_FLUSHES,
	FAKE_GUEST_MIRROR_BEGIN,
	FAKE_GUEST_MIRROR_LOOK,
	FAKE_GUEST_MIRROR_CHECK,
	FAKE_GUEST_MIRROR_END,
	FAKE_GUEST_MIRROR_YANK,
	FAKE_GUEST_EXPORT_BEGIN,
	FAKE_GUEST_EXPORT_END,
	FAKE_GUEST_OP_MAX,
};
/* "pause", "save", ... */
const char *fake_guest_op_name(enum fake_guest_op op);

/* Instead of guest_qemu.  adopt finds the fake of that VM that was launched last, if it was let
 * go of by guest_free and lives; its taps are /dev/null. */
const struct guest_source *fake_guests_source(void);
/* The last one that was launched for that VM; NULL: none.  It stays, to be looked at, after
 * guest_free. */
struct guest *fake_guest_find(const char *vm);
/* How many were launched. */
unsigned fake_guests_launched(void);
/* Frees all of them, also those that the code under test has forgotten; nobody may have one any
 * more. */
void fake_guests_clear(void);

/* What the guest does.  write: as its CPU would; the pages are found by the next collect. */
void fake_guest_write(struct guest *g, size_t block, uint64_t off, const void *data, size_t len);
/* What happens to it, by whomever else than us, and is told as an event: SHUTDOWN and PANICKED
 * stop it, STOPPED is its administrator's `stop`, RESUMED his `cont`, RESET his reset button.
 * GONE: QEMU ends, and from then on everything that is asked of it fails with -EPIPE. */
void fake_guest_happens(struct guest *g, enum guest_event what);
void fake_guest_die(struct guest *g); /* GONE */

/* What the guest is. */
bool fake_guest_runs(struct guest *g);
bool fake_guest_is_free(struct guest *g); /* guest_free was called */
uint8_t *fake_guest_ram(struct guest *g, size_t block, uint64_t *ret_size);
/* Of all its RAM: equal for equal guests. */
uint64_t fake_guest_digest(struct guest *g);
/* The device state that it was activated with; NULL: it was not. */
const uint8_t *fake_guest_activated(struct guest *g, size_t *ret_len);
const struct roms *fake_guest_roms(struct guest *g);
bool fake_guest_mirrors(struct guest *g, const char *disk);

/* What it will answer.  At first: some device state that names its VM, one device, no firmware,
 * disks of 1 MiB, mirrors that are ready at once, no flush. */
void fake_guest_set_devices(struct guest *g, const void *state, size_t len);
void fake_guest_set_inventory(struct guest *g, const struct guest_inventory *inventory);
void fake_guest_add_rom(struct guest *g, const char *id, const void *data, size_t len);
void fake_guest_set_disk(
	struct guest *g, uint64_t size, uint64_t flushes, const struct guest_mirror *mirror);

/* Lets the call after `skip` more calls of that kind, and only that one, fail with -code.  One
 * that fails with -ETIMEDOUT has its effect all the same, as when the answer comes too late;
 * others have none. LAUNCH and ADOPT: g is NULL. */
void fake_guest_fail(struct guest *g, enum fake_guest_op op, unsigned skip, int code);

/* Called before each operation, by the thread that asks: to have something happen in the middle,
 * or to write down an order.  LAUNCH and ADOPT are not among them. */
void fake_guest_hook(
	struct guest *g, void (*fn)(void *ctx, struct guest *g, enum fake_guest_op op), void *ctx);

/* The names of what was asked so far, in order, a blank between two: without ping and peek, which
 * tell nothing.  It stays as it is until the next call. */
const char *fake_guest_log(struct guest *g);
void fake_guest_log_clear(struct guest *g);
unsigned fake_guest_calls(struct guest *g, enum fake_guest_op op); /* also those that failed */
