/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How other threads reach a VM: its mailbox and its bell. */
#pragma once
#include "common/link.h"
#include "mcd/control/control.h"

#include <stdbool.h>
#include <stdint.h>

struct vm;

/* What a thread that waits on vm->wake finds pending. */
enum {
	WAKE_CALL = 1,      /* a verb of the control socket */
	WAKE_PEER = 2,      /* a primary wants us as its standby */
	WAKE_SUSPECT = 4,   /* the keep-alives of some host stopped */
	WAKE_RECORD = 8,    /* a newer ownership record was learned */
	WAKE_PRESSURE = 16, /* held output nears its limit */
	WAKE_QUIT = 32,     /* mcd ends */
	WAKE_DISK = 64,     /* the disk stream broke, or (standby) a primary connects for it */
};

enum vm_verb {
	VM_START,
	VM_STOP,
	VM_PROTECT,
	VM_UNPROTECT,
	VM_SET,
	VM_FAILOVER,
	VM_TAKEOVER,
	VM_VERIFY,
};

struct vm_call { /* a verb on its way to the VM's thread, which answers and frees it */
	enum vm_verb verb;
	struct control_request *req; /* NULL: our own wish, nobody to answer */
	char peer[LINK_NAME_MAX + 1];
	uint64_t delay, max_buffer; /* 0: as configured */
	bool force, wait;
	struct vm_call *next;
};

/* --- any thread --- */
void vm_ring(struct vm *vm, unsigned bit);
void vm_call(struct vm *vm, struct vm_call *c); /* takes c over */
/* Hands over an authenticated LINK_DATA or LINK_DISK connection; a newer one replaces one that was
 * not looked at yet. */
void vm_offer_peer(struct vm *vm, int fd, const struct link_peer *peer);
void vm_offer_disk(struct vm *vm, int fd, const struct link_peer *peer);

/* --- the VM's own thread --- */
/* Takes what is pending (and silences the bell). */
unsigned vm_take_pending(struct vm *vm);
/* Waits until something is pending, QEMU ends, or the deadline.  Does not take it. */
void vm_wait(struct vm *vm, uint64_t deadline);
struct vm_call *vm_next_call(struct vm *vm); /* NULL: none waits */
/* Puts a call back in front, for whoever serves calls next. */
void vm_keep_call(struct vm *vm, struct vm_call *c);
/* The connection that was offered, the caller's; -1: none was. */
int vm_take_offer(struct vm *vm, struct link_peer *ret_peer);
int vm_take_disk_offer(struct vm *vm, struct link_peer *ret_peer);
/* Whether that host's offer waits; it goes on waiting. */
bool vm_offered_by(struct vm *vm, const char *host);
