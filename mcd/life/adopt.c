/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcd starts, and QEMUs of a former mcd are there.
 *
 * A running VM is taken over closed: nothing it says is heard until this host has asked for
 * ownership anew and won, whatever its own disk remembers, because the record may have moved on
 * while nobody here listened.  A waiting standby QEMU is of no use without the image its mcd held,
 * unless a takeover had begun (takeover-file.h).
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/primary/protect.h"
#include "mcd/standby/standby.h"
#include "mcd/vm/takeover-file.h"
#include "mcd/vm/life.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_WAIT (3 * MC_SEC)

/* The digest of the machine that runs, which the configuration may no longer describe. */
static void machine_path(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s/machine", vm->d->cfg.run_dir, vm->name);
}

void vm_machine_save(const struct vm *vm)
{
	char path[400];
	machine_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "we");
	if (!f || fprintf(f, "%s %016llx\n", vm->plan.digest, (unsigned long long)vm->inventory) < 0)
		log_warn("%s: cannot write %s: %s; a restarted mcd will believe the configuration",
			vm->name, path, strerror(errno));
}

static void machine_load(struct vm *vm)
{
	char path[400], digest[sizeof vm->plan.digest];
	unsigned long long inventory;
	machine_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f || fscanf(f, "%16s %16llx", digest, &inventory) != 2 ||
		strlen(digest) != sizeof digest - 1) {
		guest_inventory(vm->guest, ANSWER_WAIT, &vm->inventory, NULL);
		return;
	}
	if (strcmp(digest, vm->plan.digest))
		log_notice("%s: its configuration was changed since it was started", vm->name);
	memcpy(vm->plan.digest, digest, sizeof digest);
	vm->inventory = inventory;
}

/* With whom it is to be protected again: while it is not, no ownership record says so. */
static void peer_path(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s/protect-with", vm->d->cfg.run_dir, vm->name);
}

void vm_peer_save(const struct vm *vm)
{
	char path[400];
	peer_path(vm, path, sizeof path);
	if (!vm->want_peer[0]) {
		unlink(path);
		return;
	}
	_cleanup_fclose_ FILE *f = fopen(path, "we");
	if (!f || fprintf(f, "%s\n", vm->want_peer) < 0)
		log_warn("%s: cannot write %s: %s; a restarted mcd will not protect it again",
			vm->name, path, strerror(errno));
}

static void peer_load(struct vm *vm)
{
	char path[400], line[LINK_NAME_MAX + 2];
	peer_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof line, f))
		return;
	line[strcspn(line, "\n")] = 0;
	if (config_find_host(&vm->d->cfg, line))
		vm_want_peer(vm, line);
}

/* Everything a started VM has, around the process that is there. */
static int take(struct vm *vm, enum guest_adopted *ret_how, struct mc_error *err)
{
	int taps[CONFIG_NICS_MAX];
	char dir[300];
	snprintf(dir, sizeof dir, "%s/%s", vm->d->cfg.run_dir, vm->name);
	int r = config_load_vm(&vm->d->cfg, vm->name, &vm->cfg, err);
	if (r == 0)
		r = cmdline_plan(vm->cfg, &vm->plan, err);
	if (r == 0)
		r = guest_qemu.adopt(
			vm->cfg, dir, mc_now() + ANSWER_WAIT, &vm->guest, taps, ret_how, err);
	if (r < 0)
		return r;
	machine_load(vm);
	vm_watch_guest(vm, true);
	r = vm_open_network(vm, taps, err);
	for (size_t i = 0; i < vm->cfg->n_nics; i++)
		close(taps[i]);
	return r;
}

static void forget(struct vm *vm)
{
	if (vm->guest) {
		vm_watch_guest(vm, false);
		guest_detach(vm->guest);
		vm->guest = NULL;
		vm_leave_network(vm);
	}
	vm_teardown(vm);
}

/* Whose is it?  Our own disk may be behind: only "it was ours when we last heard" can be acted on
 * at once, by asking for the next generation; anything else is asked of the majority. */
static void settle(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *self = vm->d->cfg.name;
	while (!vm->quit) {
		struct own_record rec = vm_newest_record(vm);
		vm_set_record(vm, &rec);
		if (!strcmp(rec.owner, self)) {
			vm_set_peer(vm, rec.standby);
			protect_alone(vm, "mcd was restarted");
			if (vm->guest && rec.standby[0])
				vm_want_peer(vm, rec.standby);
			else if (vm->guest)
				peer_load(vm);
			return;
		}
		if (voter_current(vm->d->voter, vm->name, mc_now() + MC_SEC, &rec, &err) == 0 &&
			strcmp(rec.owner, self)) {
			vm_learned(vm, &rec);
			vm_life_gone(vm, "it was found running, but belongs to %s",
				rec.owner[0] ? rec.owner : "nobody");
			return;
		}
		vm_set_alarm(
			vm, "it was found running, and no majority says whose it is: %s", err.msg);
		vm_wait(vm, mc_now() + 200 * MC_MSEC);
		vm_take_pending(vm);
	}
}

