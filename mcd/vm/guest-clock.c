/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock.  QEMU stops it with the vCPUs: a takeover costs the outage, and each epoch its
 * pause, so that a protected guest's clock goes slow by some percent.  Its agent sets it, if there
 * is one (guest/agent.h): at once after a takeover and when a guest was held, and else when it is
 * late by more than a time service in the guest would let it be.
 */
#include "mcd/vm/guest-clock.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/guest/agent.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"

#include <errno.h>

/* Less is not worth a jump of the guest's clock. */
#define TOLERANCE (20 * (int64_t)MC_MSEC)
/* While it is protected: rarely, because every setting starts a program in the guest. */
#define KEEP_EVERY     (10 * MC_SEC)
#define KEEP_TOLERANCE ((int64_t)MC_SEC)

struct vm_clock {
	struct vm *vm;
	struct guest_agent *agent;
	uint64_t asked; /* when it last began to */
	bool keeping;   /* only if it is late by much */
};

int vm_clock_new(struct vm *vm, struct vm_clock **ret, struct mc_error *err)
{
	struct vm_clock *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	c->vm = vm;
	*ret = c;
	return 0;
}

void vm_clock_forget(struct vm_clock *c)
{
	guest_agent_free(mc_steal_ptr(c->agent));
}

void vm_clock_free(struct vm_clock *c)
{
	if (!c)
		return;
	vm_clock_forget(c);
	free(c);
}

/* From the agent's thread, with nothing of the VM's but its name and its surroundings, which do not
 * change. */
static void done(void *ctx, const struct guest_time *t)
{
	struct vm_clock *c = ctx;
	struct vm *vm = c->vm;
	if (c->keeping && !t->set)
		/* a clock that is right is no news, and what is wrong was said after the
		 * takeover */
		return;
	json_t *data = json_pack("{s:b}", "set", t->set);
	if (t->behind != INT64_MIN)
		json_object_set_new(data, "behind_ms", json_real((double)t->behind / 1e6));
	if (t->left != INT64_MIN)
		json_object_set_new(data, "left_ms", json_real((double)t->left / 1e6));
	if (t->err.code)
		json_object_set_new(data, "error", json_string(t->err.msg));
	if (t->set)
		log_info("%s: the guest's clock was late by %.3f s, and was set%s%s", vm->name,
			(double)t->behind / 1e9, t->err.code ? ", but " : "", t->err.msg);
	else if (t->err.code)
		log_notice("%s: the guest's clock was not set: %s", vm->name, t->err.msg);
	else
		log_info("%s: the guest's clock is right", vm->name);
	vm_emit(vm, "GUEST_TIME", data);
}

static void ask_agent(struct vm *vm, int64_t tolerance)
{
	struct vm_clock *c = vm->clock;
	struct mc_error err = MC_ERROR_INIT;
	vm_clock_forget(c); /* should an earlier one still be waiting */
	c->keeping = tolerance == KEEP_TOLERANCE;
	c->asked = mc_now();
	if (vm->cfg->guest_time == CONFIG_TIME_NONE || !vm->plan.agent[0])
		return;
	if (guest_set_time(vm->guest, vm->plan.agent, tolerance, done, c, &c->agent, &err) < 0)
		log_notice("%s: %s", vm->name, err.msg);
}

void vm_clock_set(struct vm *vm)
{
	ask_agent(vm, TOLERANCE);
}

void vm_clock_keep(struct vm *vm)
{
	struct vm_clock *c = vm->clock;
	if (mc_now() - c->asked >= KEEP_EVERY && !guest_agent_busy(c->agent))
		ask_agent(vm, KEEP_TOLERANCE);
}
