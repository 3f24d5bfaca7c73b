/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's life on this host while it is not protected: idle, started, running, stopped, gone. */
#include "mcd/vm/life.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/primary/protect.h"
#include "mcd/standby/standby.h"
#include "mcd/vm/takeover-file.h"
#include "mcd/vm/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#define LISTEN_WAIT   MC_SEC
#define LAUNCH_WAIT   (15 * MC_SEC)
#define SHUTDOWN_WAIT (60 * MC_SEC)

/* --- the pieces this host needs for its copy -------------------------------------------------- */

void vm_run_dir(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s", vm->d->cfg.run_dir, vm->name);
}

static void pressure(void *ctx)
{
	vm_ring(ctx, WAKE_PRESSURE);
}

static int make_ram(struct vm *vm, struct mc_error *err)
{
	for (size_t i = 0; i < vm->plan.n_ram; i++) {
		const struct cmdline_ram *r = &vm->plan.ram[i];
		int fd = memfd_create(r->id, MFD_CLOEXEC);
		if (fd < 0)
			return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
				"cannot make memory for %s: %s", r->id, strerror(errno));
		vm->ram_fds[i] = fd;
		if (ftruncate(fd, (off_t)r->size) < 0)
			return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
				"cannot make %llu bytes of memory for %s: %s",
				(unsigned long long)r->size, r->id, strerror(errno));
	}
	return 0;
}

