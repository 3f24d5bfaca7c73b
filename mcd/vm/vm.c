/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The outside of a VM: mailbox, bell, published state.  What it does is in vm-life.c and on. */
#include "mcd/vm/vm.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/life.h"
#include "mcd/vm/private.h"
#include "mcd/wire/transport.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static const char *const state_names[] = {
	[VM_STOPPED] = "stopped",
	[VM_STARTING] = "starting",
	[VM_UNPROTECTED] = "unprotected",
	[VM_SYNCING] = "syncing",
	[VM_PROTECTED] = "protected",
	[VM_HOLDING] = "holding",
	[VM_STANDBY_SYNCING] = "standby-syncing",
	[VM_STANDBY] = "standby",
	[VM_TAKING_OVER] = "taking-over",
	[VM_FAILED] = "failed",
};
#define N_STATES (sizeof state_names / sizeof *state_names)

const char *vm_state_name(enum vm_state s)
{
	return state_names[s];
}

int vm_state_parse(const char *name)
{
	for (size_t i = 0; i < N_STATES; i++)
		if (!strcmp(name, state_names[i]))
			return (int)i;
	return -1;
}

int vm_new(struct daemon *d, const char *name, struct vm **ret, struct mc_error *err)
{
	struct vm *vm = calloc(1, sizeof *vm);
	if (!vm)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	vm->d = d;
	snprintf(vm->name, sizeof vm->name, "%s", name);
	pthread_mutex_init(&vm->lock, NULL);
	vm->offered_fd = vm->offered_disk_fd = -1;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		vm->ram_fds[i] = -1;
	vm->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->wake = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};
	if (vm->bell < 0 || vm->wake < 0 || epoll_ctl(vm->wake, EPOLL_CTL_ADD, vm->bell, &ev) < 0) {
		int r = mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"VM %s: cannot make its wake-up descriptors: %s", name, strerror(errno));
		vm_free(vm);
		return r;
	}
	voter_known(d->voter, name, &vm->learned);
	vm->rec = vm->pub.rec = vm->learned;
	int r = pthread_create(&vm->thread, NULL, vm_thread, vm);
	if (r) {
		vm->thread = 0;
		vm_free(vm);
		return mc_error_set(err, -r, MC_ECLASS_FAILED, "VM %s: cannot start its thread: %s",
			name, strerror(r));
	}
	*ret = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	if (vm->thread) {
		vm_ring(vm, WAKE_QUIT);
		pthread_join(vm->thread, NULL);
	}
	guest_agent_free(vm->agent);
	struct mc_error quit = MC_ERROR_INIT;
	mc_error_set(&quit, -ESHUTDOWN, MC_ECLASS_STATE, "mcd is shutting down");
	for (struct vm_call *c; (c = vm_next_call(vm));)
		vm_call_fail(c, &quit);
	if (vm->offered_fd >= 0)
		close(vm->offered_fd);
	if (vm->offered_disk_fd >= 0)
		close(vm->offered_disk_fd);
	if (vm->bell >= 0)
		close(vm->bell);
	if (vm->wake >= 0)
		close(vm->wake);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

/* --- ringing and waiting -------------------------------------------------------------------- */

void vm_ring(struct vm *vm, unsigned bit)
{
	/* The bit first: whoever hears the bell must find it. */
	atomic_fetch_or(&vm->pending, bit);
	uint64_t one = 1;
	ssize_t n = write(vm->bell, &one, sizeof one);
	(void)n; /* EAGAIN: it is ringing anyway */
}

unsigned vm_take_pending(struct vm *vm)
{
	uint64_t n;
	ssize_t r = read(vm->bell, &n, sizeof n);
	(void)r;
	unsigned pending = atomic_exchange(&vm->pending, 0);
	vm->quit |= (pending & WAKE_QUIT) != 0;
	return pending;
}

void vm_wait(struct vm *vm, uint64_t deadline)
{
	struct pollfd p = {.fd = vm->wake, .events = POLLIN};
	while (poll(&p, 1, mc_ms_left(deadline)) < 0 && errno == EINTR)
		;
}

void vm_call(struct vm *vm, struct vm_call *c)
{
	c->next = NULL;
	pthread_mutex_lock(&vm->lock);
	struct vm_call **p = &vm->calls;
	while (*p)
		p = &(*p)->next;
	*p = c;
	pthread_mutex_unlock(&vm->lock);
	vm_ring(vm, WAKE_CALL);
}

struct vm_call *vm_next_call(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	struct vm_call *c = vm->calls;
	if (c)
		vm->calls = c->next;
	pthread_mutex_unlock(&vm->lock);
	return c;
}

void vm_call_ok(struct vm_call *c, json_t *result)
{
	if (!c->req)
		json_decref(result);
	else
		control_answer(c->req, result ? result : json_object());
	free(c);
}

void vm_call_fail(struct vm_call *c, const struct mc_error *err)
{
	if (c->req)
		control_fail(c->req, err);
	free(c);
}

void vm_want_peer(struct vm *vm, const char *peer)
{
	snprintf(vm->want_peer, sizeof vm->want_peer, "%s", peer);
	vm->retry_at = mc_now();
	vm->retry_pause = MC_SEC;
	vm_peer_save(vm);
}

