/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/machine.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/guest-clock.h"
#include "mcd/vm/kept.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/published.h"
#include "mcd/vm/takeover-file.h"
#include "mcd/vm/vm.h"
#include "mcd/vm/waits.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

void vm_run_dir(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s", vm->env->cfg->run_dir, vm->name);
}

enum dirty_backend vm_dirty_wanted(const struct config *cfg)
{
	static const enum dirty_backend of[] = {
		[CONFIG_DIRTY_AUTO] = DIRTY_AUTO,
		[CONFIG_DIRTY_PAGEMAP_SCAN] = DIRTY_PAGEMAP_SCAN,
		[CONFIG_DIRTY_SOFT_DIRTY] = DIRTY_SOFT_DIRTY,
	};
	return of[cfg->dirty];
}

static void pressure(void *ctx)
{
	vm_ring(ctx, WAKE_PRESSURE);
}

static int make_ram(struct vm *vm, struct mc_error *err)
{
	for (size_t i = 0; i < vm->plan.n_ram; i++) {
		const struct cmdline_ram *r = &vm->plan.ram[i];
		int ret = memory_make(r->id, r->size, &vm->ram_fds[i], err);
		if (ret < 0)
			return ret;
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
		.backend = vm->env->netbuf,
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
	vm_show_network(vm);
	vm_publish_knobs(vm);
	return 0;
}

int vm_configure(struct vm *vm, struct mc_error *err)
{
	int r = config_load_vm(vm->env->cfg, vm->name, &vm->cfg, err);
	return r < 0 ? r : cmdline_plan(vm->cfg, &vm->plan, err);
}

int vm_prepare(struct vm *vm, struct mc_error *err)
{
	int r = vm_configure(vm, err);
	if (r == 0)
		r = make_ram(vm, err);
	if (r == 0)
		r = vm_open_network(vm, NULL, err);
	if (r < 0)
		vm_teardown(vm);
	return r;
}

/* For `mcctl check`: a protection asks again. */
void vm_note_unsaved(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = guest_migratable(vm->guest, WAIT_QMP, &err);
	vm_set_unsaved(vm, r == -ENOTSUP ? err.msg : "");
}

int vm_launch(struct vm *vm, bool incoming, uint64_t timeout_ns, struct mc_error *err)
{
	char dir[300];
	int taps[CONFIG_NICS_MAX];
	struct cmdline_disk disks[CONFIG_DISKS_MAX];
	int r = disks_locate(vm, incoming, disks, err);
	if (r < 0)
		return r;
	assert(!vm->guest);
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
	r = vm->env->guests->launch(&l, &vm->guest, err);
	if (r == 0)
		r = guest_inventory(vm->guest, timeout_ns, &vm->inventory, err);
	if (r == 0) {
		if (!incoming)
			vm_note_unsaved(vm);
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

void vm_end_guest(struct vm *vm)
{
	if (!vm->guest)
		return;
	vm_watch_guest(vm, false);
	guest_kill(vm->guest);
	guest_free(mc_steal_ptr(vm->guest));
}

static void forget(struct vm *vm)
{
	vm_clock_forget(vm->clock);
	vm->shut_in = false;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		if (vm->ram_fds[i] >= 0)
			close(mc_steal_fd(&vm->ram_fds[i]));
	vm->want_peer[0] = 0; /* its file stays: mcd may end, and the VM not */
	cmdline_plan_clear(&vm->plan);
	memset(&vm->plan, 0, sizeof vm->plan);
	config_vm_free(vm->cfg);
	vm->cfg = NULL;
	vm->panicked = false;
	memset(&vm->owes, 0, sizeof vm->owes);
}

void vm_leave_guest(struct vm *vm)
{
	if (vm->guest) {
		vm_watch_guest(vm, false);
		guest_detach(mc_steal_ptr(vm->guest));
	}
	struct netbuf *nb = mc_steal_ptr(vm->nb);
	vm_show_network(vm);
	netbuf_leave(nb);
	forget(vm);
}

void vm_teardown(struct vm *vm)
{
	char dir[300];
	if (vm->nb)
		netbuf_shut(vm->nb, NULL);
	vm_clock_forget(vm->clock);
	vm_end_guest(vm);
	struct netbuf *nb = mc_steal_ptr(vm->nb);
	vm_show_network(vm);
	netbuf_close(nb);
	vm_run_dir(vm, dir, sizeof dir);
	takeover_file_remove(dir); /* it belongs to the QEMU that was here */
	forget(vm);
}

void vm_resume(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!vm->guest || !guest_paused_by_us(vm->guest))
		return;
	if (guest_ping(vm->guest, MC_SEC, &err) < 0 || guest_resume(vm->guest, MC_SEC, &err) < 0) {
		vm_set_alarm(vm, "QEMU of %s does not take the command to run on: %s", vm->name,
			err.msg);
		return;
	}
	vm_clear_alarm(vm);
	vm_clock_set(vm);
}

void vm_open(struct vm *vm)
{
	struct mc_error err = MC_ERROR_INIT;
	/* A later try is not to open what an operator has meanwhile forced elsewhere. */
	if (!vm->shut_in || vm_lost(vm))
		return;
	/* failover/README.md 14: only {self, none} ends the hold. */
	assert(!strcmp(vm->rec.owner, vm_self(vm)) && !vm->rec.standby[0]);
	if (netbuf_pass(vm->nb, &err) < 0) {
		vm_set_alarm(vm, "cannot open the network of %s: %s", vm->name, err.msg);
		return;
	}
	vm->shut_in = false;
	if (!guest_paused_by_us(vm->guest))
		vm_clear_alarm(vm);
}
