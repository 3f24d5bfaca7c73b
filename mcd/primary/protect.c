/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/protect.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/primary/epoch.h"
#include "mcd/verify.h"
#include "mcd/vm/life.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define ASK_FOR                                                                                    \
	(500 * MC_MSEC) /* one attempt at the vote; between two the world is looked at again */
#define PING_WAIT  (1500 * MC_MSEC)
#define DYING      (300 * MC_MSEC) /* from the last closed socket of a process to its end */
#define HELLO_WAIT (20 * MC_SEC) /* the standby starts a QEMU before it answers */

/* --- before anything changes ---------------------------------------------------------------- */

/* Once output is held a vote must be possible, or the guest would hang: no majority, no protection.
 */
static int check_majority(struct vm *vm, struct mc_error *err)
{
	size_t connected, total;
	voter_reachable(vm->d->voter, &connected, &total);
	if (connected > total / 2)
		return 0;
	return mc_error_set(err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
		"only %zu of the %zu voters can be reached; protecting %s needs a majority: see "
		"'mcctl status' for the hosts",
		connected, total, vm->name);
}

static uint64_t memory_share(const struct vm *vm)
{
	return vm->max_buffer - disks_share(vm, vm->max_buffer);
}

static int connect_peer(struct epoch *e, struct mc_error *err)
{
	struct daemon *d = e->vm->d;
	const struct config_host *h = config_find_host(&d->cfg, e->peer);
	struct link_peer who;
	struct rd_wants wants;
	struct rd_link link;
	transport_rdma_wants(true, memory_share(e->vm), &wants);
	int r = rd_dial(rd_mode_parse(d->cfg.transport), &wants, d->self->address, h->address, h->port,
		&d->key, d->cfg.name, d->instance, LINK_DATA, e->vm->name, e->peer,
		mc_now() + 1500 * MC_MSEC, &who, &link, err);
	if (r < 0)
		return r;
	vm_set_transport(e->vm, &link);
	return transport_new(&link, &e->link, err);
}

/* RDMA sends slabs from where they are. */
static int pin_slab(void *ctx, struct slab *s, struct mc_error *err)
{
	struct epoch *e = ctx;
	return transport_memory(e->link, s->mem, SLAB_SIZE, e->vm->cfg->pin_all, err);
}

static void unpin_slab(void *ctx, struct slab *s)
{
	struct epoch *e = ctx;
	transport_forget(e->link, s->mem);
}

static int make_pool(struct epoch *e, struct mc_error *err)
{
	bool all = e->vm->cfg->pin_all;
	struct slab_hooks hooks = {.reg = pin_slab, .unreg = unpin_slab, .ctx = e, .keep = all};
	int r = slab_pool_new(memory_share(e->vm), &hooks, &e->pool, err);
	if (r == 0 && all)
		slab_pool_reserve(e->pool, memory_share(e->vm));
	return r;
}

static int wait_hello_ok(struct epoch *e, struct mc_error *err)
{
	uint64_t deadline = mc_now() + HELLO_WAIT;
	for (;;) {
		struct wire_header h;
		int r = transport_recv(e->link, &h, deadline, e->vm->wake, err);
		if (r == -EINTR) { /* the peer's host is lost, or somebody does not want it any more
				    */
			r = epoch_listen(e, err);
			if (r == 0 && e->urgent) {
				e->urgent = false;
				r = sync_calls(e, err);
			}
			if (r < 0)
				return r;
			continue;
		}
		if (r == -ETIMEDOUT)
			return mc_error_set(err, r, MC_ECLASS_TIMEOUT,
				"%s did not get ready within %.0f s; its log says what it waits "
				"for",
				e->peer, (double)HELLO_WAIT / 1e9);
		if (r == 0 && (h.type != WIRE_HELLO_OK || h.length))
			r = protect_unexpected(e, &h, err);
		else if (r == 0 && h.generation != e->generation)
			r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				"%s is ready for generation %llu instead of %llu", e->peer,
				(unsigned long long)h.generation,
				(unsigned long long)e->generation);
		return r;
	}
}

