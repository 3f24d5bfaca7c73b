/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM as this host sees it: one thread for its whole life, in straight-line code, whatever the
 * host's role is (life/: none and unprotected; primary/; standby/).
 *
 * Who owns what: all that stands in struct vm belongs to the VM's thread.  What other threads share
 * is in struct vm_shared, behind its lock, which only the files of this folder know: the doors are
 * mailbox.h (reaching the VM), published.h and status.h (what may be read of it) and owner.h.
 */
#pragma once
#include "failover/vote.h"
#include "mcd/guest/cmdline/cmdline.h"
#include "mcd/vm/env.h"
#include "netbuf/netbuf.h"

#include <stdbool.h>
#include <stdint.h>

struct vm_shared;
struct vm_clock;

struct vm {
	const struct vm_env *env;
	char name[LINK_NAME_MAX + 1];
	int wake; /* epoll over the bell and QEMU's pidfd: one descriptor for every bounded wait */
	struct vm_shared *shared;

	/* what it consists of here; machine.h makes and undoes it */
	struct config_vm *cfg;
	struct cmdline_plan plan;
	int ram_fds[RAMBLOCKS_MAX]; /* plan.n_ram memfds */
	struct guest *guest;
	struct netbuf *nb;
	struct guest_inventory inventory; /* when it was started: what a standby's QEMU has too */
	struct vm_clock *clock;

	/* what it is to do */
	struct own_record rec; /* the record we act under */
	uint64_t delay, max_buffer;
	/* protect again with this host once it is back; "" = not wanted */
	char want_peer[LINK_NAME_MAX + 1];
	unsigned wanted; /* how often that was said */
	bool shut_in;    /* sole owner, but its network could not be opened yet */
	bool panicked;   /* it panicked and is kept stopped: no good news ends that alarm */
	struct {         /* what a takeover left for later: settle.h */
		/* the generation under which the disks are to be marked as the newest; 0 = none */
		uint64_t disks;
		bool word; /* the network is to be told where it is */
		bool said; /* an alarm says so */
	} owes;
	bool quit; /* WAKE_QUIT was taken: return from everything */
};

static inline const char *vm_self(const struct vm *vm)
{
	return vm->env->cfg->name;
}
