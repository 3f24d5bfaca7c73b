/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The greeting: is the offer good, does the machine fit, and is there room for its replica?
 * Whatever fails here leaves this host as it was. */
#include "mcd/standby/greet.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/standby/disks.h"
#include "mcd/standby/memory.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/reserve.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/timing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

/* The primary must be what the voters say it is.  An image of a session whose generation nobody can
 * decide would never be told that it is worthless, and stay. */
static int check_owner(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct own_record rec = vm_newest_record(vm);
	uint64_t deadline = mc_now() + MC_SEC;
	/* What the primary won a moment ago may not have come here yet. */
	while (rec.generation < s->hello.generation && mc_now() < deadline) {
		if (vm_look(vm, MC_SEC, &rec, err) < 0)
			return mc_error_wrap(err, "cannot ask who owns %s, which %s offers",
				vm->name, s->primary);
		vm_take_pending(vm);
		rec = vm_newest_record(vm);
		if (rec.generation < s->hello.generation)
			vm_wait(vm, mc_now() + 50 * MC_MSEC);
	}
	if (rec.generation == s->hello.generation && !strcmp(rec.owner, s->primary) &&
		!rec.standby[0])
		return 0;
	return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
		"%s is not the sole owner of %s under generation %" PRIu64 ": by the voters' "
		"newest record (%" PRIu64 ") that is %s",
		s->primary, vm->name, s->hello.generation, rec.generation,
		rec.owner[0] ? rec.owner : "nobody");
}

static int check_hello(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct vm *vm = s->vm;
	if (h->type != WIRE_HELLO)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the stream begins with message type %u, not HELLO", h->type);
	uint8_t buf[WIRE_CONTROL_MAX];
	int r = transport_recv_payload(s->link, buf, mc_now() + 2 * MC_SEC, err);
	if (r == 0)
		r = wire_get_hello(buf, h->length, &s->hello, err);
	if (r < 0)
		return r;
	if (h->generation != s->hello.generation + 1)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a protection of generation %" PRIu64
			" cannot follow a record of generation %" PRIu64,
			h->generation, s->hello.generation);
	s->generation = h->generation;
	r = check_owner(s, err);
	return r < 0 ? r : vm_prepare(vm, err);
}

static int check_machine(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	bool same = vm->plan.n_ram == s->hello.n_blocks;
	for (size_t i = 0; same && i < vm->plan.n_ram; i++)
		same = !strcmp(vm->plan.ram[i].id, s->hello.blocks[i].id) &&
		       vm->plan.ram[i].size == s->hello.blocks[i].size;
	if (same && !strcmp(vm->plan.digest, s->hello.machine))
		return 0;
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
		"the machine in %s is not the one that runs on %s (digest %s here, %s there): make "
		"the command lines equal and restart the VM",
		vm->cfg->path, s->primary, vm->plan.digest, s->hello.machine);
}

static int connect_primary(
	struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct vm_stream stream;
	int r = vm->env->ops->welcome(vm->env->ctx, fd, peer, &stream, err);
	if (r < 0)
		return r;
	vm_set_transport(vm, &stream);
	s->link = stream.link;
	return 0;
}

int standby_greet(struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct wire_header h;
	snprintf(s->primary, sizeof s->primary, "%s", peer->name);
	int r = connect_primary(s, fd, peer, err);
	if (r == 0)
		r = transport_recv(s->link, &h, mc_now() + 2 * MC_SEC, -1, err);
	if (r == 0)
		r = check_hello(s, &h, err);
	if (r == 0)
		r = check_machine(s, err);
	if (r == 0)
		r = memory_check(s, err);
	if (r == 0)
		r = slab_pool_new(s->hello.max_buffer - disks_share(vm, s->hello.max_buffer), NULL,
			&s->pool, err);
	if (r == 0)
		r = memory_map(s, err);
	if (r == 0)
		r = reserve_descriptors(s, err);
	if (r < 0)
		return r;
	vm->delay = s->hello.delay;
	vm->max_buffer = s->hello.max_buffer;
	vm->rec.generation = s->hello.generation;
	snprintf(vm->rec.owner, sizeof vm->rec.owner, "%s", s->primary);
	vm->rec.standby[0] = 0;
	vm_timing(vm->env->cfg, vm->delay, &s->timing);
	vm_reset_figures(vm);
	vm_set_peer(vm, s->primary);
	vm_set_state(
		vm, VM_ROLE_STANDBY, VM_STANDBY_SYNCING, "%s copies the memory here", s->primary);
	/* The replica's files before the QEMU that opens them. */
	if ((r = disks_receive(s, err)) < 0 || (r = waiting_launch(s, err)) < 0)
		return r;
	struct wire_header ok = {
		.type = WIRE_HELLO_OK, .generation = s->generation, .digest = XXH3_64bits("", 0)};
	r = transport_post(s->link, &ok, NULL, err);
	s->last_received = mc_now();
	return r < 0 ? r : transport_flush(s->link, mc_now() + 2 * MC_SEC, err);
}

void standby_free(struct standby *s)
{
	transport_close(s->link);
	s->link = NULL;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		if (s->replica[i])
			munmap(s->replica[i], s->sizes[i]);
	replica_close(s->disks);
	takeover_room_close(&s->room);
	reserve_release(s);
	slab_pool_free(s->pool);
	roms_clear(&s->roms);
	free(s->devices);
	free(s->staged_devices);
	free(s->verify);
}
