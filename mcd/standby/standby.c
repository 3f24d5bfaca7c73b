/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One epoch on the standby, the mirror image of epoch.c:
 *
 *   RECV        messages of epoch n arrive, in order, nothing between them
 *   STAGE       slabs and device state are kept beside the last committed image
 *   VERIFY      every digest, every range, the counts and the digest of the whole
 *   COMMIT+ACK  from here on epoch n is what a takeover continues from; the primary is told
 *   APPLY       the slabs go into the replica RAM, as a whole, before anything else is received
 *
 * A takeover can only begin between two calls of receive(), so it finds every committed epoch
 * applied, and of the one being received nothing but staged slabs, which it drops.
 */
#include "mcd/standby/standby.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/failpoint.h"
#include "mcd/verify.h"
#include "mcd/standby/setup.h"
#include "mcd/vm/life.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define PAYLOAD_WAIT                                                                               \
	(30 * MC_SEC) /* keep-alives end a wait sooner; this bounds one on a live host */
#define ASK_FOR (500 * MC_MSEC)
#define SILENCE_MAX                                                                                \
	(30 * MC_SEC) /* of a primary that copies memory: it sends something every second */
#define UNNAMED_WAIT                                                                               \
	(15 * MC_SEC) /* a living primary has decided long before, one way or the other */

/* digest: of the epoch, for an ACK; the other answers carry none. */
static int answer(
	struct standby *s, uint16_t type, uint64_t epoch, uint64_t digest, struct mc_error *err)
{
	struct wire_header h = {
		.type = type, .generation = s->generation, .epoch = epoch, .digest = digest};
	int r = transport_post(s->link, &h, NULL, err);
	return r < 0 ? r : transport_flush(s->link, mc_now() + s->timing.ack_overdue, err);
}

/* --- STAGE ------------------------------------------------------------------------------------ */

static void drop_staged(struct standby *s)
{
	for (struct slab *x = s->staged, *next; x; x = next) {
		next = x->next;
		setup_put_slab(s, x);
	}
	s->staged = NULL;
	s->staged_tail = &s->staged;
	free(mc_steal_ptr(s->staged_devices));
	s->staged_devices_len = 0;
	s->counted = (struct wire_commit){0};
}

/* Epochs come without gaps: the one after the committed one, from its first message on. */
static int expect_epoch(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	if (h->generation == s->generation && h->epoch == s->committed + 1) {
		if (s->receiving != h->epoch) {
			s->receiving = h->epoch;
			wire_epoch_digest_init(&s->digest, h->generation, h->epoch);
		}
		return 0;
	}
	return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"epoch %llu of generation %llu came out of order: %llu of %llu was expected",
		(unsigned long long)h->epoch, (unsigned long long)h->generation,
		(unsigned long long)s->committed + 1, (unsigned long long)s->generation);
}

static int recv_slab(
	struct standby *s, const struct wire_header *h, struct slab **ret, struct mc_error *err)
{
	struct slab *x;
	int r = setup_get_slab(s, &x, err);
	if (r < 0)
		return r;
	x->used = h->length;
	x->digest = h->digest;
	r = setup_recv_payload(s, x->mem, mc_now() + PAYLOAD_WAIT, err);
	if (r == 0) /* every range is checked before a single one is applied */
		r = slab_walk(x, s->sizes, s->hello.n_blocks, NULL, NULL, err);
	if (r < 0)
		setup_put_slab(s, x);
	else
		*ret = x;
	return r;
}

/* An epoch has each page once, in slabs that are full except for the last. Without a bound one that
 * never ends would fill the disk that votes are written to. */
static uint64_t slabs_max(const struct standby *s)
{
	uint64_t ram = 0;
	for (size_t i = 0; i < s->hello.n_blocks; i++)
		ram += s->sizes[i];
	return 2 * (ram / SLAB_SIZE) + 4;
}

static int stage_slab(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct slab *x;
	int r = expect_epoch(s, h, err);
	if (r == 0 && s->staged_devices)
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a slab came after the device state of its epoch");
	if (r == 0 && s->counted.slabs >= slabs_max(s))
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"epoch %llu has more than %llu slabs and no end: more than twice the "
			"memory "
			"of the VM",
			(unsigned long long)h->epoch, (unsigned long long)s->counted.slabs);
	if (r == 0)
		r = recv_slab(s, h, &x, err);
	if (r < 0)
		return r;
	x->next = NULL;
	*s->staged_tail = x;
	s->staged_tail = &x->next;
	wire_epoch_digest_add(&s->digest, h->digest, h->length);
	s->counted.slabs++;
	s->counted.bytes += h->length;
	return 0;
}