int vm_open_network(struct vm *vm, const int *taps, struct mc_error *err)
{
	struct netbuf_nic nics[CONFIG_NICS_MAX] = {0};
	for (size_t i = 0; i < vm->cfg->n_nics; i++) {
		memcpy(nics[i].id, vm->cfg->nics[i].id, sizeof nics[i].id);
		memcpy(nics[i].bridge, vm->cfg->nics[i].bridge, sizeof nics[i].bridge);
		memcpy(nics[i].mac, vm->cfg->nics[i].mac, sizeof nics[i].mac);
	}
	struct netbuf_config nc = {
		.vm = vm->name,
		/* What "auto" came to when mcd started: probing again would take time. */
		.backend =
			strcmp(vm->d->netbuf_name, "none") ? vm->d->netbuf_name : vm->d->cfg.netbuf,
		.nics = nics,
		.n_nics = vm->cfg->n_nics,
		.limit = vm->cfg->hold_limit,
		.pressure = pressure,
		.ctx = vm,
	};
	int r = taps ? netbuf_adopt(&nc, taps, &vm->nb, err) : netbuf_open(&nc, &vm->nb, err);
	if (r < 0)
		return r;
	vm->delay = vm->cfg->delay;
	vm->max_buffer = vm->cfg->max_buffer;
	pthread_mutex_lock(&vm->lock);
	vm->shown_nb = vm->nb;
	vm->pub.delay = vm->delay;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

int vm_prepare(struct vm *vm, struct mc_error *err)
{
	struct config *cfg = &vm->d->cfg;
	int r = config_load_vm(cfg, vm->name, &vm->cfg, err);
	if (r == 0)
		r = cmdline_plan(vm->cfg, &vm->plan, err);
	if (r == 0)
		r = make_ram(vm, err);
	if (r == 0)
		r = vm_open_network(vm, NULL, err);
	if (r < 0)
		vm_teardown(vm);
	return r;
}

int vm_launch(struct vm *vm, bool incoming, uint64_t timeout_ns, struct mc_error *err)
{
	char dir[300];
	int taps[CONFIG_NICS_MAX];
	struct cmdline_disk disks[CONFIG_DISKS_MAX];
	int r = disks_locate(vm, incoming, disks, err);
	if (r < 0)
		return r;
	vm_run_dir(vm, dir, sizeof dir);
	for (size_t i = 0; i < vm->cfg->n_nics; i++)
		taps[i] = netbuf_guest_fd(vm->nb, i);
	struct guest_launch l = {
		.vm = vm->cfg,
		.plan = &vm->plan,
		.run_dir = dir,
		.ram_fds = vm->ram_fds,
		.tap_fds = taps,
		.disks = disks,
		.incoming = incoming,
		.deadline = mc_now() + timeout_ns,
	};
	r = guest_qemu.launch(&l, &vm->guest, err);
	if (r == 0)
		r = guest_inventory(vm->guest, timeout_ns, &vm->inventory, err);
	if (r == 0) {
		vm_watch_guest(vm, true);
		vm_machine_save(vm);
		vm_peer_save(vm); /* or it would be that of an earlier life */
	}
	return r;
}

void vm_watch_guest(struct vm *vm, bool on)
{
	struct epoll_event ev = {.events = EPOLLIN};
	if (vm->guest)
		epoll_ctl(
			vm->wake, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, guest_pidfd(vm->guest), &ev);
}

void vm_leave_network(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->shown_nb = NULL;
	pthread_mutex_unlock(&vm->lock);
	netbuf_leave(vm->nb);
	vm->nb = NULL;
}

void vm_teardown(struct vm *vm)
{
	if (vm->nb)
		netbuf_shut(vm->nb, NULL);
	guest_agent_free(vm->agent);
	vm->agent = NULL;
	if (vm->guest) {
		vm_watch_guest(vm, false);
		guest_kill(vm->guest);
		guest_free(vm->guest);
		vm->guest = NULL;
	}
	pthread_mutex_lock(&vm->lock);
	vm->shown_nb = NULL;
	memset(&vm->pub.netbuf, 0, sizeof vm->pub.netbuf);
	pthread_mutex_unlock(&vm->lock);
	netbuf_close(vm->nb);
	vm->nb = NULL;
	vm->shut_in = false;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		if (vm->ram_fds[i] >= 0)
			close(mc_steal_fd(&vm->ram_fds[i]));
	vm->want_peer[0] = 0; /* its file stays: mcd may end, and the VM not */
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	takeover_file_remove(dir); /* it belongs to the QEMU that was here */
	cmdline_plan_clear(&vm->plan);
	memset(&vm->plan, 0, sizeof vm->plan);
	config_vm_free(vm->cfg);
	vm->cfg = NULL;
	vm->panicked = false;
}

enum dirty_backend vm_dirty_backend(const struct vm *vm)
{
	const char *b = vm->d->cfg.dirty;
	return !strcmp(b, "pagemap-scan") ? DIRTY_PAGEMAP_SCAN
	       : !strcmp(b, "soft-dirty") ? DIRTY_SOFT_DIRTY
					  : DIRTY_AUTO;
}

/* --- ends ------------------------------------------------------------------------------------ */

void vm_life_gone(struct vm *vm, const char *fmt, ...)
{
	char why[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(why, sizeof why, fmt, ap);
	va_end(ap);
	vm_teardown(vm);
	struct own_record new = vm_newest_record(vm);
	vm_set_record(vm, &new);
	vm_clear_alarm(vm);
	vm_emit(vm, "DISCARDED", json_pack("{s:s}", "reason", why));
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", why);
}

/* Best effort: an owner that does not run it may start it again under its own record. */
static void give_up_record(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = vm_propose(vm, "", "", MC_SEC, &err);
	if (r < 0 && r != -ESTALE)
		log_warn(
			"%s: stopped, but its record still names this host: %s", vm->name, err.msg);
}

void vm_life_stopped(struct vm *vm, const char *why)
{
	/* The newest disks are here: no other host may start it from older ones. */
	bool keep = vm->cfg && vm->cfg->n_disks;
	vm_teardown(vm);
	if (!keep)
		give_up_record(vm);
	vm_clear_alarm(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", why);
}

void vm_life_guest_ended(struct vm *vm, enum guest_event ev)
{
	if (ev == GUEST_EVENT_SHUTDOWN) {
		netbuf_pass(vm->nb, NULL); /* what it said last may still be in the tap */
		vm_life_stopped(vm, "the guest powered off");
		return;
	}
	vm_teardown(vm);
	vm_set_alarm(vm,
		"QEMU of %s ended by itself while it was not protected; see qemu.log, then 'mcctl "
		"start %s'",
		vm->name, vm->name);
	vm_set_state(vm, VM_ROLE_NONE, VM_FAILED, "QEMU ended by itself");
}

void vm_life_resume(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!guest_paused_by_us(vm->guest))
		return;
	if (guest_ping(vm->guest, MC_SEC, &err) < 0 || guest_resume(vm->guest, MC_SEC, &err) < 0) {
		vm_set_alarm(vm, "QEMU of %s does not take the command to run on: %s", vm->name,
			err.msg);
		return;
	}
	vm_clear_alarm(vm);
	vm_time_set(vm);
}

void vm_life_open(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	/* A later try is not to open what an operator has meanwhile forced elsewhere. */
	if (!vm->shut_in || vm_ownership(vm) == OWN_LOST)
		return;
	if (netbuf_pass(vm->nb, &err) < 0) {
		vm_set_alarm(vm, "cannot open the network of %s: %s", vm->name, err.msg);
		return;
	}
	vm->shut_in = false;
	if (!guest_paused_by_us(vm->guest))
		vm_clear_alarm(vm);
}

bool vm_life_takeover(struct vm *vm, struct vm_call *c, const char *other)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!c->force)
		mc_error_set(&err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
			"no majority of the voters answers, so nothing here can tell whether %s "
			"goes on with %s. "
			"Should it be running there, forcing it here means that two copies of it "
			"answer, and that "
			"what one of them has acknowledged is lost. Only when %s is certainly "
			"powered off, or cut "
			"off for good: mcctl takeover %s --force",
			other, vm->name, other, vm->name);
	else if (vm_force(vm, &err) == 0) {
		vm_call_ok(c, json_pack("{s:s, s:I}", "owner", vm->d->cfg.name, "generation",
				      (json_int_t)vm->rec.generation));
		return true;
	}
	vm_call_fail(c, &err);
	return false;
}