static int say_hello(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	_cleanup_free_ struct wire_hello *hello = calloc(1, sizeof *hello);
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	if (!hello || !buf)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	hello->generation = vm->rec.generation;
	hello->delay = vm->delay;
	hello->max_buffer = vm->max_buffer;
	memcpy(hello->machine, vm->plan.digest, sizeof hello->machine);
	hello->n_blocks = e->ram.n;
	for (size_t i = 0; i < e->ram.n; i++) {
		memcpy(hello->blocks[i].id, e->ram.v[i].id, sizeof hello->blocks[i].id);
		hello->blocks[i].size = e->ram.v[i].size;
	}
	size_t len = wire_put_hello(buf, WIRE_CONTROL_MAX, hello);
	struct wire_header h = {
		.type = WIRE_HELLO,
		.generation = e->generation,
		.length = len,
		.digest = XXH3_64bits(buf, len),
	};
	int r = transport_post(e->link, &h, buf, err);
	if (r == 0)
		r = transport_flush(e->link, mc_now() + MC_SEC, err);
	if (r < 0)
		return r;
	r = disks_connect(e, err);
	if (r < 0) {
		protect_their_word(e, MC_SEC, err);
		return r;
	}
	return wait_hello_ok(e, err);
}

int protect_unexpected(struct epoch *e, const struct wire_header *h, struct mc_error *err)
{
	if (h->type == WIRE_ERROR && h->length <= WIRE_CONTROL_MAX) {
		_cleanup_free_ uint8_t *buf = malloc(h->length + 1);
		struct mc_error theirs = MC_ERROR_INIT;
		int r = buf ? transport_recv_payload(e->link, buf, mc_now() + MC_SEC, err)
			    : -ENOMEM;
		if (r == 0)
			r = wire_get_error(buf, h->length, &theirs, err);
		if (r == 0)
			r = mc_error_set(
				err, -EREMOTEIO, theirs.cls, "%s: %s", e->peer, theirs.msg);
		return r;
	}
	return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"%s sent message type %u (%llu bytes) where it does not belong", e->peer, h->type,
		(unsigned long long)h->length);
}

void protect_their_word(struct epoch *e, uint64_t timeout_ns, struct mc_error *err)
{
	uint64_t deadline = mc_now() + timeout_ns;
	struct mc_error theirs = MC_ERROR_INIT;
	struct wire_header h;
	while (e->link && transport_recv(e->link, &h, deadline, -1, NULL) == 0) {
		if (h.type == WIRE_ERROR && protect_unexpected(e, &h, &theirs) == -EREMOTEIO)
			*err = theirs;
		if (h.type == WIRE_ERROR || h.length)
			return;
	}
}

/* A standby's QEMU has the machine that this one was started with. */
static int check_inventory(struct vm *vm, struct mc_error *err)
{
	uint64_t now;
	int r = guest_inventory(vm->guest, PING_WAIT, &now, err);
	if (r < 0 || now == vm->inventory)
		return r;
	return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
		"devices of %s were plugged or unplugged since it was started, which a standby would not have: undo "
		"it, or change the VM's file on both hosts and restart the VM",
		vm->name);
}