static int stage_devices(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	int r = expect_epoch(s, h, err);
	if (r < 0)
		return r;
	if (s->staged_devices || !h->length)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"an epoch has one device state, and it is not empty");
	s->staged_devices = malloc(h->length);
	if (!s->staged_devices)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"no memory for %llu bytes of device state", (unsigned long long)h->length);
	s->staged_devices_len = h->length;
	wire_epoch_digest_add(&s->digest, h->digest, h->length);
	s->counted.device_bytes = h->length;
	return setup_recv_payload(s, s->staged_devices, mc_now() + PAYLOAD_WAIT, err);
}

/* --- VERIFY, COMMIT+ACK, APPLY ---------------------------------------------------------------- */

static int verify(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	uint8_t buf[64];
	struct wire_commit c;
	int r = expect_epoch(s, h, err);
	if (r == 0 && h->length > sizeof buf)
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL, "a COMMIT of %llu bytes",
			(unsigned long long)h->length);
	if (r == 0)
		r = setup_recv_payload(s, buf, mc_now() + PAYLOAD_WAIT, err);
	if (r == 0)
		r = wire_get_commit(buf, h->length, &c, err);
	if (r < 0)
		return r;
	if (s->disks)
		wire_epoch_digest_add(&s->digest, c.disk_digest, c.disk_bytes);
	s->counted.digest = s->digest.h;
	if (!s->staged_devices || c.slabs != s->counted.slabs || c.bytes != s->counted.bytes ||
		c.device_bytes != s->counted.device_bytes || c.digest != s->counted.digest)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"epoch %llu is not what its COMMIT says: %llu slabs of %llu bytes "
			"received, %llu of %llu announced",
			(unsigned long long)h->epoch, (unsigned long long)s->counted.slabs,
			(unsigned long long)s->counted.bytes, (unsigned long long)c.slabs,
			(unsigned long long)c.bytes);
	return disks_verify(s, h->epoch, &c, err);
}

static void apply_range(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len)
{
	struct standby *s = ctx;
	if (mem)
		memcpy(s->replica[block] + off, mem, len);
	else
		setup_zero(s, block, off, len);
}

static void apply(struct standby *s)
{
	for (struct slab *x = s->staged; x; x = x->next) {
		int r = slab_walk(x, s->sizes, s->hello.n_blocks, apply_range, s, NULL);
		assert(r == 0); /* it was walked once, and is ours since */
	}
}

static int commit(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	failpoint("VERIFY");
	int r = verify(s, h, err);
	if (r < 0)
		return r;
	/* The slots change places here.  After the ACK may have left there is no way back, so an
	 * error of sending it is only reported once the epoch is applied. */
	failpoint("COMMIT");
	s->committed = h->epoch;
	free(s->devices);
	s->devices = mc_steal_ptr(s->staged_devices);
	s->devices_len = s->staged_devices_len;
	s->guest_state = h->flags;
	r = answer(s, WIRE_ACK, h->epoch, s->digest.h, err);
	failpoint("APPLY");
	uint64_t began = mc_now();
	apply(s);
	drop_staged(s);
	if (s->disks) {
		struct mc_error failed = MC_ERROR_INIT;
		if (replica_apply(s->disks, h->epoch, &failed) < 0) {
			/* Acknowledged, and cannot be had: this copy must never be gone on from. */
			s->committed = 0;
			vm_set_alarm(s->vm, "the disks of %s here are at no epoch any more: %s", s->vm->name,
				failed.msg);
			*err = failed;
			r = failed.code;
		}
	}
	if (r == 0)
		r = verify_compare(s, err);
	setup_publish(s, mc_now() - began);
	return r;
}

/* --- RECV ------------------------------------------------------------------------------------- */

static int sync_slab(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct slab *x;
	if (s->committed)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"initial synchronisation after a committed epoch");
	int r = recv_slab(s, h, &x, err);
	if (r < 0)
		return r;
	r = slab_walk(x, s->sizes, s->hello.n_blocks, apply_range, s, err);
	setup_put_slab(s, x);
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
	int r = setup_recv_payload(s, buf, mc_now() + PAYLOAD_WAIT, err);
	if (r == 0 && s->committed)
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL, "firmware after a committed epoch");
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