void vm_call_wrong_state(struct vm *vm, struct vm_call *c)
{
	static const char *const verbs[] = {
		[VM_START] = "start",
		[VM_STOP] = "stop",
		[VM_PROTECT] = "protect",
		[VM_UNPROTECT] = "unprotect",
		[VM_SET] = "set",
		[VM_FAILOVER] = "failover",
		[VM_TAKEOVER] = "take over",
		[VM_VERIFY] = "verify",
	};
	struct mc_error err = MC_ERROR_INIT;
	enum vm_state s = vm_get_state(vm);
	struct own_record rec = vm_newest_record(vm);
	bool here = !strcmp(rec.owner, vm->d->cfg.name);
	if (rec.owner[0] && !here)
		mc_error_set(&err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"cannot %s %s here: host %s owns it (generation %llu); run the command "
			"there",
			verbs[c->verb], vm->name, rec.owner, (unsigned long long)rec.generation);
	else if (c->verb == VM_PROTECT && (s == VM_PROTECTED || s == VM_SYNCING))
		mc_error_set(&err, -EALREADY, MC_ECLASS_STATE,
			"%s is %s already, with %s as its standby; unprotect it first", vm->name,
			s == VM_PROTECTED ? "protected" : "being protected", vm->pub.peer);
	else if (s == VM_STOPPED)
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE,
			"cannot %s %s: it is not running; start it with 'mcctl start %s'",
			verbs[c->verb], vm->name, vm->name);
	else
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE, "cannot %s %s while it is %s",
			verbs[c->verb], vm->name, vm_state_name(s));
	vm_call_fail(c, &err);
}

void vm_call_set(struct vm *vm, struct vm_call *c)
{
	if (c->delay)
		vm->delay = c->delay;
	if (c->max_buffer)
		vm->max_buffer = c->max_buffer;
	pthread_mutex_lock(&vm->lock);
	vm->pub.delay = vm->delay;
	vm->pub.buffer_budget = vm->max_buffer;
	pthread_mutex_unlock(&vm->lock);
	vm_call_ok(c, json_pack("{s:f, s:I}", "delay_ms", (double)vm->delay / 1e6, "max_buffer",
			      (json_int_t)vm->max_buffer));
}

void vm_offer_peer(struct vm *vm, int fd, const struct link_peer *peer)
{
	int old = fd;
	pthread_mutex_lock(&vm->lock);
	old = vm->offered_fd;
	vm->offered_fd = fd;
	vm->offered = *peer;
	pthread_mutex_unlock(&vm->lock);
	if (old >= 0) /* a newer offer replaces one not yet looked at */
		close(old);
	vm_ring(vm, WAKE_PEER);
}

void vm_offer_disk(struct vm *vm, int fd, const struct link_peer *peer)
{
	pthread_mutex_lock(&vm->lock);
	int old = vm->offered_disk_fd;
	vm->offered_disk_fd = fd;
	vm->offered_disk = *peer;
	pthread_mutex_unlock(&vm->lock);
	if (old >= 0)
		close(old);
	vm_ring(vm, WAKE_DISK);
}

void vm_learned(struct vm *vm, const struct own_record *rec)
{
	bool newer;
	pthread_mutex_lock(&vm->lock);
	newer = rec->generation > vm->learned.generation;
	if (newer)
		vm->learned = *rec;
	pthread_mutex_unlock(&vm->lock);
	if (newer)
		vm_ring(vm, WAKE_RECORD);
}

/* --- published state ------------------------------------------------------------------------ */

enum vm_state vm_get_state(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	enum vm_state s = vm->pub.state;
	pthread_mutex_unlock(&vm->lock);
	return s;
}

void vm_emit(struct vm *vm, const char *event, json_t *data)
{
	if (!data)
		data = json_object();
	json_object_set_new(data, "vm", json_string(vm->name));
	control_emit(vm->d->control, event, data);
}

void vm_set_state(struct vm *vm, enum vm_role role, enum vm_state state, const char *fmt, ...)
{
	static const char *const roles[] = {"none", "primary", "standby"};
	char reason[sizeof vm->pub.reason];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof reason, fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&vm->lock);
	enum vm_state from = vm->pub.state;
	vm->pub.role = role;
	vm->pub.state = state;
	memcpy(vm->pub.reason, reason, sizeof reason);
	vm->pub.qemu = vm->guest ? guest_pid(vm->guest) : 0;
	if (role == VM_ROLE_NONE || state == VM_UNPROTECTED)
		vm->pub.peer[0] = 0;
	pthread_mutex_unlock(&vm->lock);
	cluster_poke(vm->d->cluster);
	if (from == state)
		return;
	log_notice("%s: %s -> %s: %s", vm->name, vm_state_name(from), vm_state_name(state), reason);
	vm_emit(vm, "STATE_CHANGED",
		json_pack("{s:s, s:s, s:s, s:s}", "role", roles[role], "from", vm_state_name(from),
			"to", vm_state_name(state), "reason", reason));
}