static int prepare(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	int r;
	if (vm->shut_in)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"the network of %s could not be opened yet: 'mcctl status' shows the alarm that says why",
			vm->name);
	if (vm->plan.foreign_disks)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"%s has a writable disk that mcd does not mirror (%s): describe it in a section [disk "
			"ID] of its file instead, or make it readonly=on",
			vm->name, vm->plan.disk_option);
	/* Connecting first: of a wrong key or version it says more than the silence of the
	 * keep-alives. */
	if ((r = connect_peer(e, err)) < 0)
		return r;
	if (keepalive_suspected(vm->d->keepalive, e->peer))
		return mc_error_set(err, -EHOSTUNREACH, MC_ECLASS_UNREACHABLE,
			"no keep-alives from %s: is mcd running there, with the same cluster key? "
			"'mcctl status' shows the hosts",
			e->peer);
	if ((r = check_majority(vm, err)) < 0 || (r = guest_ping(vm->guest, PING_WAIT, err)) < 0 ||
		(r = guest_require(vm->guest, err)) < 0 || (r = check_inventory(vm, err)) < 0)
		return r;
	if ((r = guest_open_memory(vm->guest, &e->ram, err)) < 0)
		return r;
	if ((r = make_pool(e, err)) < 0)
		return r;
	if ((r = say_hello(e, err)) < 0)
		return r;
	return guest_track(vm->guest, &e->ram, vm_dirty_backend(vm), &e->dirty, err);
}

static void session_free(struct epoch *e)
{
	verify_end(e, "the protection ended");
	disks_drop(e, false);
	if (e->pool)
		capture_reset(e);
	transport_close(mc_steal_ptr(e->link)); /* it knows no slab any more: pin_slab */
	dirty_close(e->dirty);
	slab_pool_free(e->pool);
	dirty_list_free(&e->list);
	ramblocks_close(&e->ram);
	free(e->devices);
}

/* --- getting protected ------------------------------------------------------------------------ */

/* `mcctl set` reaches the running session, not only the next one. The standby's own bound stays the
 * one of the HELLO: what does not fit there goes to its disk, so raising ours is safe. */
static void set_knobs(struct epoch *e, struct vm_call *c)
{
	struct vm *vm = e->vm;
	vm_call_set(vm, c);
	daemon_timing(vm->d, vm->delay, &e->timing);
	slab_pool_set_budget(e->pool, memory_share(vm));
	if (vm->cfg->pin_all)
		slab_pool_reserve(e->pool, memory_share(vm));
	e->tick_at = e->pause_began + vm->delay; /* a shorter delay does not wait for the longer */
}

int sync_calls(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	for (struct vm_call *c; (c = vm_next_call(vm));) {
		if (c->verb == VM_SET) {
			set_knobs(e, c);
		} else if (c->verb == VM_UNPROTECT || c->verb == VM_STOP) {
			vm_life_keep_call(vm, c); /* served once the synchronisation has ended */
			return mc_error_set(err, -ECANCELED, MC_ECLASS_STATE,
				"the synchronisation was ended by 'mcctl %s'",
				c->verb == VM_STOP ? "stop" : "unprotect");
		} else {
			vm_call_wrong_state(vm, c);
		}
	}
	return 0;
}

int protect_tell(struct epoch *e, uint16_t type, uint64_t epoch, struct mc_error *err)
{
	struct wire_header h = {
		.type = type,
		.generation = e->generation,
		.epoch = epoch,
		.digest = XXH3_64bits("", 0),
	};
	int r = transport_post(e->link, &h, NULL, err);
	return r < 0 ? r : transport_flush(e->link, mc_now() + MC_SEC, err);
}

/*
 * The turn from unprotected to protected.  The order is the argument: the hold begins before the
 * proposal, because from the moment {self, peer} is decided the peer may take over; the proposal
 * comes after the ACK, because only a complete image may be named; the release comes after both.
 * From the hold on there is no way back but winning {self, none}: the caller takes it on any error.
 */
static int begin_protection(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	/* Stopped, so that no frame is under way when the hold begins (netbuf.h); the epoch that
	 * follows at once would stop it anyway, and resumes it. */
	e->tick_at = 0;
	int r = epoch_pause(e, err);
	if (r == 0)
		r = netbuf_hold(vm->nb, 1, err);
	struct netbuf_stats st;
	netbuf_get_stats(vm->nb, &st);
	e->lost_before = st.lost_frames;
	if (r == 0 && e->mirror)
		mirror_begin(e->mirror, 1);
	if (r == 0)
		r = epoch_run_until_acked(e, err);
	if (r < 0)
		return r;
	uint64_t patience = mc_now() + 5 * MC_SEC;
	do {
		r = vm_propose(vm, vm->d->cfg.name, e->peer, ASK_FOR, err);
	} while (r == -ENOLINK && mc_now() < patience);
	if (r == 0)
		r = protect_tell(e, WIRE_PROTECTED, e->n, err);
	return r < 0 ? r : epoch_release(e, err);
}

