/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM as this host sees it: one thread for its whole life, in straight-line code, whatever the
 * host's role is (vm.c: none and unprotected; protect.c: primary; standby.c: standby).
 *
 * Who owns what: everything in struct vm belongs to the VM's thread, except what stands under
 * "shared", which is guarded by `lock`, and the atomics.  Other threads reach the VM only by
 * vm_call, vm_offer_peer, vm_ring, vm_learned and vm_status.
 */
#pragma once
#include "common/histogram.h"
#include "common/rdma/rdma.h"
#include "failover/cluster.h"
#include "diskmirror/mirror.h"
#include "diskmirror/replica.h"
#include "failover/decide.h"
#include "failover/timing.h"
#include "failover/vote.h"
#include "mcd/config/config.h"
#include "mcd/control/control.h"
#include "mcd/guest/agent.h"
#include "mcd/guest/cmdline/cmdline.h"
#include "mcd/guest/guest.h"
#include "netbuf/netbuf.h"
#include <pthread.h>
#include <stdatomic.h>

struct daemon;

enum vm_role { VM_ROLE_NONE, VM_ROLE_PRIMARY, VM_ROLE_STANDBY };

enum vm_state {
	VM_STOPPED,
	VM_STARTING,
	VM_UNPROTECTED,
	VM_SYNCING,
	VM_PROTECTED,
	VM_HOLDING,         /* paused, output held: neither an ACK nor ownership could be had yet */
	VM_STANDBY_SYNCING,
	VM_STANDBY,
	VM_TAKING_OVER,
	VM_FAILED,          /* this host owns the VM and it does not run: see the alarm */
};

/* The barometer: what each step of an epoch costs. */
enum vm_step {
	STEP_STOP, STEP_BARRIER, STEP_SAVE, STEP_SCAN, STEP_COPY, STEP_RESUME, /* inside the pause */
	STEP_INSPECT, STEP_SEND, STEP_ACK, STEP_RELEASE,
	STEP_PAUSE, /* from before stop to after resume */
	STEP_MAX,
};

/* What a thread that waits on vm->wake finds pending. */
enum {
	WAKE_CALL = 1,     /* a verb of the control socket */
	WAKE_PEER = 2,     /* a primary wants us as its standby */
	WAKE_SUSPECT = 4,  /* the keep-alives of some host stopped */
	WAKE_RECORD = 8,   /* a newer ownership record was learned */
	WAKE_PRESSURE = 16,/* held output nears its limit */
	WAKE_QUIT = 32,    /* mcd ends */
	WAKE_DISK = 64,    /* the disk stream broke, or (standby) a primary connects for it */
};

enum vm_verb { VM_START, VM_STOP, VM_PROTECT, VM_UNPROTECT, VM_SET, VM_FAILOVER, VM_TAKEOVER,
	VM_VERIFY };

struct vm_call { /* a verb on its way to the VM's thread, which answers and frees it */
	enum vm_verb verb;
	struct control_request *req; /* NULL: our own wish, nobody to answer */
	char peer[LINK_NAME_MAX + 1];
	uint64_t delay, max_buffer; /* 0: as configured */
	bool force, wait;
	struct vm_call *next;
};

struct vm_sync_progress { unsigned round; double percent, eta_s, rate_mbs; uint64_t sent; };

struct vm {
	struct daemon *d;
	char name[LINK_NAME_MAX + 1];
	pthread_t thread;
	int bell; /* eventfd: somebody rang */
	int wake; /* epoll over the bell and QEMU's pidfd: one descriptor for every bounded wait */
	atomic_uint pending; /* WAKE_* */

	/* shared, under lock */
	pthread_mutex_t lock;
	struct vm_call *calls;
	int offered_fd; /* a connection that offers to make us standby, -1 = none */
	struct link_peer offered;
	int offered_disk_fd; /* and for its disks beside it */
	struct link_peer offered_disk;
	struct own_record learned; /* the newest record anybody told us of */
	struct netbuf *shown_nb;   /* = nb while it exists, for its counters */
	struct {
		enum vm_role role;
		enum vm_state state;
		char peer[LINK_NAME_MAX + 1];
		char reason[200], alarm[300];
		char transport[8], transport_why[300]; /* of the stream to the peer; why auto chose tcp */
		uint64_t epoch, delay, acked_at;
		struct own_record rec;
		struct vm_sync_progress sync;
		struct mc_histogram steps[STEP_MAX];
		struct mc_histogram dirty;          /* bytes per epoch */
		struct mc_histogram apply;          /* ns per epoch, on a standby */
		uint64_t buffer_budget, buffer_in_use, buffer_peak;
		struct netbuf_stats netbuf;
		struct mirror_stats mirror;         /* the disks, on a primary */
		struct replica_stats replica;       /* on a standby */
		pid_t qemu;
	} pub;

