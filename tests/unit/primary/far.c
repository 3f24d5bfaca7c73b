/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/primary/far.h"

#include "common/clock.h"
#include "mcd/wire/slab.h"
#include "tests/unit/primary/rig.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define PATIENCE (10 * MC_SEC)

uint64_t far_count(const struct far *f)
{
	uint64_t n = 0;
	if (f->n_blocks)
		memcpy(&n, f->image[0] + FAR_COUNT_AT, sizeof n);
	return n;
}

static void moment(struct rig *r, enum far_moment m, uint64_t epoch)
{
	if (r->at)
		r->at(r, m, epoch);
}

static const char *name_of(uint16_t type)
{
	static const char *const names[WIRE_TYPE_MAX + 1] = {
		[WIRE_HELLO] = "HELLO",
		[WIRE_SYNC_END] = "SYNC_END",
		[WIRE_DEVICES] = "DEVICES",
		[WIRE_COMMIT] = "COMMIT",
		[WIRE_PROTECTED] = "PROTECTED",
		[WIRE_DISCARD] = "DISCARD",
		[WIRE_HANDOVER] = "HANDOVER",
		[WIRE_VERIFY] = "VERIFY",
		[WIRE_ERROR] = "ERROR",
	};
	return type <= WIRE_TYPE_MAX ? names[type] : NULL;
}

static void put(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len)
{
	struct far *f = ctx;
	if (mem)
		memcpy(f->image[block] + off, mem, len);
	else
		memset(f->image[block] + off, 0, len);
}

static void take_slab(struct rig *r, const struct wire_header *h, uint8_t *payload)
{
	struct far *f = &r->far;
	struct slab s = {.mem = payload, .used = h->length, .digest = h->digest};
	if (slab_walk(&s, f->sizes, f->n_blocks, NULL, NULL, NULL) < 0)
		rig_breach(r, "a slab of epoch %" PRIu64 " is nonsense", h->epoch);
	else
		slab_walk(&s, f->sizes, f->n_blocks, put, f, NULL);
}

static void add(struct rig *r, const struct wire_header *h)
{
	struct far *f = &r->far;
	if (h->epoch != f->epoch + 1)
		rig_breach(r, "epoch %" PRIu64 " after %" PRIu64, h->epoch, f->epoch);
	if (!f->sum.slabs && !f->sum.device_bytes)
		wire_epoch_digest_init(&f->digest, h->generation, h->epoch);
	wire_epoch_digest_add(&f->digest, h->digest, h->length);
	if (h->type == WIRE_DEVICES) {
		f->sum.device_bytes += h->length;
	} else {
		f->sum.slabs++;
		f->sum.bytes += h->length;
	}
}

static void check_commit(struct rig *r, const struct wire_header *h, const uint8_t *payload)
{
	struct far *f = &r->far;
	struct wire_commit c = {0};
	if (h->epoch != f->epoch + 1)
		rig_breach(r, "COMMIT %" PRIu64 " after %" PRIu64, h->epoch, f->epoch);
	if (wire_get_commit(payload, h->length, &c, NULL) < 0)
		rig_breach(r, "COMMIT %" PRIu64 " is nonsense", h->epoch);
	if (c.disk_digest)
		wire_epoch_digest_add(&f->digest, c.disk_digest, c.disk_bytes);
	if (c.slabs != f->sum.slabs || c.bytes != f->sum.bytes ||
		c.device_bytes != f->sum.device_bytes || c.digest != f->digest.h)
		rig_breach(r, "COMMIT %" PRIu64 " does not add up", h->epoch);
	f->commit = c;
	f->flags = h->flags;
	f->epoch = h->epoch;
	memset(&f->sum, 0, sizeof f->sum);
}

static void reply(struct rig *r, const struct wire_header *h, const void *payload)
{
	struct far *f = &r->far;
	if (!f->silent && !f->hang_up)
		/* an end that is gone is seen by the next recv */
		transport_post(f->t, h, payload, NULL);
	f->silent = false;
}

static void answer(struct rig *r, uint16_t type, const struct wire_header *h, enum far_moment m)
{
	struct far *f = &r->far;
	f->answer = (struct wire_header){.type = type,
		.generation = h->generation,
		.epoch = h->epoch,
		.digest = XXH3_64bits("", 0)};
	moment(r, m, h->epoch);
	reply(r, &f->answer, NULL);
}

static void acknowledge(struct rig *r, const struct wire_header *h)
{
	struct far *f = &r->far;
	struct wire_header good = {.type = WIRE_ACK,
		.generation = h->generation,
		.epoch = h->epoch,
		.digest = f->commit.digest};
	f->answer = good;
	moment(r, FAR_COMMIT, h->epoch);
	if (!f->silent && !f->hang_up && !memcmp(&good, &f->answer, sizeof good)) {
		pthread_mutex_lock(&r->lock);
		r->acked = far_count(f);
		pthread_mutex_unlock(&r->lock);
		rig_note(r, "ack %" PRIu64, h->epoch);
	}
	reply(r, &f->answer, NULL);
	if (!f->hang_up)
		moment(r, FAR_ACKED, h->epoch);
}