/* --- being protected -------------------------------------------------------------------------- */

/* Verbs between two epochs. 0: go on; 1: *ret_call ends the protection (stop, unprotect, failover).
 */
static int serve_calls(struct epoch *e, struct vm_call **ret_call)
{
	struct vm *vm = e->vm;
	for (struct vm_call *c; (c = vm_next_call(vm));) {
		if (c->verb == VM_SET) {
			set_knobs(e, c);
		} else if (c->verb == VM_VERIFY) {
			verify_begin(e, c);
		} else if (c->verb == VM_STOP || c->verb == VM_UNPROTECT ||
			   c->verb == VM_FAILOVER) {
			*ret_call = c;
			return 1;
		} else {
			vm_call_wrong_state(vm, c);
		}
	}
	return 0;
}

/* Before the vote that makes the peer owner: it keeps its image so that its mcd may die at any moment
 * from here on.  Acknowledgements of epochs that nobody waits for any more may come first. */
static int hand_over_offer(struct epoch *e, uint64_t timeout_ns, struct mc_error *err)
{
	uint64_t deadline = mc_now() + timeout_ns;
	struct wire_header h;
	int r = protect_tell(e, WIRE_HANDOVER, e->acked, err);
	while (r == 0) {
		r = transport_recv(e->link, &h, deadline, -1, err);
		if (r == 0 && h.type == WIRE_KEPT && !h.length)
			return 0;
		if (r == 0 && h.type == WIRE_VERIFIED) /* asked for by a comparison that has ended */
			r = verify_answer(e, &h, err);
		else if (r == 0 && h.type != WIRE_ACK)
			r = protect_unexpected(e, &h, err);
	}
	return r;
}

/* A planned move: one last checkpoint that the guest does not run past, then {peer, none}. */
static int hand_over(struct epoch *e, struct vm_call *call, struct mc_error *err)
{
	struct vm *vm = e->vm;
	e->stay_paused = true;
	e->tick_at = 0;
	int r = epoch_run(e, err);
	if (r == 0 && e->guest_event == GUEST_EVENT_SHUTDOWN)
		r = mc_error_set(err, -ECHILD, MC_ECLASS_QMP, "the guest powered off");
	if (r == 0)
		r = hand_over_offer(e, e->timing.ack_overdue, err);
	if (r == 0)
		r = vm_propose(vm, e->peer, "", MC_SEC, err);
	if (r < 0) {
		mc_error_wrap(err, "%s was not moved", vm->name);
		vm_call_fail(call, err);
		return r;
	}
	/* Decided: our copy is history, whether or not the peer hears of it from us first. */
	vm_call_ok(call, json_pack("{s:s, s:I}", "host", e->peer, "generation",
				 (json_int_t)vm->rec.generation));
	vm_life_gone(vm, "moved to %s by the administrator", e->peer);
	return 0;
}

/* Runs epochs until something ends them. Returns the call that did, or NULL with err filled. */
static struct vm_call *run_epochs(struct epoch *e, struct mc_error *err, int *ret_r)
{
	struct vm_call *call = NULL;
	int r;
	do {
		/* The one that begins after the power-off was seen contains all the guest ever said. */
		bool last = e->guest_event == GUEST_EVENT_SHUTDOWN;
		if (last)
			e->tick_at = 0;
		r = epoch_run(e, err);
		if (r == 0)
			vm_time_keep(e->vm);
		if (r == 0 && last)
			r = mc_error_set(err, -ECHILD, MC_ECLASS_QMP, "the guest powered off");
	} while (r == 0 && (e->guest_event == GUEST_EVENT_SHUTDOWN || !serve_calls(e, &call)));
	*ret_r = r;
	return call;
}