void vm_life_keep_call(struct vm *vm, struct vm_call *c)
{
	pthread_mutex_lock(&vm->lock);
	c->next = vm->calls;
	vm->calls = c;
	pthread_mutex_unlock(&vm->lock);
	vm_ring(vm, WAKE_CALL);
}

void vm_life_reset_figures(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	for (int i = 0; i < STEP_MAX; i++)
		mc_histogram_reset(&vm->pub.steps[i]);
	mc_histogram_reset(&vm->pub.dirty);
	mc_histogram_reset(&vm->pub.apply);
	vm->pub.epoch = 0;
	vm->pub.buffer_budget = vm->max_buffer;
	vm->pub.delay = vm->delay;
	memset(&vm->pub.sync, 0, sizeof vm->pub.sync);
	pthread_mutex_unlock(&vm->lock);
}

/* --- start and stop --------------------------------------------------------------------------- */

/* A host that was never heard is not suspected: it may be that this mcd has only just begun to
 * listen. */
static bool nobody_hears(struct vm *vm, const char *host)
{
	struct timing t;
	uint64_t deadline = mc_now() + LISTEN_WAIT;
	daemon_timing(vm->d, vm->delay, &t);
	while (!vm->quit && mc_now() < deadline) {
		if (keepalive_age(vm->d->keepalive, host) < t.suspect_after ||
			voter_ask_heard(vm->d->voter, host, mc_now() + t.ask_heard) <
				t.suspect_after)
			return false;
		vm_wait(vm, mc_now() + 100 * MC_MSEC);
		vm_take_pending(vm);
	}
	return true;
}

/* Who may start it: nobody owns it, or we do and nobody holds a copy that could be newer than a
 * fresh boot. */
