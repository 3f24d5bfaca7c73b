/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's side of `mcctl verify`. */
#include "mcd/primary/verify.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "diskmirror/mirror.h"
#include "mcd/primary/peer.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/range-digest.h"
#include "mcd/primary/verify-disk.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define RANGE (256u << 10)
#define LOOK_MAX                                                                                   \
	(8 * MC_MSEC)  /* of the guest's running time in one epoch, at most; see verify_look */
#define PATIENCE     4 /* so often a range may be found written before it is digested in a pause */
#define IN_PAUSE     4 /* that many in one pause: 1 MiB, about 0.1 ms */
#define REPORTED_MAX 64
#define REPORT_EVERY (200 * MC_MSEC)

_Static_assert(RANGE <= WIRE_VERIFY_LEN_MAX, "a range is one entry");

struct verify {
	struct vm_call *call;
	struct verify_disk *disks[CONFIG_DISKS_MAX];
	uint32_t total;
	uint32_t *todo, todo_head, todo_n; /* a ring of `total` numbers of ranges */
	uint8_t *tries;                    /* of each range */
	/* the batch in hand, or with the standby */
	struct wire_verify_range batch[WIRE_VERIFY_MAX];
	uint32_t number[WIRE_VERIFY_MAX];
	size_t n;
	bool sent;
	uint8_t payload[WIRE_VERIFY_MAX * WIRE_VERIFY_SIZE];
	uint64_t began, reported, first_epoch, memory, disk, differing;
	json_t *differences;
};

static uint32_t ranges_of(uint64_t size)
{
	return (uint32_t)((size + RANGE - 1) / RANGE);
}

/* Numbers run over the blocks of memory, then over the disks. */
static struct wire_verify_range range_of(const struct session *s, uint32_t number)
{
	struct wire_verify_range r = {.kind = WIRE_VERIFY_MEMORY};
	uint64_t size = 0;
	for (r.index = 0; r.index < s->ram.n; r.index++) {
		size = s->ram.v[r.index].size;
		if (number < ranges_of(size))
			break;
		number -= ranges_of(size);
	}
	if (r.index == s->ram.n) {
		r.kind = WIRE_VERIFY_DISK;
		for (r.index = 0;; r.index++) {
			size = verify_disk_size(s->verify->disks[r.index]);
			if (number < ranges_of(size))
				break;
			number -= ranges_of(size);
		}
	}
	r.off = (uint64_t)number * RANGE;
	r.len = size - r.off < RANGE ? size - r.off : RANGE;
	return r;
}

static void queue(struct verify *v, uint32_t number)
{
	v->todo[(v->todo_head + v->todo_n++) % v->total] = number;
}

static int digest(struct session *s, struct wire_verify_range *r, struct mc_error *err)
{
	const struct ramblock *b = &s->ram.v[r->index];
	if (r->kind == WIRE_VERIFY_DISK)
		return verify_disk_digest(
			s->verify->disks[r->index], r->off, r->len, &r->digest, err);
	return range_digest_memory(b->fd, b->map, r->off, r->len, &r->digest, err);
}

/* --- begin and end ---------------------------------------------------------------------------- */

static void verify_free(struct session *s)
{
	struct verify *v = mc_steal_ptr(s->verify);
	if (s->disks.mirror)
		mirror_watch(s->disks.mirror, false);
	for (size_t i = 0; i < CONFIG_DISKS_MAX; i++)
		verify_disk_close(v->disks[i]);
	json_decref(v->differences);
	free(v->todo);
	free(v->tries);
	free(v);
}

static int prepare(struct session *s, struct mc_error *err)
{
	struct verify *v = s->verify;
	uint64_t total = 0;
	for (size_t i = 0; i < s->ram.n; i++)
		total += ranges_of(s->ram.v[i].size);
	for (size_t i = 0; s->disks.mirror && i < s->vm->cfg->n_disks; i++) {
		int r = verify_disk_open(s->vm, i, &v->disks[i], err);
		if (r < 0)
			return r;
		total += ranges_of(verify_disk_size(v->disks[i]));
	}
	v->total = (uint32_t)total;
	v->todo = calloc(total, sizeof *v->todo);
	v->tries = calloc(total, sizeof *v->tries);
	v->differences = json_array();
	if (total > UINT32_MAX || !v->todo || !v->tries || !v->differences)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to compare %s", s->vm->name);
	for (uint32_t i = 0; i < v->total; i++)
		queue(v, i);
	if (s->disks.mirror)
		mirror_watch(s->disks.mirror, true);
	return 0;
}

void verify_begin(struct session *s, struct vm_call *call)
{
	struct mc_error err = MC_ERROR_INIT;
	if (s->verify) {
		mc_error_set(
			&err, -EBUSY, MC_ECLASS_STATE, "%s is being compared already", s->vm->name);
		vm_call_fail(call, &err);
		return;
	}
	s->verify = calloc(1, sizeof *s->verify);
	int r = s->verify ? prepare(s, &err) : -ENOMEM;
	if (r < 0) {
		vm_call_fail(call, &err);
		if (s->verify)
			verify_free(s);
		return;
	}
	s->verify->call = call;
	s->verify->began = mc_now();
	s->verify->first_epoch = s->e.n + 1;
}

void verify_end(struct session *s, const char *why)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!s->verify)
		return;
	mc_error_set(&err, -ECANCELED, MC_ECLASS_STATE, "%s was not compared to the end: %s",
		s->vm->name, why);
	vm_call_fail(s->verify->call, &err);
	verify_free(s);
}