static void guest_ended(struct epoch *e, struct mc_error *why)
{
	struct vm *vm = e->vm;
	if (e->guest_event == GUEST_EVENT_SHUTDOWN) {
		/* Powering off is the guest's own will, not a failure: nobody takes over. */
		vm_life_powered_off(vm);
		protect_tell(e, WIRE_DISCARD, e->n, NULL);
		return;
	}
	if (strcmp(vm->rec.standby, e->peer)) {
		/* Between the first ACK and the vote: the peer is not named yet. */
		protect_alone(vm, why->msg);
		return;
	}
	/* QEMU crashed: the last acknowledged epoch lives at the standby. */
	struct mc_error err = MC_ERROR_INIT;
	vm_watch_guest(vm, false); /* or its pidfd would keep every wait below from waiting */
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING, "%s; handing over to %s", why->msg, e->peer);
	netbuf_shut(vm->nb, NULL);
	/* Best effort: a standby that cannot answer is no reason not to make it owner. */
	hand_over_offer(e, 300 * MC_MSEC, NULL);
	int r;
	while ((r = vm_propose(vm, e->peer, "", ASK_FOR, &err)) == -ENOLINK && !vm->quit) {
		vm_set_alarm(vm, "QEMU ended and %s cannot be made owner: %s", e->peer, err.msg);
		vm_wait(vm, mc_now() + 100 * MC_MSEC);
		vm_take_pending(vm);
	}
	if (vm->quit)
		return;
	vm_life_gone(vm, "QEMU ended by itself; %s goes on from epoch %llu", e->peer,
		(unsigned long long)e->acked);
}

void protect_alone(struct vm *vm, const char *why)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *self = vm->d->cfg.name;
	char was_with[LINK_NAME_MAX + 1];
	bool forced = false;
	snprintf(was_with, sizeof was_with, "%s", vm->pub.peer);
	if (!guest_alive(vm->guest))
		vm_watch_guest(
			vm, false); /* or its pidfd would keep every wait below from waiting */
	else if (guest_ping(vm->guest, PING_WAIT, &err) == 0)
		guest_pause(vm->guest, 5 * MC_SEC, &err);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_HOLDING, "%s; asking for sole ownership", why);
	for (;;) {
		int r = vm_propose(vm, self, "", ASK_FOR, &err);
		if (r == 0)
			break;
		if (r == -ESTALE) {
			struct own_record new = vm_newest_record(vm);
			if (!strcmp(new.owner, self)) { /* our own earlier proposal got through: go
							   on from it */
				vm_set_record(vm, &new);
				continue;
			}
			vm_life_gone(vm, "%s owns it now (generation %llu)",
				new.owner[0] ? new.owner : "nobody",
				(unsigned long long)new.generation);
			return;
		}
		vm_set_alarm(vm,
			"%s; output is held and the guest is paused until a majority of the voters "
			"answers: %s",
			why, err.msg);
		vm_take_pending(vm);
		if (vm->quit)
			return;
		for (struct vm_call *c; (c = vm_next_call(vm));)
			if (c->verb == VM_STOP && c->force) {
				vm_call_ok(c, NULL);
				vm_life_gone(vm, "stopped by force while ownership was undecided");
				return;
			} else if (c->verb == VM_TAKEOVER) {
				forced |= vm_life_takeover(vm, c, was_with);
			} else {
				vm_call_wrong_state(vm, c);
			}
		if (forced)
			break;
		vm_wait(vm, mc_now() + 100 * MC_MSEC);
	}
	if (!guest_alive(vm->guest)) {
		vm_life_guest_ended(vm, GUEST_EVENT_GONE);
		return;
	}
	/* Won: no other host can ever show the VM under this generation. Now, and only now, the
	 * hold ends. */
	vm_clear_alarm(vm);
	vm->shut_in = true;
	vm_life_resume(vm);
	vm_life_open(vm);
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "%s; runs on %s%s", why,
		was_with[0] ? "without " : "as sole owner", was_with);
	vm_emit(vm, "RUNNING",
		json_pack("{s:I, s:I}", "epoch", (json_int_t)vm->pub.epoch, "generation",
			(json_int_t)vm->rec.generation));
}