static int may_start(struct vm *vm, bool force, struct mc_error *err)
{
	struct own_record rec;
	const char *self = vm->d->cfg.name;
	int r = voter_current(vm->d->voter, vm->name, mc_now() + MC_SEC, &rec, err);
	if (r < 0)
		return r;
	vm_set_record(vm, &rec);
	/* Its owner is lost for good, and so is the image that this host had in memory; what the
	 * replica holds is as good as after a power failure.  As the named standby it may ask for
	 * the record. */
	if (force && rec.owner[0] && strcmp(rec.owner, self) && !strcmp(rec.standby, self) &&
		nobody_hears(vm, rec.owner))
		return 0;
	if (rec.owner[0] && strcmp(rec.owner, self) && !strcmp(rec.standby, self))
		return mc_error_set(err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"%s belongs to host %s (generation %llu), and this is its standby: start "
			"it there. Only "
			"if that host, which must be off, and its disks are lost for good: mcctl "
			"start %s --force",
			vm->name, rec.owner, (unsigned long long)rec.generation, vm->name);
	if (rec.owner[0] && strcmp(rec.owner, self))
		return mc_error_set(err, -EBUSY, MC_ECLASS_NOT_OWNER,
			"%s belongs to host %s (generation %llu): start it there, or stop it there "
			"first",
			vm->name, rec.owner, (unsigned long long)rec.generation);
	if (rec.standby[0] && !force)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"%s holds a protected copy of %s that a fresh start would throw away; let "
			"it take over, "
			"or start with --force",
			rec.standby, vm->name);
	return 0;
}

static int start(struct vm *vm, bool force, struct mc_error *err)
{
	int r = may_start(vm, force, err);
	if (r == 0)
		r = vm_prepare(vm, err);
	if (r < 0)
		return r;
	bool nobodys = !vm->rec.owner[0];
	r = disks_may_start(vm, !strcmp(vm->rec.owner, vm->d->cfg.name), force, err);
	if (r < 0) {
		vm_teardown(vm);
		return r;
	}
	vm_set_state(vm, VM_ROLE_NONE, VM_STARTING, "asking for ownership");
	/* The record first: a VM that runs without one could run twice. */
	r = vm_propose(vm, vm->d->cfg.name, "", 1500 * MC_MSEC, err);
	if (r == 0) {
		r = disks_claim(vm, vm->rec.generation, false, err);
		if (r == 0)
			r = vm_launch(vm, false, LAUNCH_WAIT, err);
		if (r == 0)
			r = netbuf_pass(vm->nb, err);
		/* It may have run on another host: the switches still send its frames there, and a
		 * guest with a fixed address says nothing before it is spoken to. */
		if (r == 0)
			r = netbuf_announce(vm->nb, err);
		if (r < 0) {
			bool disks = vm->cfg->n_disks;
			vm_life_stopped(vm, "QEMU could not be started");
			if (disks && nobodys) /* nothing was written yet: it may as well be started
						 elsewhere */
				give_up_record(vm);
			return r;
		}
		vm_clear_alarm(vm);
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "started");
		return 0;
	}
	vm_teardown(vm);
	vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "%s", err->msg);
	return r;
}

static void stop(struct vm *vm, struct vm_call *c)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!c->force && guest_shutdown(vm->guest, mc_now() + SHUTDOWN_WAIT, &err) < 0)
		log_warn("%s: %s", vm->name, err.msg);
	vm_life_stopped(
		vm, c->force ? "killed by the administrator" : "stopped by the administrator");
	vm_call_ok(c, NULL);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void refuse_offer(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	int fd = mc_steal_fd(&vm->offered_fd);
	struct link_peer peer = vm->offered;
	pthread_mutex_unlock(&vm->lock);
	if (fd < 0)
		return;
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, -EBUSY, MC_ECLASS_STATE,
		"%s runs here on %s itself; it cannot be a standby for %s", vm->name,
		vm->d->cfg.name, peer.name);
	standby_refuse(fd, &peer, &err);
}

/* The other host is back: protection returns by itself.  A failure is logged, not alarmed, and
 * tried again ever less often: the VM runs, and the administrator sees "unprotected". */
