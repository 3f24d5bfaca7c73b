/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The greeting of a session: all that is checked and made before anything changes for the guest.
 * Whatever fails here leaves the VM as it was.
 */
#include "mcd/primary/greet.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/primary/capture.h"
#include "mcd/primary/disks.h"
#include "mcd/primary/listen.h"
#include "mcd/primary/peer.h"
#include "mcd/primary/verify.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/waits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#define HELLO_WAIT (20 * MC_SEC) /* the standby starts a QEMU before it answers */

/* Once output is held a vote must be possible, or the guest would hang: no majority, no
 * protection. */
int session_check_majority(struct vm *vm, struct mc_error *err)
{
	size_t connected, total;
	vm->env->ops->reachable(vm->env->ctx, &connected, &total);
	if (connected > total / 2)
		return 0;
	return mc_error_set(err, -ENOLINK, MC_ECLASS_NO_MAJORITY,
		"only %zu of the %zu voters can be reached; protecting %s needs a majority: see "
		"'mcctl status' for the hosts",
		connected, total, vm->name);
}

static int connect_peer(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct vm_stream stream;
	int r = vm->env->ops->connect(
		vm->env->ctx, vm->name, s->peer, session_memory(vm), &stream, err);
	if (r < 0)
		return r;
	vm_set_transport(vm, &stream);
	s->link = stream.link;
	return 0;
}

/* RDMA sends slabs from where they are. */
static int pin_slab(void *ctx, struct slab *x, struct mc_error *err)
{
	struct session *s = ctx;
	return transport_memory(s->link, x->mem, SLAB_SIZE, s->vm->cfg->pin_all, err);
}

static void unpin_slab(void *ctx, struct slab *x)
{
	struct session *s = ctx;
	transport_forget(s->link, x->mem);
}

static int make_pool(struct session *s, struct mc_error *err)
{
	bool all = s->vm->cfg->pin_all;
	struct slab_hooks hooks = {.reg = pin_slab, .unreg = unpin_slab, .ctx = s, .keep = all};
	int r = slab_pool_new(session_memory(s->vm), &hooks, &s->pool, err);
	if (r == 0 && all)
		slab_pool_reserve(s->pool, session_memory(s->vm));
	return r;
}

static int wait_hello_ok(struct session *s, struct mc_error *err)
{
	uint64_t deadline = mc_now() + HELLO_WAIT;
	struct wire_header h;
	int r;
	while ((r = peer_recv(s, &h, deadline, err)) == -EINTR)
		/* the peer's host is lost, or somebody does not want it any more? */
		if ((r = session_listen(s, LISTEN_SYNC, err)) < 0)
			return r;
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT,
			"%s did not get ready within %.0f s; its log says what it waits for",
			s->peer, (double)HELLO_WAIT / 1e9);
	if (r == 0 && (h.type != WIRE_HELLO_OK || h.length))
		return peer_unexpected(s, &h, err);
	if (r == 0 && h.generation != s->generation)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"%s is ready for generation %" PRIu64 " instead of %" PRIu64, s->peer,
			h.generation, s->generation);
	return r;
}

static int post_hello(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	_cleanup_free_ struct wire_hello *hello = calloc(1, sizeof *hello);
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	if (!hello || !buf)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	hello->generation = vm->rec.generation;
	hello->delay = vm->delay;
	hello->max_buffer = vm->max_buffer;
	memcpy(hello->machine, vm->plan.digest, sizeof hello->machine);
	hello->n_blocks = s->ram.n;
	for (size_t i = 0; i < s->ram.n; i++) {
		memcpy(hello->blocks[i].id, s->ram.v[i].id, sizeof hello->blocks[i].id);
		hello->blocks[i].size = s->ram.v[i].size;
	}
	size_t len = wire_put_hello(buf, WIRE_CONTROL_MAX, hello);
	struct wire_header h = {
		.type = WIRE_HELLO,
		.generation = s->generation,
		.length = len,
		.digest = XXH3_64bits(buf, len),
	};
	int r = peer_post(s, &h, buf, err);
	return r < 0 ? r : peer_flush(s, mc_now() + MC_SEC, err);
}

static int say_hello(struct session *s, struct mc_error *err)
{
	int r = post_hello(s, err);
	if (r < 0)
		return r;
	r = disks_connect(s, err);
	if (r < 0) {
		peer_their_word(s, MC_SEC, err);
		return r;
	}
	return wait_hello_ok(s, err);
}

/* A standby's QEMU has the machine that this one was started with. */
static int check_inventory(struct vm *vm, struct mc_error *err)
{
	struct guest_inventory now;
	char what[400];
	int r = guest_inventory(vm->guest, WAIT_PING, &now, err);
	if (r < 0 || !guest_inventory_changed(&vm->inventory, &now, what, sizeof what))
		return r;
	return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
		"since %s was started %s, which a standby would not have: undo it, or change the "
		"VM's file on both hosts and restart the VM",
		vm->name, what);
}

/* What speaks against protecting it, whoever the peer is. */
static int check_vm(const struct vm *vm, struct mc_error *err)
{
	if (vm->shut_in)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"the network of %s could not be opened yet: 'mcctl status' shows the alarm "
			"that says why",
			vm->name);
	if (vm->plan.foreign_disks)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"%s has a writable disk that mcd does not mirror (%s): describe it in a "
			"section [disk ID] of its file instead, or make it readonly=on",
			vm->name, vm->plan.disk_option);
	return 0;
}

int session_greet(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	int r = check_vm(vm, err);
	/* Connecting first: of a wrong key or version it says more than the silence of the
	 * keep-alives. */
	if (r < 0 || (r = connect_peer(s, err)) < 0)
		return r;
	if (env_suspected(vm->env, s->peer))
		return mc_error_set(err, -EHOSTUNREACH, MC_ECLASS_UNREACHABLE,
			"no keep-alives from %s: is mcd running there, with the same cluster key? "
			"'mcctl status' shows the hosts",
			s->peer);
	if ((r = session_check_majority(vm, err)) < 0 ||
		(r = guest_ping(vm->guest, WAIT_PING, err)) < 0 ||
		(r = guest_require(vm->guest, err)) < 0 ||
		(r = guest_migratable(vm->guest, WAIT_PING, err)) < 0 ||
		(r = check_inventory(vm, err)) < 0 ||
		(r = guest_open_memory(vm->guest, &s->ram, err)) < 0 ||
		(r = make_pool(s, err)) < 0 || (r = say_hello(s, err)) < 0)
		return r;
	return guest_track(vm->guest, &s->ram, vm_dirty_wanted(vm->env->cfg), &s->dirty, err);
}

void session_free(struct session *s)
{
	verify_end(s, "the protection ended");
	disks_drop(s, false);
	if (s->pool)
		capture_reset(s);
	transport_close(mc_steal_ptr(s->link)); /* it knows no slab any more: pin_slab */
	dirty_close(s->dirty);
	slab_pool_free(s->pool);
	dirty_list_free(&s->list);
	ramblocks_close(&s->ram);
	free(s->devices);
}