static int named_standby(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct own_record rec = vm_newest_record(vm);
	uint64_t deadline = mc_now() + MC_SEC;
	/* The primary tells us as soon as it has won: a majority without it may not know yet. */
	while (rec.generation < s->generation && mc_now() < deadline) {
		if (voter_current(vm->d->voter, vm->name, deadline, &rec, NULL) == 0)
			vm_learned(vm, &rec);
		rec = vm_newest_record(vm);
		if (rec.generation < s->generation)
			vm_wait(vm, mc_now() + 5 * MC_MSEC);
	}
	if (rec.generation != s->generation || strcmp(rec.standby, vm->d->cfg.name))
		return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
			"the primary says that generation %llu names this host its standby, but "
			"the voters do not",
			(unsigned long long)s->generation);
	/* Before the first epoch after the vote is acknowledged: from here on the replica is worth something. */
	int r = s->disks ? replica_trusted(s->disks, err) : 0;
	if (r < 0)
		return r;
	vm_set_record(vm, &rec);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_STANDBY, "holds the image of epoch %llu of %s",
		(unsigned long long)s->committed, s->primary);
	return 0;
}

static int peer_error(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(WIRE_CONTROL_MAX);
	struct mc_error theirs = MC_ERROR_INIT;
	int r = buf ? setup_recv_payload(s, buf, mc_now() + MC_SEC, err) : -ENOMEM;
	if (r == 0)
		r = wire_get_error(buf, h->length, &theirs, err);
	return r ? r : mc_error_set(err, -EREMOTEIO, theirs.cls, "%s: %s", s->primary, theirs.msg);
}

/* From the moment the primary's vote is decided this is the only copy. */
static int keep_for_handover(struct standby *s)
{
	drop_staged(s);
	if (s->committed)
		takeover_keep(s, s->generation + 1);
	answer(s, WIRE_KEPT, s->committed, 0, NULL);
	return -ECANCELED;
}

static int wait_message(struct standby *s, struct wire_header *ret, struct mc_error *err)
{
	/* While the keep-alives are out, the data itself is the sign of life, and its silence
	 * counts. */
	bool suspected = keepalive_suspected(s->vm->d->keepalive, s->primary);
	uint64_t deadline = mc_now() + (suspected ? s->timing.suspect_after : 3600 * MC_SEC);
	uint64_t bored = s->last_received + SILENCE_MAX;
	if (!setup_named(s) && bored < deadline)
		deadline = bored;
	int r = transport_recv(s->link, ret, deadline, s->vm->wake, err);
	if (r == -ETIMEDOUT && !setup_named(s) && mc_now() >= bored)
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
			"message type %u is of generation %llu, the session of %llu", h->type,
			(unsigned long long)h->generation, (unsigned long long)s->generation);
	if (bare && h->length)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"message type %u has a payload of %llu bytes, and should have none",
			h->type, (unsigned long long)h->length);
	return 0;
}

/* One message of the primary. */
static int receive(struct standby *s, struct mc_error *err)
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
		r = setup_put_roms(s, err);
		return r < 0 ? r : answer(s, WIRE_SYNC_OK, 0, 0, err);
	case WIRE_SLAB:
		failpoint("STAGE");
		return stage_slab(s, &h, err);
	case WIRE_DEVICES:
		return stage_devices(s, &h, err);
	case WIRE_VERIFY:
		return verify_take(s, &h, err);
	case WIRE_COMMIT:
		return commit(s, &h, err);
	case WIRE_PROTECTED:
		return named_standby(s, err);
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

/* --- when the stream ends: takeover, or discard -------------------------------------------------
 */

/* By the record of our session, or by the one that made us owner after it. */
static bool named(const struct standby *s, const struct own_record *rec)
{
	const char *self = s->vm->d->cfg.name;
	return (rec->generation == s->generation && !strcmp(rec->standby, self)) ||
	       (rec->generation == s->generation + 1 && !strcmp(rec->owner, self));
}