static void reprotect(struct vm *vm)
{
	if (!vm->want_peer[0] || !vm->d->cfg.reprotect_auto || mc_now() < vm->retry_at ||
		keepalive_suspected(vm->d->keepalive, vm->want_peer))
		return;
	struct vm_call *c = calloc(1, sizeof *c);
	if (!c)
		return;
	c->verb = VM_PROTECT;
	memcpy(c->peer, vm->want_peer, sizeof c->peer);
	c->delay = vm->delay;
	c->max_buffer = vm->max_buffer;
	uint64_t pause = vm->retry_pause, began = mc_now();
	vm->protected_at = 0;
	protect_run(vm, c);
	/* A peer with which it never lasts is not asked in a loop.  A protection that lasted longer
	 * than it took to come about was worth it, and the count begins anew: else the protection
	 * after a few faults in a row would be long in coming. */
	uint64_t now = mc_now(), at = vm->protected_at;
	if (at && now - at > MC_SEC && now - at > at - began)
		vm->retry_pause = pause = MC_SEC;
	else if (pause < 30 * MC_SEC)
		vm->retry_pause = 2 * pause;
	vm->retry_at = now + pause;
}

void vm_run_unprotected(struct vm *vm)
{
	while (!vm->quit && vm->guest && vm_get_state(vm) == VM_UNPROTECTED) {
		struct vm_call *c = vm_next_call(vm);
		if (c && c->verb == VM_STOP)
			stop(vm, c);
		else if (c && c->verb == VM_PROTECT)
			protect_run(vm, c);
		else if (c && c->verb == VM_SET)
			vm_call_set(vm, c);
		else if (c && c->verb == VM_UNPROTECT && vm->want_peer[0]) {
			vm_want_peer(vm, "");
			vm_clear_alarm(vm);
			vm_call_ok(c, NULL);
		} else if (c)
			vm_call_wrong_state(vm, c);
		if (c)
			continue;
		refuse_offer(vm);
		uint64_t look = vm->want_peer[0] ? 200 * MC_MSEC : MC_SEC;
		vm_wait(vm, mc_now() + look);
		vm_take_pending(vm);
		vm_life_resume(vm);
		vm_life_open(vm);
		if (!vm->shut_in)
			reprotect(vm);
		if (!vm->guest)
			break;
		enum guest_event ev = vm_guest_events(vm);
		if (ev != GUEST_EVENT_NONE)
			vm_life_guest_ended(vm, ev);
		/* Cannot happen while this host is sole owner; if it does, the record is right. */
		if (vm->guest && vm_ownership(vm) == OWN_LOST)
			vm_life_gone(
				vm, "%s owns it by a newer record", vm_newest_record(vm).owner);
	}
}

static void idle(struct vm *vm)
{
	struct vm_call *c = vm_next_call(vm);
	if (c && c->verb == VM_START) {
		struct mc_error err = MC_ERROR_INIT;
		int r = start(vm, c->force, &err);
		if (r < 0)
			vm_call_fail(c, &err);
		else
			vm_call_ok(c,
				json_pack("{s:I}", "generation", (json_int_t)vm->rec.generation));
	} else if (c) {
		vm_call_wrong_state(vm, c);
	} else {
		pthread_mutex_lock(&vm->lock);
		int fd = mc_steal_fd(&vm->offered_fd);
		struct link_peer peer = vm->offered;
		pthread_mutex_unlock(&vm->lock);
		if (fd >= 0) {
			standby_run(vm, fd, &peer);
		} else {
			struct own_record new = vm_newest_record(vm);
			vm_set_record(vm, &new);
			vm_wait(vm, mc_now() + 3600 * MC_SEC);
			vm_take_pending(vm);
		}
	}
}

void *vm_thread(void *arg)
{
	struct vm *vm = arg;
	vm_adopt(vm);
	while (!vm->quit)
		if (vm->guest)
			vm_run_unprotected(vm);
		else
			idle(vm);
	if (!vm->guest) {
		vm_teardown(vm);
		return NULL;
	}
	/* mcd ends, the VM does not: it must not stay stopped, and nobody hears what it says. */
	guest_resume(vm->guest, MC_SEC, NULL);
	log_notice("%s: QEMU (pid %d) goes on without mcd", vm->name, (int)guest_pid(vm->guest));
	vm_watch_guest(vm, false);
	guest_detach(vm->guest);
	vm->guest = NULL;
	vm_leave_network(vm);
	vm_teardown(vm);
	return NULL;
}
