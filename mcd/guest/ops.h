/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For those who make a guest: mcd's own is a QEMU (guest-private.h), that of the unit tests is a
 * fake. What is to be done is said in guest.h, at the function of the same name that calls it.
 */
#pragma once
#include "mcd/guest/guest.h"

struct guest_ops {
	int (*require)(struct guest *g, struct mc_error *err);
	int (*ping)(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
	/* ret_was_running: it did not stand already. */
	int (*pause)(
		struct guest *g, uint64_t timeout_ns, bool *ret_was_running, struct mc_error *err);
	int (*cont)(struct guest *g, uint64_t timeout_ns,
		struct mc_error *err); /* of any guest that stands */
	int (*stood_still)(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
	bool (*take_reset)(struct guest *g);
	int (*reset)(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
	int (*why_stopped)(
		struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err);
	int (*save_devices)(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
		size_t *ret_len, struct mc_error *err);
	int (*activate)(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
		uint64_t *ret_loaded_at, struct mc_error *err);
	int (*stay_stopped)(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
	enum guest_event (*next_event)(struct guest *g);
	void (*event_back)(struct guest *g, enum guest_event ev);
	int (*shutdown)(struct guest *g, uint64_t deadline, struct mc_error *err);
	void (*kill)(struct guest *g);
	void (*free)(struct guest *g);

	int (*open_memory)(struct guest *g, struct ramblocks *ret, struct mc_error *err);
	int (*bring_ram)(struct guest *g, const struct cmdline_plan *plan, int *ret_fds,
		struct mc_error *err);
	int (*track)(struct guest *g, const struct ramblocks *ram, enum dirty_backend want,
		struct dirty **ret, struct mc_error *err);
	int (*read_roms)(struct guest *g, struct roms *ret, struct mc_error *err);
	int (*write_roms)(struct guest *g, const struct roms *roms, struct mc_error *err);
	int (*migratable)(struct guest *g, uint64_t timeout_ns, struct mc_error *err);
	int (*inventory)(struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret,
		struct mc_error *err);
	int (*set_time)(struct guest *g, const char *socket, int64_t tolerance,
		void (*done)(void *ctx, const struct guest_time *what), void *ctx,
		struct guest_agent **ret, struct mc_error *err);

	int (*disk_size)(struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret,
		struct mc_error *err);
	int (*disk_flushes)(
		struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err);
	int (*mirror_begin)(struct guest *g, const char *disk, const char *socket,
		uint64_t timeout_ns, struct mc_error *err);
	int (*mirror_look)(struct guest *g, const char *disk, uint64_t timeout_ns,
		struct guest_mirror *ret, struct mc_error *err);
	int (*mirror_check)(struct guest *g, const struct config_vm *vm, uint64_t timeout_ns,
		struct mc_error *err);
	int (*mirror_end)(
		struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err);
	int (*mirror_yank)(struct guest *g, const struct config_vm *vm, uint64_t timeout_ns,
		struct mc_error *err);
	int (*export_begin)(struct guest *g, const char *disk, const char *socket,
		uint64_t timeout_ns, struct mc_error *err);
	void (*export_end)(struct guest *g, const char *disk, uint64_t timeout_ns);
};

/* At the head of every guest; filled by who makes it. */
struct guest {
	const struct guest_ops *ops;
	pid_t pid;
	int pidfd; /* readable once it is gone */
	/* It stands, or perhaps does, and it was us who stopped it; set by the source if it is
	 * adopted. */
	bool ours;
	bool activated; /* or was tried to be */
};