static void gather(struct standby *s, struct decide_facts *f)
{
	struct vm *vm = s->vm;
	struct own_record rec = vm_newest_record(vm);
	uint64_t now = mc_now();
	*f = (struct decide_facts){
		.role = DECIDE_STANDBY,
		.ownership = vm_ownership(vm),
		.peer_suspected = keepalive_suspected(vm->d->keepalive, s->primary),
		.peer_left = s->discard,
		.image_complete = s->committed && named(s, &rec),
		.quorate = cluster_quorate(vm->d->cluster),
		.guest_gone = !vm->guest || !guest_alive(vm->guest),
	};
	if (f->ownership == OWN_CURRENT && f->peer_suspected && f->image_complete)
		f->others_hear_peer = voter_ask_heard(vm->d->voter, s->primary,
					      now + s->timing.ask_heard) < s->timing.heard_fresh;
	/* A connection to a host that lost its power looks as good as ever. So the link of a
	 * suspected primary counts only while others hear that host and its data still comes. */
	bool flowing = now - s->last_received < 2 * vm->delay + s->timing.suspect_after;
	f->link_up = s->link && (!f->peer_suspected || (f->others_hear_peer && flowing));
	if (f->link_up) {
		f->peer_suspected = false;
	} else {
		uint64_t since = s->link ? s->last_received : s->link_down_at;
		f->since_link_down = now > since ? now - since : 1;
	}
}

static void take_over(struct standby *s, const char *why)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	/* The primary may have fallen silent in the middle of an epoch: the connection did not break,
	 * so nobody has dropped yet what had come of it. */
	drop_staged(s);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "%s", why);
	if (takeover_run(s, &err) == 0)
		return;
	vm_teardown(vm);
	vm_set_alarm(vm, "the takeover of %s failed: %s", vm->name, err.msg);
	vm_set_state(vm, VM_ROLE_NONE, VM_FAILED, "%s", err.msg);
}

/* After our proposal may have been accepted anywhere nothing is acknowledged any more: the link is
 * closed before the first word to the voters. */
static enum decide_ownership ask(struct standby *s, const char *why)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	if (s->link) {
		transport_close(mc_steal_ptr(s->link));
		s->link_down_at = mc_now();
	}
	/* Decided meanwhile, for whomever: that record is looked at like any other.  Acting under
	 * one that does not name us would mean to wait for ever for an outcome nobody may ask for.
	 */
	struct own_record rec = vm_newest_record(vm);
	if (rec.generation != s->generation || strcmp(rec.standby, vm->d->cfg.name))
		return vm_ownership(vm);
	vm_set_record(vm, &rec);
	vm_set_state(vm, VM_ROLE_STANDBY, VM_TAKING_OVER, "%s; asking for ownership", why);
	takeover_keep(s, vm->rec.generation + 1); /* before the first word: it may win at once */
	int r = vm_propose(vm, vm->d->cfg.name, "", ASK_FOR, &err);
	if (r == 0)
		return OWN_ALONE;
	if (r == -ESTALE)
		return vm_ownership(vm);
	vm_set_alarm(vm, "%s, and no majority of the voters answers: %s", why, err.msg);
	return OWN_UNDECIDED;
}

static bool alone(const struct own_record *r, const char *self)
{
	return !strcmp(r->owner, self) && !r->standby[0];
}

/* Decides, again and again, until the stream may go on (true) or the standby's life is over
 * (false). */
static bool after_stream(struct standby *s, const char *why)
{
	struct vm *vm = s->vm;
	struct decide_config c = {
		.head_start = s->timing.head_start, .automatic = vm->d->cfg.failover_automatic};
	bool suspected = false, proposed = false, answered = false;
	while (!vm->quit) {
		struct decide_facts f;
		c.automatic |= s->operator;
		gather(s, &f);
		struct own_record rec = vm_newest_record(vm);
		if (alone(&rec, vm->d->cfg.name) && rec.generation > s->generation)
			f.ownership = OWN_ALONE;
		else if (proposed && f.ownership == OWN_CURRENT)
			f.ownership = OWN_UNDECIDED;
		struct decision d = decide(&f, &c);
		/* The record that names us may be decided without our knowing: a committed image is
		 * not thrown away before a record says that it is not needed.  Unless the primary
		 * lives and has moved on, or has had the time to. */
		bool over = s->superseded ||
			    (answered && !s->link && mc_now() - s->link_down_at > UNNAMED_WAIT &&
				    !keepalive_suspected(vm->d->keepalive, s->primary));
		if (s->committed && rec.generation < s->generation && !s->discard && !over &&
			d.action == ACT_DESTROY)
			d = (struct decision){
				ACT_WAIT, "not known yet whether this host was named the standby"};
		if (f.peer_suspected && !suspected) {
			suspected = true;
			uint64_t age = keepalive_age(vm->d->keepalive, s->primary);
			vm_emit(vm, "SUSPECTED",
				json_pack("{s:s, s:I, s:s}", "peer", s->primary, "last_heard",
					(json_int_t)(mc_now() - age), "reason", why));
		}
		switch (d.action) {
		case ACT_CONTINUE:
			if (s->link)
				return true;
			break;
		case ACT_PROPOSE_SELF:
			log_notice("%s: %s: %s", vm->name, why, d.reason);
			proposed = true;
			ask(s, why);
			continue; /* the facts have changed */
		case ACT_ACTIVATE:
			vm_set_record(vm, &rec);
			take_over(s, why);
			return false;
		case ACT_DESTROY:
			vm_life_gone(
				vm, "%s", f.ownership == OWN_LOST && rec.owner[0] ? d.reason : why);
			return false;
		default: /* ACT_WAIT, ACT_HOLD */
			if (proposed) {
				ask(s, why); /* the outcome of what we proposed must become known */
				setup_listen(s);
				continue;
			}
			break;
		}
		/* A handed-over record may be known to the voters before it is known to us. */
		answered = !f.link_up && voter_current(vm->d->voter, vm->name,
						 mc_now() + 100 * MC_MSEC, &rec, NULL) == 0;
		if (answered)
			vm_learned(vm, &rec);
		vm_wait(vm, mc_now() + s->timing.vote_retry);
		setup_listen(s);
	}
	return false;
}