void vm_set_peer(struct vm *vm, const char *peer)
{
	pthread_mutex_lock(&vm->lock);
	snprintf(vm->pub.peer, sizeof vm->pub.peer, "%s", peer);
	pthread_mutex_unlock(&vm->lock);
	cluster_poke(vm->d->cluster);
}

void vm_set_transport(struct vm *vm, const struct rd_link *l)
{
	char was[sizeof vm->pub.transport_why];
	pthread_mutex_lock(&vm->lock);
	memcpy(was, vm->pub.transport_why, sizeof was);
	snprintf(vm->pub.transport, sizeof vm->pub.transport, "%s", !l ? "" : l->rdma ? "rdma" : "tcp");
	snprintf(vm->pub.transport_why, sizeof vm->pub.transport_why, "%s", l ? l->why : "");
	pthread_mutex_unlock(&vm->lock);
	if (l && l->rdma)
		log_info("%s: the stream goes over RDMA (%s)", vm->name, rd_device_name(l->rdma));
	else if (l && l->why[0] && strcmp(was, l->why)) /* not with each attempt */
		log_notice("%s: the stream goes over TCP, not RDMA: %s", vm->name, l->why);
}

void vm_set_record(struct vm *vm, const struct own_record *rec)
{
	vm->rec = *rec;
	pthread_mutex_lock(&vm->lock);
	vm->pub.rec = *rec;
	if (rec->generation > vm->learned.generation)
		vm->learned = *rec;
	pthread_mutex_unlock(&vm->lock);
}

void vm_set_alarm(struct vm *vm, const char *fmt, ...)
{
	char text[sizeof vm->pub.alarm];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&vm->lock);
	bool fresh = strcmp(vm->pub.alarm, text) != 0;
	memcpy(vm->pub.alarm, text, sizeof text);
	pthread_mutex_unlock(&vm->lock);
	if (!fresh)
		return;
	cluster_poke(vm->d->cluster);
	log_error("%s: ALARM: %s", vm->name, text);
	vm_emit(vm, "ALARM", json_pack("{s:s}", "reason", text));
}

void vm_clear_alarm(struct vm *vm)
{
	if (vm->panicked) {
		vm_set_alarm(vm,
			"the guest of %s panicked and is kept, stopped, for you to look at; then "
			"'mcctl stop %s --force'",
			vm->name, vm->name);
		return;
	}
	pthread_mutex_lock(&vm->lock);
	vm->pub.alarm[0] = 0;
	pthread_mutex_unlock(&vm->lock);
	cluster_poke(vm->d->cluster);
}

/* --- ownership ------------------------------------------------------------------------------ */

struct own_record vm_newest_record(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	struct own_record r = vm->learned;
	pthread_mutex_unlock(&vm->lock);
	return r;
}

enum decide_ownership vm_ownership(struct vm *vm)
{
	struct own_record new = vm_newest_record(vm);
	const char *self = vm->d->cfg.name;
	if (new.generation <= vm->rec.generation)
		return OWN_CURRENT;
	if (strcmp(new.owner, self) == 0)
		return new.standby[0] ? OWN_CURRENT : OWN_ALONE;
	return strcmp(new.standby, self) == 0 ? OWN_CURRENT : OWN_LOST;
}

int vm_propose(struct vm *vm, const char *owner, const char *standby, uint64_t timeout_ns,
	struct mc_error *err)
{
	struct own_record next = {.generation = vm->rec.generation + 1}, decided;
	snprintf(next.owner, sizeof next.owner, "%s", owner);
	snprintf(next.standby, sizeof next.standby, "%s", standby);
	vm_emit(vm, "VOTE_STARTED",
		json_pack("{s:I, s:s, s:s}", "generation", (json_int_t)next.generation, "owner",
			next.owner, "standby", next.standby));
	int r = voter_propose(vm->d->voter, vm->name, &next, mc_now() + timeout_ns, &decided, err);
	if (r == 0) {
		vm_set_record(vm, &decided);
		vm_emit(vm, "VOTE_WON",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation,
				"owner", decided.owner));
	} else if (r == -ESTALE) {
		vm_learned(vm, &decided);
		vm_emit(vm, "VOTE_LOST",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation,
				"owner", decided.owner));
	} else {
		vm_emit(vm, "VOTE_STUCK",
			json_pack("{s:s}", "reason", err ? err->msg : "no majority"));
	}
	return r;
}

int vm_force(struct vm *vm, struct mc_error *err)
{
	struct own_record next = {.generation = vm->rec.generation + 1}, decided;
	snprintf(next.owner, sizeof next.owner, "%s", vm->d->cfg.name);
	int r = voter_force(vm->d->voter, vm->name, &next, &decided, err);
	if (r == 0) {
		log_warn("%s: generation %llu was decided by the operator, not by a majority", vm->name,
			(unsigned long long)next.generation);
		vm_set_record(vm, &decided);
		vm_emit(vm, "FORCED",
			json_pack("{s:I, s:s}", "generation", (json_int_t)decided.generation, "owner",
				decided.owner));
	} else if (r == -ESTALE) {
		vm_learned(vm, &decided);
	}
	return r;
}
