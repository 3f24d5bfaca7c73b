/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RECV: what the primary says, message by message. */
#include "mcd/standby/receive.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "mcd/standby/epoch.h"
#include "mcd/standby/memory.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/takeover.h"
#include "mcd/standby/verify.h"
#include "mcd/standby/waiting.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#define SILENCE_MAX                                                                                \
	(30 * MC_SEC) /* of a primary that copies memory: it sends something every second */

static int sync_slab(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct slab *x;
	if (s->committed)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"initial synchronisation after a committed epoch");
	int r = memory_receive(s, h, &x, err);
	if (r < 0)
		return r;
	r = slab_walk(x, s->sizes, s->hello.n_blocks, memory_apply, s, err);
	memory_put(s, x);
	return r;
}

/* A block of firmware: into the QEMU that waits, and kept for those that may have to replace it. */
static int receive_rom(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(h->length + 1);
	char id[RAMBLOCK_ID_MAX + 1];
	size_t at;
	if (!buf)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the firmware");
	int r = standby_payload(s, buf, mc_now() + PAYLOAD_WAIT, err);
	if (r == 0 && s->committed)
		r = mc_error_set(
			err, -EBADMSG, MC_ECLASS_PROTOCOL, "firmware after a committed epoch");
	if (r == 0)
		r = wire_get_rom(buf, h->length, id, &at, err);
	if (r < 0)
		return r;
	uint8_t *data = malloc(h->length - at);
	if (!data)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the firmware");
	memcpy(data, buf + at, h->length - at);
	return roms_add(&s->roms, id, data, h->length - at, err);
}

static int take_naming(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct own_record rec = vm_newest_record(vm);
	uint64_t deadline = mc_now() + MC_SEC;
	/* The primary tells us as soon as it has won: a majority without it may not know yet. */
	while (rec.generation < s->generation && mc_now() < deadline) {
		vm_look(vm, MC_SEC, &rec, NULL);
		rec = vm_newest_record(vm);
		if (rec.generation < s->generation)
			vm_wait(vm, mc_now() + 5 * MC_MSEC);
	}
	if (rec.generation != s->generation || strcmp(rec.standby, vm_self(vm)))
		return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
			"the primary says that generation %" PRIu64 " names this host its standby, "
			"but the voters do not",
			s->generation);
	/* Before the first epoch after the vote is acknowledged: from here on the replica is
	 * worth something. */
	int r = s->disks ? replica_trusted(s->disks, err) : 0;
	if (r < 0)
		return r;
	vm_set_record(vm, &rec);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_STANDBY, "holds the image of epoch %" PRIu64 " of %s",
		s->committed, s->primary);
	return 0;
}

static int peer_error(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	struct mc_error theirs = MC_ERROR_INIT;
	int r = buf ? standby_payload(s, buf, mc_now() + MC_SEC, err) : -ENOMEM;
	if (r == 0)
		r = wire_get_error(buf, h->length, &theirs, err);
	return r ? r : mc_error_set(err, -EREMOTEIO, theirs.cls, "%s: %s", s->primary, theirs.msg);
}

/* From the moment the primary's vote is decided this is the only copy. */
static int keep_for_handover(struct standby *s)
{
	epoch_drop_staged(s);
	if (s->committed)
		takeover_keep(s, s->generation + 1);
	standby_answer(s, WIRE_KEPT, s->committed, 0, NULL);
	return -ECANCELED;
}

static int wait_message(struct standby *s, struct wire_header *ret, struct mc_error *err)
{
	/* While the keep-alives are out, the data itself is the sign of life, and its silence
	 * counts. */
	bool suspected = env_suspected(s->vm->env, s->primary);
	uint64_t deadline = mc_now() + (suspected ? s->timing.suspect_after : 3600 * MC_SEC);
	uint64_t bored = s->last_received + SILENCE_MAX;
	if (!standby_named(s) && bored < deadline)
		deadline = bored;
	int r = transport_recv(s->link, ret, deadline, s->vm->wake, err);
	if (r == -ETIMEDOUT && !standby_named(s) && mc_now() >= bored)
		return mc_error_set(err, -ECONNRESET, MC_ECLASS_TIMEOUT,
			"%s has sent nothing for %.0f s, though its host lives", s->primary,
			(double)SILENCE_MAX / 1e9);
	return r;
}

/* What every message of the session has in common. */
static int check_header(const struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	bool bare = h->type == WIRE_SYNC_END || h->type == WIRE_PROTECTED ||
		    h->type == WIRE_DISCARD || h->type == WIRE_HANDOVER;
	if (h->generation != s->generation)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"message type %u is of generation %" PRIu64 ", the session of %" PRIu64,
			h->type, h->generation, s->generation);
	if (bare && h->length)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"message type %u has a payload of %" PRIu64 " bytes, and should have none",
			h->type, h->length);
	return 0;
}

/* One message of the primary. */
int standby_receive(struct standby *s, struct mc_error *err)
{
	struct wire_header h;
	int r = wait_message(s, &h, err);
	if (r < 0)
		return r;
	s->last_received = mc_now();
	r = check_header(s, &h, err);
	if (r < 0)
		return r;
	switch (h.type) {
	case WIRE_SYNC:
		return sync_slab(s, &h, err);
	case WIRE_ROM:
		return receive_rom(s, &h, err);
	case WIRE_SYNC_END:
		r = waiting_put_roms(s, err);
		return r < 0 ? r : standby_answer(s, WIRE_SYNC_OK, 0, 0, err);
	case WIRE_SLAB:
		failpoint("STAGE");
		return epoch_stage_slab(s, &h, err);
	case WIRE_DEVICES:
		return epoch_stage_devices(s, &h, err);
	case WIRE_VERIFY:
		return verify_take(s, &h, err);
	case WIRE_COMMIT:
		return epoch_commit(s, &h, err);
	case WIRE_PROTECTED:
		return take_naming(s, err);
	case WIRE_DISCARD:
		s->discard = true;
		return -ECANCELED;
	case WIRE_HANDOVER:
		return keep_for_handover(s);
	case WIRE_ERROR:
		return peer_error(s, &h, err);
	default:
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"message type %u does not belong here", h.type);
	}
}