/* Counted and said aloud: it is not the network, it is a broken or hostile peer. */
static void report_breach(struct standby *s, const struct mc_error *why)
{
	if (why->code == -EREMOTEIO ||
		(strcmp(why->cls, MC_ECLASS_PROTOCOL) && strcmp(why->cls, MC_ECLASS_VERSION)))
		return;
	log_error("%s: %s: %s; closing the connection, nothing of this epoch is acknowledged",
		s->vm->name, s->primary, why->msg);
	vm_emit(s->vm, "PROTOCOL_ERROR",
		json_pack("{s:s, s:s}", "peer", s->primary, "reason", why->msg));
}

static void link_lost(struct standby *s, const struct mc_error *why)
{
	struct vm *vm = s->vm;
	report_breach(s, why);
	if (why->code != -EREMOTEIO && why->code != -ECANCELED &&
		strcmp(why->cls, MC_ECLASS_UNREACHABLE))
		setup_send_error(s, why);
	vm_emit(vm, "LINK_LOST", json_pack("{s:s, s:s}", "peer", s->primary, "reason", why->msg));
	transport_close(mc_steal_ptr(s->link));
	if (s->disks)
		replica_cut(s->disks);
	s->link_down_at = mc_now();
}

void standby_run(struct vm *vm, int fd, const struct link_peer *peer)
{
	struct mc_error err = MC_ERROR_INIT;
	struct standby s = {.vm = vm, .staged_tail = NULL};
	s.staged_tail = &s.staged;
	if (setup_standby(&s, fd, peer, &err) < 0) {
		log_warn("%s: not taken as a standby of %s: %s", vm->name, peer->name, err.msg);
		report_breach(&s, &err);
		setup_send_error(&s, &err);
		setup_free(&s);
		vm_teardown(vm);
		vm_set_state(vm, VM_ROLE_NONE, VM_STOPPED, "not taken as a standby: %s", err.msg);
		return;
	}
	bool go_on = true;
	while (go_on && !vm->quit) {
		err = MC_ERROR_INIT;
		int r = receive(&s, &err);
		if (r == 0)
			continue;
		if (r == -EINTR || r == -ETIMEDOUT || r == -EHOSTDOWN) {
			bool look = setup_listen(&s) || r != -EINTR;
			if (s.disks && (r = replica_error(s.disks, &err)) < 0) {
				link_lost(&s, &err);
				drop_staged(&s);
				go_on = after_stream(&s, err.msg);
				continue;
			}
			go_on = look ? after_stream(&s, "the keep-alives of the primary stopped")
				     : true;
			continue;
		}
		if (r == -ECANCELED)
			mc_error_set(&err, r, MC_ECLASS_STATE,
				s.discard ? "the primary ended the protection"
					  : "the primary handed it over");
		link_lost(&s, &err);
		drop_staged(&s);
		go_on = after_stream(&s, err.msg);
	}
	drop_staged(&s);
	setup_free(&s);
	if (vm->quit && vm_get_state(vm) != VM_UNPROTECTED)
		vm_teardown(vm); /* a waiting standby QEMU is of no use without us */
}
