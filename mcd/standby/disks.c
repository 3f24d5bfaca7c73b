/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's disks on its standby: receiving them beside the memory, epoch by epoch. */
#include "mcd/standby/disks.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_WAIT (5 * MC_SEC)
#define WRITES_WAIT                                                                                \
	(30 * MC_SEC) /* keep-alives end a wait sooner; this bounds one on a live host */

static void broken(void *ctx)
{
	vm_ring(ctx, WAKE_DISK);
}

/* An earlier session that failed before it took its connection leaves it here. */
static bool hung_up(int fd)
{
	struct pollfd p = {fd, POLLRDHUP, 0};
	return poll(&p, 1, 0) > 0;
}

/* The connection that the primary makes right after its HELLO. */
static int wait_link(struct standby *s, struct disklink **ret, struct mc_error *err)
{
	struct vm *vm = s->vm;
	uint64_t deadline = mc_now() + CONNECT_WAIT;
	while (!vm->quit && mc_now() < deadline) {
		struct link_peer peer;
		int fd = vm_take_disk_offer(vm, &peer);
		if (fd >= 0 && !strcmp(peer.name, s->primary) && !hung_up(fd))
			return vm->env->ops->welcome_disk(vm->env->ctx, fd, &peer, ret, err);
		if (fd >= 0)
			close(fd); /* of an earlier session, or somebody else's */
		vm_wait(vm, deadline);
		vm_take_pending(vm);
	}
	return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
		"%s did not connect for the disks of %s within %.0f s", s->primary, vm->name,
		(double)CONNECT_WAIT / 1e9);
}

int disks_receive(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct disks_paths p;
	struct replica_disk disks[CONFIG_DISKS_MAX];
	struct disklink *link;
	if (!vm->cfg->n_disks)
		return 0;
	int r = disks_paths(vm, &p, err);
	if (r == 0)
		r = wait_link(s, &link, err);
	if (r < 0)
		return r;
	struct replica_config c = {
		.state_path = p.state,
		.journal_path = p.journal,
		.spill_dir = vm->env->cfg->state_dir,
		.n_disks = disks_list(vm->cfg, disks),
		.disks = disks,
		.budget = disks_share(vm, s->hello.max_buffer),
		.durability = disks_durability(vm),
		.generation = s->generation,
		.primary = s->primary,
		.broken = broken,
		.ctx = vm,
	};
	return replica_open(&c, link, mc_now() + CONNECT_WAIT, &s->disks, err);
}

int disks_await(
	struct standby *s, uint64_t epoch, const struct wire_commit *c, struct mc_error *err)
{
	struct disk_epoch_sum want = {c->disk_writes, c->disk_bytes, c->disk_digest};
	uint64_t deadline = mc_now() + WRITES_WAIT;
	if (!s->disks) {
		if (want.writes || want.bytes || want.digest)
			return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				"epoch %llu counts disk writes of a VM without disks",
				(unsigned long long)epoch);
		return 0;
	}
	for (;;) {
		uint64_t slice = mc_now() + s->timing.suspect_after / 4;
		int r = replica_wait(
			s->disks, epoch, &want, slice < deadline ? slice : deadline, -1, err);
		if (r != -ETIMEDOUT)
			return r < 0 ? r : replica_harden(s->disks, epoch, err);
		if (mc_now() >= deadline || env_suspected(s->vm->env, s->primary))
			return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
				"%s fell silent before all disk writes of epoch %llu were here",
				s->primary, (unsigned long long)epoch);
	}
}
