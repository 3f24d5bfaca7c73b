/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One epoch on the standby, the mirror image of primary/epoch.c:
 *
 *   RECV        messages of epoch n arrive, in order, nothing between them (receive.c)
 *   STAGE       slabs and device state are kept beside the last committed image
 *   VERIFY      every digest, every range, the counts and the digest of the whole
 *   COMMIT+ACK  from here on epoch n is what a takeover continues from; the primary is told
 *   APPLY       the slabs go into the replica RAM, as a whole, before anything else is received
 *
 * A takeover can only begin between two messages, so it finds every committed epoch applied, and of
 * the one being received nothing but staged slabs, which it drops.
 */
#include "mcd/standby/epoch.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "mcd/standby/disks.h"
#include "mcd/standby/memory.h"
#include "mcd/standby/peer.h"
#include "mcd/standby/reserve.h"
#include "mcd/standby/verify.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

/* --- STAGE ------------------------------------------------------------------------------------ */

void epoch_drop_staged(struct standby *s)
{
	for (struct slab *x = s->staged, *next; x; x = next) {
		next = x->next;
		memory_put(s, x);
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
		"epoch %" PRIu64 " of generation %" PRIu64 " came out of order: %" PRIu64
		" of %" PRIu64 " was expected",
		h->epoch, h->generation, s->committed + 1, s->generation);
}

/* An epoch has each page once, and again what a reset in its pause has written, in slabs that are
 * full except for the last of each capture. Without a bound one that never ends would fill the disk
 * that votes are written to. */
static uint64_t slabs_max(const struct standby *s)
{
	uint64_t ram = 0;
	for (size_t i = 0; i < s->hello.n_blocks; i++)
		ram += s->sizes[i];
	return 2 * (ram / SLAB_SIZE) + 4;
}

int epoch_stage_slab(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct slab *x;
	int r = expect_epoch(s, h, err);
	if (r == 0 && s->staged_devices)
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a slab came after the device state of its epoch");
	if (r == 0 && s->counted.slabs >= slabs_max(s))
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"epoch %" PRIu64 " has more than %" PRIu64 " slabs and no end: more than "
			"twice the memory of the VM",
			h->epoch, s->counted.slabs);
	if (r == 0)
		r = memory_receive(s, h, &x, err);
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

int epoch_stage_devices(struct standby *s, const struct wire_header *h, struct mc_error *err)
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
			"no memory for %" PRIu64 " bytes of device state", h->length);
	s->staged_devices_len = h->length;
	wire_epoch_digest_add(&s->digest, h->digest, h->length);
	s->counted.device_bytes = h->length;
	return standby_payload(s, s->staged_devices, mc_now() + PAYLOAD_WAIT, err);
}

/* --- VERIFY, COMMIT+ACK, APPLY ---------------------------------------------------------------- */

static int verify(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	uint8_t buf[64];
	struct wire_commit c;
	int r = expect_epoch(s, h, err);
	if (r == 0 && h->length > sizeof buf)
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL, "a COMMIT of %" PRIu64 " bytes",
			h->length);
	if (r == 0)
		r = standby_payload(s, buf, mc_now() + PAYLOAD_WAIT, err);
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
			"epoch %" PRIu64 " is not what its COMMIT says: %" PRIu64
			" slabs of %" PRIu64 " "
			"bytes received, %" PRIu64 " of %" PRIu64 " announced",
			h->epoch, s->counted.slabs, s->counted.bytes, c.slabs, c.bytes);
	r = reserve_room(s, s->staged_devices_len, err);
	return r < 0 ? r : disks_await(s, h->epoch, &c, err);
}

static void apply(struct standby *s)
{
	for (struct slab *x = s->staged; x; x = x->next) {
		int r = slab_walk(x, s->sizes, s->hello.n_blocks, memory_apply, s, NULL);
		assert(r == 0); /* it was walked once, and is ours since */
		(void)r;
	}
}

int epoch_commit(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	failpoint("VERIFY");
	int r = verify(s, h, err);
	if (r < 0)
		return r;
	/* The slots change places here.  After the ACK may have left there is no way back, so an
	 * error of sending it is only reported once the epoch is applied. */
	failpoint("COMMIT");
	assert(h->epoch == s->committed + 1 && s->applied == s->committed && s->staged_devices);
	s->committed = h->epoch;
	free(s->devices);
	s->devices = mc_steal_ptr(s->staged_devices);
	s->devices_len = s->staged_devices_len;
	s->guest_state = h->flags;
	r = standby_answer(s, WIRE_ACK, h->epoch, s->digest.h, err);
	failpoint("APPLY");
	uint64_t began = mc_now();
	apply(s);
	s->applied = s->committed;
	epoch_drop_staged(s);
	if (s->disks) {
		struct mc_error failed = MC_ERROR_INIT;
		if (replica_apply(s->disks, h->epoch, &failed) < 0) {
			/* Acknowledged, and cannot be had: this copy must never be gone on from. */
			s->committed = s->applied = 0;
			vm_set_alarm(s->vm, "the disks of %s here are at no epoch any more: %s",
				s->vm->name, failed.msg);
			*err = failed;
			r = failed.code;
		}
	}
	if (r == 0)
		r = verify_compare(s, err);
	memory_publish(s, mc_now() - began);
	return r;
}
