/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cmdline.c (the walk over the words), ram.c, devices.c and look.c share. */
#pragma once
#include "mcd/guest/cmdline/cmdline.h"
#include "mcd/guest/cmdline/options.h"
#include "mcd/config/qemu-opts.h"

#define CMDLINE_RAM_MAX 16

struct planner {
	const struct config_vm *vm;
	struct cmdline_plan *plan;
	bool nodefaults, nic_none;
	/* Memory, as the options have it so far. */
	bool have_m;
	uint64_t m_size;
	char agent_chardev[64];   /* what the guest agent's port is connected to */
	char machine_backend[64]; /* -machine memory-backend=, "" if not given */
	size_t n_numa;
	char numa_backend[CMDLINE_RAM_MAX][64]; /* -numa node,memdev= */
};

/* Each takes one option's argument.  *keep: whether the option stays in the command (true before
 * the call); *replace: a malloc'd argument to stand instead, NULL for none. */
int cmdline_take_memory(struct planner *p, const char *arg, struct mc_error *err);
int cmdline_take_machine(struct planner *p, const char *arg, struct mc_error *err);
int cmdline_take_numa(struct planner *p, const char *arg, struct mc_error *err);
int cmdline_take_object(struct planner *p, const char *arg, bool *keep, struct mc_error *err);
/* After the last word: which memory there is; adds our own backend if the user named none. */
int cmdline_settle_ram(struct planner *p, struct mc_error *err);

int cmdline_take_netdev(struct planner *p, const char *arg, bool *keep, struct mc_error *err);
int cmdline_take_device(struct planner *p, const char *arg, char **replace, struct mc_error *err);
int cmdline_take_drive(struct planner *p, const char *arg, struct mc_error *err);
int cmdline_take_blockdev(struct planner *p, const char *arg, struct mc_error *err);
/* What mcd leaves as it is, but has to know (look.c). */
void cmdline_look_accel(struct planner *p, const char *list);
void cmdline_look_cpu(struct planner *p, const char *arg);
int cmdline_take_runas(struct planner *p, const char *name, const char *arg, struct mc_error *err);
/* The -device of a serial port that may be the guest agent's. */
void cmdline_look_port(struct planner *p, const struct qemu_opts *o);
/* After the last word: where the guest agent is reached. */
void cmdline_find_agent(struct planner *p);

/* A [disk] that -machine pflash0= or pflash1= uses needs no device. */
void cmdline_find_firmware(struct planner *p);
/* Notes a writable disk that is in no [disk]. */
void cmdline_note_disk(struct planner *p, const char *option, const char *arg);