static void finish(struct session *s)
{
	struct verify *v = s->verify;
	vm_call_ok(v->call,
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:O}", "memory_bytes",
			(json_int_t)v->memory, "disk_bytes", (json_int_t)v->disk, "first_epoch",
			(json_int_t)v->first_epoch, "last_epoch", (json_int_t)s->e.n, "different",
			(json_int_t)v->differing, "seconds", (double)(mc_now() - v->began) / 1e9,
			"differences", v->differences));
	verify_free(s);
}

/* --- each epoch ------------------------------------------------------------------------------- */

void verify_look(struct session *s)
{
	struct verify *v = s->verify;
	struct mc_error err = MC_ERROR_INIT;
	if (!v || v->n)
		return;
	/* This thread ends the epochs: what it does here must leave room for that. */
	uint64_t spend = s->vm->delay / 8 < LOOK_MAX ? s->vm->delay / 8 : LOOK_MAX;
	uint64_t until = mc_now() + spend;
	while (v->todo_n && v->n < WIRE_VERIFY_MAX && mc_now() < until && !s->e.urgent) {
		uint32_t number = v->todo[v->todo_head];
		struct wire_verify_range r = range_of(s, number);
		if (digest(s, &r, &err) < 0) {
			verify_end(s, err.msg);
			return;
		}
		v->todo_head = (v->todo_head + 1) % v->total;
		v->todo_n--;
		v->number[v->n] = number;
		v->batch[v->n++] = r;
	}
}

static bool written(const struct session *s, const struct wire_verify_range *r)
{
	if (r->kind == WIRE_VERIFY_DISK)
		return mirror_touched(s->disks.mirror, r->index, r->off, r->len);
	for (size_t i = 0; i < s->list.n; i++) {
		const struct dirty_range *d = &s->list.v[i];
		if (d->region == r->index && d->off < r->off + r->len && r->off < d->off + d->len)
			return true;
	}
	return false;
}

void verify_keep(struct session *s)
{
	struct verify *v = s->verify;
	size_t kept = 0, now = 0;
	if (!v || v->sent)
		return;
	for (size_t i = 0; i < v->n; i++) {
		uint32_t number = v->number[i];
		struct wire_verify_range r = v->batch[i];
		if (written(s, &r)) {
			/* The guest is stopped here: what is digested now is epoch n. */
			bool again = v->tries[number]++ < PATIENCE || now == IN_PAUSE;
			if (again || digest(s, &r, NULL) < 0) {
				v->tries[number] -= now == IN_PAUSE;
				queue(v, number);
				continue;
			}
			now++;
		}
		v->number[kept] = number;
		v->batch[kept++] = r;
	}
	v->n = kept;
}

int verify_send(struct session *s, struct mc_error *err)
{
	struct verify *v = s->verify;
	if (!v || !v->n || v->sent)
		return 0;
	size_t len = wire_put_verify(v->payload, sizeof v->payload, v->batch, v->n);
	struct wire_header h = {
		.type = WIRE_VERIFY,
		.generation = s->generation,
		.epoch = s->e.n,
		.length = len,
		.digest = XXH3_64bits(v->payload, len),
	};
	v->sent = true;
	return peer_post(s, &h, v->payload, err);
}

static void report(struct session *s)
{
	struct verify *v = s->verify;
	if (mc_now() - v->reported < REPORT_EVERY)
		return;
	v->reported = mc_now();
	vm_call_progress(v->call, json_pack("{s:s, s:f, s:I}", "phase", "verify", "percent",
					  100.0 * (double)(v->total - v->todo_n) / (double)v->total,
					  "different", (json_int_t)v->differing));
}

int verify_answer(struct session *s, const struct wire_header *h, struct mc_error *err)
{
	struct verify *v = s->verify;
	_cleanup_free_ uint8_t *buf = malloc(h->length + 1);
	uint32_t differ[WIRE_VERIFY_MAX];
	size_t n;
	int r = buf ? peer_payload(s, buf, MC_SEC, err) : -ENOMEM;
	if (r < 0)
		return r;
	if (!v) /* it was ended meanwhile */
		return 0;
	if (!v->sent)
		return session_ends(s, END_LINK, err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"%s compared what it was not asked to", s->peer);
	r = session_fails(s, END_LINK, wire_get_verified(buf, h->length, v->n, differ, &n, err));
	if (r < 0)
		return r;
	for (size_t i = 0; i < v->n; i++)
		*(v->batch[i].kind == WIRE_VERIFY_DISK ? &v->disk : &v->memory) += v->batch[i].len;
	for (size_t i = 0; i < n; i++) {
		const struct wire_verify_range *d = &v->batch[differ[i]];
		bool disk = d->kind == WIRE_VERIFY_DISK;
		if (v->differing++ < REPORTED_MAX)
			json_array_append_new(v->differences,
				json_pack("{s:s, s:s, s:I, s:I, s:I}", "what",
					disk ? "disk" : "memory", "id",
					disk ? s->vm->cfg->disks[d->index].id
					     : s->ram.v[d->index].id,
					"offset", (json_int_t)d->off, "length", (json_int_t)d->len,
					"epoch", (json_int_t)h->epoch));
	}
	v->n = 0;
	v->sent = false;
	report(s);
	if (!v->todo_n)
		finish(s);
	return 0;
}