	/* the VM thread's own */
	struct config_vm *cfg;
	struct cmdline_plan plan;
	int ram_fds[RAMBLOCKS_MAX]; /* plan.n_ram memfds */
	struct guest *guest;
	struct guest_agent *agent; /* sets the guest's clock */
	uint64_t time_asked;       /* when it last began to */
	bool time_kept;            /* only if it is late by much */
	struct netbuf *nb;
	struct own_record rec; /* the record we act under */
	uint64_t delay, max_buffer;
	uint64_t inventory; /* guest_inventory when it was started: what a standby's QEMU has too */
	char want_peer[LINK_NAME_MAX + 1]; /* protect again with this host once it is back; "" = not wanted */
	uint64_t retry_at, retry_pause;    /* when, and how long to wait after the next failure */
	uint64_t protected_at;             /* when the last protection was complete */
	bool shut_in;      /* sole owner, but its network could not be opened yet */
	bool panicked;     /* it panicked and is kept stopped: no good news ends that alarm */
	bool quit;         /* WAKE_QUIT was taken: return from everything */
};

/* --- from other threads ------------------------------------------------------------------- */
int vm_new(struct daemon *d, const char *name, struct vm **ret, struct mc_error *err);
void vm_free(struct vm *vm); /* rings WAKE_QUIT, joins the thread; a primary's QEMU goes on */
void vm_call(struct vm *vm, struct vm_call *c); /* takes c over */
/* Hands over an authenticated LINK_DATA connection (closed with an error if the VM cannot take it). */
void vm_offer_peer(struct vm *vm, int fd, const struct link_peer *peer);
/* The same for a LINK_DISK connection. */
void vm_offer_disk(struct vm *vm, int fd, const struct link_peer *peer);
void vm_ring(struct vm *vm, unsigned bit);
void vm_learned(struct vm *vm, const struct own_record *rec);
json_t *vm_status_json(struct vm *vm);
void vm_announcement(struct vm *vm, struct cluster_vm *ret); /* what the other hosts are told */
enum vm_state vm_get_state(struct vm *vm);
const char *vm_state_name(enum vm_state s);
int vm_state_parse(const char *name); /* -1: no such state */

/* --- for the VM's own thread ---------------------------------------------------------------- */
/* Takes what is pending (and silences the bell). */
unsigned vm_take_pending(struct vm *vm);
/* Waits until something is pending, QEMU ends, or the deadline. Does not take it. */
void vm_wait(struct vm *vm, uint64_t deadline);
struct vm_call *vm_next_call(struct vm *vm);
void vm_call_ok(struct vm_call *c, json_t *result);              /* answers and frees */
void vm_call_fail(struct vm_call *c, const struct mc_error *err); /* answers and frees */
/* The answer to a verb that does not fit the state. */
void vm_call_wrong_state(struct vm *vm, struct vm_call *c);
void vm_want_peer(struct vm *vm, const char *peer); /* "" = none */
void vm_call_set(struct vm *vm, struct vm_call *c); /* the verb set, allowed in every state */

/* Publishes a state; tells log, subscribers and waiters, with the reason as a sentence. */
void vm_set_state(struct vm *vm, enum vm_role role, enum vm_state state, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void vm_set_peer(struct vm *vm, const char *peer);
void vm_set_transport(struct vm *vm, const struct rd_link *l); /* what was agreed on; NULL: nothing yet */
void vm_set_record(struct vm *vm, const struct own_record *rec);
void vm_set_alarm(struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void vm_clear_alarm(struct vm *vm); /* to the one of a panicked guest, while there is such a guest */
void vm_emit(struct vm *vm, const char *event, json_t *data); /* adds "vm"; steals data (may be NULL) */

/* The record we act under against the newest one we have been told of. */
enum decide_ownership vm_ownership(struct vm *vm);
struct own_record vm_newest_record(struct vm *vm);
/* Proposes the successor of vm->rec; on 0 vm->rec is it. Otherwise as voter_propose, and on -ESTALE
 * the newer record is in vm->learned. */
int vm_force(struct vm *vm, struct mc_error *err); /* {self, none} by the operator's word: voter_force */
int vm_propose(struct vm *vm, const char *owner, const char *standby, uint64_t timeout_ns, struct mc_error *err);

/* Loads the VM's configuration and makes memfds, taps and plan, closed; undone by vm_teardown. */
int vm_prepare(struct vm *vm, struct mc_error *err);
/* taps: of a QEMU that runs already, one per NIC; NULL: new ones. Sets the knobs to the configured ones. */
int vm_open_network(struct vm *vm, const int *taps, struct mc_error *err);
int vm_launch(struct vm *vm, bool incoming, uint64_t timeout_ns, struct mc_error *err);
void vm_watch_guest(struct vm *vm, bool on); /* QEMU's pidfd in vm->wake */
/* The guest goes on without this mcd: its network stays as netbuf_leave says. */
void vm_leave_network(struct vm *vm);
/* Drops held output, kills QEMU, forgets memory: this host's copy is gone. */
void vm_teardown(struct vm *vm);
void vm_run_unprotected(struct vm *vm); /* until the role changes */