/* Counted and said aloud: it is not the network, it is a broken or hostile peer. */
static void report_breach(struct epoch *e, const struct mc_error *why)
{
	if (why->code != -EREMOTEIO &&
		(!strcmp(why->cls, MC_ECLASS_PROTOCOL) || !strcmp(why->cls, MC_ECLASS_VERSION)))
		vm_emit(e->vm, "PROTOCOL_ERROR",
			json_pack("{s:s, s:s}", "peer", e->peer, "reason", why->msg));
}

/* What follows the end of the epochs. Which case is decided by failover/decide.c from the facts. */
static void after_epochs(struct epoch *e, int r, struct mc_error *why)
{
	struct vm *vm = e->vm;
	report_breach(e, why);
	if (r == -ESHUTDOWN) /* mcd ends, the guest goes on; what it says is not heard until mcd is back */
		return;
	/* A step that talks to QEMU, or the mirror that QEMU talks to, may find it dead before its pidfd
	 * says so; whether it is decides who may go on. */
	bool qemu = !strcmp(why->cls, MC_ECLASS_QMP) ||
		    (e->mirror && mirror_error(e->mirror, NULL) < 0);
	if (r != -ECHILD && guest_gone_within(vm->guest, qemu ? DYING : 0)) {
		if (e->guest_event == GUEST_EVENT_NONE)
			e->guest_event = GUEST_EVENT_GONE;
		r = -ECHILD;
	} else if (r != -ECHILD && e->guest_event == GUEST_EVENT_SHUTDOWN) {
		guest_event_back(vm->guest, e->guest_event); /* for whoever has the VM next */
	}
	struct decide_facts f = {
		.role = DECIDE_PRIMARY,
		.ownership = vm_ownership(vm),
		.quorate = cluster_quorate(vm->d->cluster),
		.link_up = r == -EHOSTDOWN || r == -ETIMEDOUT,
		.ack_overdue = r == -ETIMEDOUT,
		.peer_suspected = keepalive_suspected(vm->d->keepalive, e->peer),
		.guest_gone = r == -ECHILD,
	};
	struct decide_config c = {
		.head_start = e->timing.head_start, .automatic = vm->d->cfg.failover_automatic};
	struct decision d = decide(&f, &c);
	log_notice("%s: protection ended in step %s of epoch %llu: %s; %s: %s", vm->name,
		e->step ? e->step : "-", (unsigned long long)e->n, why->msg,
		decide_action_name(d.action), d.reason);
	vm_emit(vm, "LINK_LOST", json_pack("{s:s, s:s}", "peer", e->peer, "reason", why->msg));
	if (r == -ECHILD) {
		guest_ended(e, why);
	} else if (d.action == ACT_DESTROY) {
		struct own_record rec = vm_newest_record(vm);
		vm_life_gone(vm, "%s owns it now: %s", rec.owner, d.reason);
	} else {
		disks_drop(e, false);
		/* Whatever ended the epochs, going on without the standby takes the vote. */
		transport_close(mc_steal_ptr(e->link)); /* tells a living standby at once */
		protect_alone(vm, why->msg);
	}
}

static void end_by_call(struct epoch *e, struct vm_call *call)
{
	struct vm *vm = e->vm;
	struct mc_error err = MC_ERROR_INIT;
	if (call->verb == VM_FAILOVER) {
		int r = hand_over(e, call, &err);
		if (r < 0)
			after_epochs(e, r, &err);
		return;
	}
	vm_want_peer(vm, "");
	disks_drop(e, true);
	protect_alone(vm, call->verb == VM_STOP ? "stopped by the administrator"
						: "unprotected by the administrator");
	protect_tell(e, WIRE_DISCARD, e->n, NULL);
	if (vm_get_state(vm) != VM_UNPROTECTED)
		vm_call_wrong_state(vm, call); /* it was lost to another host meanwhile */
	else if (call->verb == VM_STOP)
		vm_life_keep_call(vm, call); /* served by the unprotected VM */
	else
		vm_call_ok(call, NULL);
}

