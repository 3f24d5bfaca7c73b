/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A waiting QEMU was found: the former mcd was a standby.  Its image is whole only if a takeover
 * had begun, for which the device state was kept (vm/takeover-file.h); QEMU itself holds the
 * memory.
 */
#include "common/clock.h"
#include "common/log.h"
#include "mcd/standby/ends.h"
#include "mcd/standby/takeover.h"
#include "mcd/vm/ask.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/ends.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/takeover-file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAUSE (200 * MC_MSEC) /* between two looks */

struct ending {
	struct vm_question q;
	const struct takeover_state *t;
};

/* The former mcd may have died before its question was answered: then it is asked again, for
 * nothing was acknowledged since. */
static void gather(struct vm_question *q, struct decide_facts *f)
{
	const struct takeover_state *t = ((struct ending *)q)->t;
	struct own_record newest = vm_newest_record(q->vm);
	f->image_complete = true;
	/* It asked as the standby of a decided record, which may not be on a disk of this
	 * majority yet: who does not know it cannot say that the image is not needed. */
	if (newest.generation + 1 < t->generation)
		f->ownership = OWN_UNKNOWN;
	else if (newest.generation > t->generation)
		f->ownership = OWN_LOST; /* whatever it says, it is not about this image */
	else if (newest.generation + 1 == t->generation && strcmp(newest.standby, vm_self(q->vm)))
		f->ownership = OWN_LOST;
}

static void begin(struct vm_question *q, const struct decision *d)
{
}

static void before(struct vm_question *q, const struct decision *d)
{
	struct own_record newest = vm_newest_record(q->vm);
	if (newest.generation > q->vm->rec.generation)
		vm_set_record(q->vm, &newest);
}

static void stuck(struct vm_question *q, const struct decision *d, const char *what)
{
	vm_set_alarm(q->vm,
		"a takeover was under way when mcd ended, and no majority says whether it was "
		"decided: %s",
		what);
}

static void listen(struct vm_question *q)
{
	vm_take_pending(q->vm);
	for (struct vm_call *c; (c = vm_next_call(q->vm));)
		vm_call_wrong_state(q->vm, c);
}

static void finish(struct vm *vm, const struct takeover_state *t)
{
	struct mc_error err = MC_ERROR_INIT;
	struct own_record newest = vm_newest_record(vm);
	struct roms roms = {0};
	struct takeover again = {
		.vm = vm,
		.primary = t->primary,
		.epoch = t->epoch,
		.devices = t->devices,
		.devices_len = t->len,
		.guest_state = t->guest_state,
		.roms = &roms,
	};
	vm_set_record(vm, &newest);
	/* Without it this QEMU cannot be replaced, should the former mcd have begun with it. */
	if (takeover_bring(&again, &err) < 0)
		log_warn("%s: %s", vm->name, err.msg);
	takeover_run(&again);
	roms_clear(&roms);
}

static void decide_restart(struct vm *vm, const struct takeover_state *t)
{
	static const struct vm_asker former = {
		.gather = gather,
		.begin = begin,
		.before = before,
		.stuck = stuck,
		.listen = listen,
	};
	struct ending e = {
		.q = {.asker = &former,
			.vm = vm,
			.role = DECIDE_STANDBY,
			.generation = t->generation,
			.peer = t->primary,
			.pause = PAUSE,
			.proposed = true},
		.t = t,
	};
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "finishing the takeover of a former mcd");
	switch (vm_ask(&e.q).action) {
	case ACT_ACTIVATE:
		finish(vm, t);
		break;
	case ACT_DESTROY:
		vm_gone(vm, "the takeover that a former mcd had begun was not decided for us");
		break;
	case ACT_LEAVE: /* the next mcd finds it as this one did */
		break;
	default:
		assert(!"a standby's end that is none");
	}
}

/* What keeps the file from being read may pass. */
static int load(struct vm *vm, struct takeover_state *ret, struct mc_error *err)
{
	char dir[300];
	vm_run_dir(vm, dir, sizeof dir);
	for (;;) {
		*err = (struct mc_error)MC_ERROR_INIT;
		int r = takeover_file_load(dir, ret, err);
		if (r == 0 || r == -ENOENT || r == -EBADMSG || vm->quit)
			return r;
		vm_set_alarm(vm, "a takeover was under way when mcd ended, and cannot go on: %s",
			err->msg);
		vm_wait(vm, mc_now() + MC_SEC);
		listen(&(struct vm_question){.vm = vm});
	}
}

void ends_restart_standby(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	struct takeover_state t = {0};
	int r = load(vm, &t, &err);
	if (r < 0 && vm->quit)
		return; /* the next mcd finds it as this one did */
	if (r < 0) {
		log_notice("%s: ending the standby QEMU that a former mcd left%s%s", vm->name,
			err.code ? ": " : "", err.msg);
		vm_teardown(vm);
		return;
	}
	decide_restart(vm, &t);
	free(t.devices);
}