static void take_verify(struct rig *r, const struct wire_header *h, const uint8_t *payload)
{
	struct far *f = &r->far;
	if (!f->verify)
		f->verify = calloc(WIRE_VERIFY_MAX, sizeof *f->verify);
	if (!f->verify || wire_get_verify(payload, h->length, f->verify, &f->n_verify, NULL) < 0)
		rig_breach(r, "VERIFY is nonsense");
}

/* The epoch is committed. */
static void compare(struct rig *r, const struct wire_header *h)
{
	struct far *f = &r->far;
	uint8_t buf[64];
	if (!f->n_verify)
		return;
	for (size_t i = 0; i < f->n_verify; i++) {
		const struct wire_verify_range *v = &f->verify[i];
		if (XXH3_64bits(f->image[v->index] + v->off, v->len) != v->digest)
			rig_breach(r, "a range is not in epoch %" PRIu64 " what was said of it",
				h->epoch);
		f->verified++;
	}
	f->n_verify = 0;
	struct wire_header a = {
		.type = WIRE_VERIFIED, .generation = h->generation, .epoch = h->epoch};
	a.length = wire_put_verified(buf, sizeof buf, NULL, 0);
	a.digest = XXH3_64bits(buf, a.length);
	reply(r, &a, buf);
}

static void take_hello(struct rig *r, const struct wire_header *h, const uint8_t *payload)
{
	struct far *f = &r->far;
	struct wire_hello *hello = calloc(1, sizeof *hello);
	assert(hello);
	if (wire_get_hello(payload, h->length, hello, NULL) < 0 ||
		hello->generation + 1 != h->generation)
		rig_breach(r, "HELLO is nonsense");
	f->generation = h->generation;
	f->n_blocks = hello->n_blocks;
	for (size_t i = 0; i < f->n_blocks; i++) {
		f->sizes[i] = hello->blocks[i].size;
		f->image[i] = calloc(1, f->sizes[i]);
		assert(f->image[i]);
	}
	free(hello);
	answer(r, WIRE_HELLO_OK, h, FAR_HELLO);
}

static void take(struct rig *r, const struct wire_header *h, uint8_t *payload)
{
	struct far *f = &r->far;
	const char *name = name_of(h->type);
	if (name && h->epoch)
		rig_note(r, "got %s %" PRIu64, name, h->epoch);
	else if (name)
		rig_note(r, "got %s", name);
	if (h->type != WIRE_HELLO && h->generation != f->generation)
		rig_breach(r, "a message of generation %" PRIu64 " in %" PRIu64, h->generation,
			f->generation);
	switch (h->type) {
	case WIRE_HELLO:
		take_hello(r, h, payload);
		break;
	case WIRE_SYNC:
		take_slab(r, h, payload);
		break;
	case WIRE_SYNC_END:
		f->rounds++;
		answer(r, WIRE_SYNC_OK, h, FAR_SYNC_END);
		break;
	case WIRE_SLAB:
		rig_note(r, "slab %" PRIu64, h->epoch);
		add(r, h);
		take_slab(r, h, payload);
		break;
	case WIRE_DEVICES:
		add(r, h);
		break;
	case WIRE_COMMIT:
		check_commit(r, h, payload);
		acknowledge(r, h);
		compare(r, h);
		break;
	case WIRE_PROTECTED:
		moment(r, FAR_PROTECTED, h->epoch);
		break;
	case WIRE_HANDOVER:
		answer(r, WIRE_KEPT, h, FAR_HANDOVER);
		break;
	case WIRE_DISCARD:
		moment(r, FAR_DISCARD, h->epoch);
		break;
	case WIRE_VERIFY:
		take_verify(r, h, payload);
		break;
	default:
		break;
	}
}

static void *run(void *arg)
{
	struct rig *r = arg;
	struct far *f = &r->far;
	while (!f->hang_up) {
		struct wire_header h;
		if (transport_recv(f->t, &h, mc_now() + PATIENCE, -1, NULL) < 0)
			break;
		uint8_t *payload = malloc(h.length + 1);
		int got = transport_recv_payload(f->t, payload, mc_now() + PATIENCE, NULL);
		if (got == 0)
			take(r, &h, payload);
		f->taken++;
		free(payload);
		if (got < 0)
			break;
	}
	rig_note(r, "link ended");
	moment(r, FAR_END, f->epoch);
	transport_close(f->t);
	return NULL;
}

void far_start(struct rig *r)
{
	int e = pthread_create(&r->far.thread, NULL, run, r);
	assert(e == 0);
	(void)e;
	r->far.running = true;
}

void far_join(struct rig *r)
{
	struct far *f = &r->far;
	if (f->running)
		pthread_join(f->thread, NULL);
	for (size_t i = 0; i < f->n_blocks; i++) {
		free(f->image[i]);
		f->image[i] = NULL;
	}
	free(f->verify);
	f->verify = NULL;
	f->running = false;
}