/* What the peer said while we were sending has not been given its name yet (transport.h). */
static void name_peer(const struct epoch *e, struct mc_error *err)
{
	if (err->code == -EREMOTEIO && strncmp(err->msg, e->peer, strlen(e->peer)))
		mc_error_wrap(err, "%s", e->peer);
}

/* A host that has no memory or disk left does not get any by waiting, as one that is away comes back:
 * somebody has to know.  Over with the next protection. */
static void alarm_of_shortage(struct vm *vm, const struct mc_error *why)
{
	bool theirs = why->code == -EREMOTEIO && !strcmp(why->cls, MC_ECLASS_MEMORY) &&
		      vm->want_peer[0];
	if ((theirs || why->code == -ENOBUFS) && vm_get_state(vm) == VM_UNPROTECTED)
		vm_set_alarm(vm, "%s runs unprotected: %s", vm->name, why->msg);
}

void protect_run(struct vm *vm, struct vm_call *call)
{
	struct mc_error err = MC_ERROR_INIT;
	struct epoch e = {.vm = vm, .generation = vm->rec.generation + 1, .tick_at = 0};
	e.slabs_tail = &e.slabs;
	snprintf(e.peer, sizeof e.peer, "%s", call->peer);
	uint64_t delay = vm->delay, max_buffer = vm->max_buffer;
	if (call->delay)
		vm->delay = call->delay;
	if (call->max_buffer)
		vm->max_buffer = call->max_buffer;
	daemon_timing(vm->d, vm->delay, &e.timing);

	int r = prepare(&e, &err);
	bool began = false;
	if (r == 0) {
		vm_set_peer(vm, e.peer);
		vm_life_reset_figures(vm);
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_SYNCING, "copying memory to %s", e.peer);
		if (!call->wait)
			vm_call_ok(mc_steal_ptr(call), json_pack("{s:s}", "state", "syncing"));
		r = sync_roms(&e, &err);
		if (r == 0)
			r = disks_sync(&e, call, &err);
		if (r == 0)
			r = sync_rounds(&e, call, &err);
		if (r == 0)
			r = check_majority(vm, &err);
	}
	if (r == 0) {
		began = true;
		r = begin_protection(&e, &err);
	}
	if (r == 0) {
		vm_want_peer(vm, e.peer);
		vm->protected_at = mc_now();
		vm_clear_alarm(vm);
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_PROTECTED, "%s holds epoch %llu", e.peer,
			(unsigned long long)e.n);
		if (call)
			vm_call_ok(mc_steal_ptr(call), json_pack("{s:s, s:I}", "state", "protected",
							       "epoch", (json_int_t)e.n));
		struct vm_call *end = run_epochs(&e, &err, &r);
		name_peer(&e, &err);
		verify_end(&e, end ? "the protection is ended" : err.msg);
		if (end)
			end_by_call(&e, end);
		else
			after_epochs(&e, r, &err);
	} else {
		name_peer(&e, &err);
		mc_error_wrap(&err, "cannot protect %s", vm->name);
		if (call)
			vm_call_fail(mc_steal_ptr(call), &err);
		else
			log_error("%s", err.msg);
		vm->delay = delay;
		vm->max_buffer = max_buffer;
		if (!began)
			report_breach(&e, &err);
		if (began)
			after_epochs(&e, r, &err);
		else if (r == -ECHILD)
			vm_life_guest_ended(vm, e.guest_event);
		else {
			vm_life_resume(vm);
			vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "%s", err.msg);
		}
	}
	alarm_of_shortage(vm, &err);
	session_free(&e);
}