/* Does the majority make us owner by that generation?  The former mcd may have died before its
 * question was answered: then it is asked again, for nothing was acknowledged since. Until an
 * answer. */
static bool entitled(struct vm *vm, uint64_t generation)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *self = vm->d->cfg.name;
	struct own_record rec;
	while (!vm->quit) {
		int r = voter_current(vm->d->voter, vm->name, mc_now() + MC_SEC, &rec, &err);
		/* The former mcd asked as the standby of a decided record, which may not be on a
		 * disk of this majority yet: who does not know it cannot say that the image is not
		 * needed. */
		if (r == 0 && rec.generation + 1 < generation) {
			mc_error_set(&err, -EAGAIN, MC_ECLASS_STATE,
				"the voters that answer know generation %llu, and not %llu, which "
				"named this host the standby",
				(unsigned long long)rec.generation,
				(unsigned long long)generation - 1);
		} else if (r == 0) {
			vm_learned(vm, &rec);
			vm_set_record(vm, &rec);
			if (rec.generation + 1 != generation || strcmp(rec.standby, self))
				return rec.generation == generation && !strcmp(rec.owner, self) &&
				       !rec.standby[0];
			r = vm_propose(vm, self, "", 500 * MC_MSEC, &err);
			if (r == 0)
				return true;
			if (r == -ESTALE)
				continue;
		}
		vm_set_alarm(vm,
			"a takeover was under way when mcd ended, and no majority says whether it "
			"was decided: %s",
			err.msg);
		vm_wait(vm, mc_now() + 200 * MC_MSEC);
		vm_take_pending(vm);
	}
	return false;
}

/* A waiting QEMU: the former mcd was a standby. Its image is whole only if a takeover had begun,
 * for which the device state was kept; QEMU itself holds the memory. */
static void finish_takeover(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	struct takeover_state t = {0};
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	int r = takeover_file_load(dir, &t, &err);
	if (r < 0) {
		log_notice("%s: ending the standby QEMU that a former mcd left%s%s", vm->name,
			err.code ? ": " : "", err.msg);
		vm_teardown(vm);
		return;
	}
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "finishing the takeover of a former mcd");
	if (!entitled(vm, t.generation)) {
		if (!vm->quit)
			vm_life_gone(vm,
				"the takeover that a former mcd had begun was not decided for us");
	} else if ((r = disks_claim(vm, t.generation, true, &err)) < 0 ||
		   (r = netbuf_pass(vm->nb, &err)) < 0 || (r = netbuf_announce(vm->nb, &err)) < 0 ||
		   (r = takeover_activate(vm, t.devices, t.len, t.guest_state, NULL, &err)) < 0) {
		vm_teardown(vm);
		vm_set_alarm(vm, "the takeover of %s failed: %s", vm->name, err.msg);
		vm_set_state(vm, VM_ROLE_NONE, VM_FAILED, "%s", err.msg);
	} else {
		takeover_file_remove(dir);
		vm_clear_alarm(vm);
		if (config_find_host(&vm->d->cfg, t.primary))
			vm_want_peer(vm, t.primary);
		vm_emit(vm, "RUNNING",
			json_pack("{s:I, s:I}", "epoch", (json_int_t)t.epoch, "generation",
				(json_int_t)vm->rec.generation));
		vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED,
			"finished the takeover of a former mcd, at epoch %llu",
			(unsigned long long)t.epoch);
		if (t.guest_state == WIRE_GUEST_RUNS)
			vm_time_set(vm);
	}
	free(t.devices);
}

void vm_adopt(struct vm *vm)
{
	while (!vm->quit) {
		struct mc_error err = MC_ERROR_INIT;
		enum guest_adopted how = GUEST_ADOPTED_RUNNING;
		int r = take(vm, &how, &err);
		if (r == -ENOENT && !err.code) { /* the ordinary case: no QEMU */
			forget(vm);
			return;
		}
		if (r == 0 && how == GUEST_ADOPTED_WAITING) {
			finish_takeover(vm);
			return;
		}
		if (r == 0) {
			/* Stopped: most likely in the middle of an epoch. Its administrator's stop
			 * cannot be told from the former mcd's; a guest that runs on is the lesser
			 * surprise, so it counts as ours to resume. */
			vm_set_state(
				vm, VM_ROLE_PRIMARY, VM_HOLDING, "taken over from a former mcd");
			settle(vm);
			return;
		}
		forget(vm);
		vm_set_alarm(vm, "a QEMU of %s is there but cannot be taken over: %s", vm->name,
			err.msg);
		for (struct vm_call *c; (c = vm_next_call(vm));)
			vm_call_fail(c, &err);
		vm_wait(vm, mc_now() + MC_SEC);
		vm_take_pending(vm);
	}
}
