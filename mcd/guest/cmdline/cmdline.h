/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the user's QEMU command line to the one that mcd runs: RAM on a shared memfd that mcd made,
 * taps that mcd holds, QMP sockets, and what makes the device state loadable on the standby.
 * Pure: no I/O, so that every rule has a row in its test table.
 */
#pragma once
#include "common/error.h"
#include "mcd/config/config.h"

struct cmdline_ram { /* one memory backend to be made as a memfd */
	char id[64];
	uint64_t size;
	char *extra; /* what stays of the user's own object, such as ",host-nodes=0"; may be NULL */
};

struct cmdline_plan {
	char **argv; /* the user's words with what we replace taken out; NULL-terminated */
	size_t argc;
	size_t n_ram;
	struct cmdline_ram ram[16];
	bool own_ram; /* ram[0] is ours: the user named no backend, so the machine must be told */
	bool named;   /* the user gave -name */
	bool no_nic;  /* QEMU would add a NIC of its own: it gets -nic none */
	bool nic_device[CONFIG_NICS_MAX];   /* the user's -device for vm->nics[i] is in argv */
	bool nic_vhost[CONFIG_NICS_MAX];    /* the user's -netdev said vhost=on */
	bool disk_device[CONFIG_DISKS_MAX]; /* the user's -device for vm->disks[i] is in argv */
	/* a writable disk that is in no [disk]: the VM runs, but must not be protected */
	bool foreign_disks;
	char disk_option[64]; /* the first of them, for that message */
	char runas[64];       /* the user that the command has QEMU change to; "" = none */
	bool kvm;             /* it may run under KVM */
	/* "host" or "max": the CPU that its host has, whatever that is; "" = a model */
	char host_cpu[8];
	bool agent_port; /* it has a port for a guest agent, */
	char agent[108]; /* and this is QEMU's unix socket for it, "" = there is none */
	/* hex XXH3 of everything that must be equal on both hosts (not bridges, not
	 * -name/-serial/-qmp/-display/-vnc/-D/-pidfile style host-side options) */
	char digest[17];
};

/* Splits and checks the user's command; refuses (class GuestUnsuitable / ConfigError) what could
 * not be protected, naming the option and what to write instead: -nic/-net, a -netdev that is in
 * no [nic] section, -incoming, -daemonize, -S, -snapshot, missing -m, memory backends on hugetlbfs,
 * -mem-path, hot-pluggable memory (slots/maxmem), -smp is fine, ... */
int cmdline_plan(const struct config_vm *vm, struct cmdline_plan *ret, struct mc_error *err);
void cmdline_plan_clear(struct cmdline_plan *p);

struct cmdline_disk { /* what QEMU is to open on this host, one per vm->disks */
	const char *path, *format;
	bool host_device; /* the path is a block device */
};

struct cmdline_inputs {
	const int *ram_fds; /* as QEMU will see them, one per plan->ram */
	const int *tap_fds; /* one per vm->nics */
	const struct cmdline_disk *disks;
	const char *qmp_path, *qmp_oob_path;
	const char *name; /* guest name for -name */
	bool incoming;    /* -incoming defer */
};
/* The final NULL-terminated argv (each string and the array malloc'd). */
int cmdline_build(const struct config_vm *vm, const struct cmdline_plan *plan,
	const struct cmdline_inputs *in, char ***ret_argv, struct mc_error *err);
void cmdline_argv_free(char **argv);
