/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Initial synchronisation: rounds of "what was written since the last round" while the guest runs,
 * until the rest fits one epoch.  The standby applies each slab at once: there is no committed
 * image yet that could be torn.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/primary/epoch.h"
#include "mcd/guest/roms.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define ROUNDS_MAX   40
#define PAGE         4096u
#define CALM         (2ull * SLAB_SIZE) /* a rest this small is not worth another round */
#define REPORT_EVERY (100 * MC_MSEC)
#define SPEAK_EVERY  MC_SEC /* the standby gives up on a primary that says nothing for long */
#define ZERO_RUN     (64ull << 20) /* zeroes looked at in one go */

struct sync {
	struct epoch *e;
	struct vm_call *call;
	struct slab *slab;
	uint64_t began, reported, spoke, total, done, sent;
	unsigned round;
};

static int is_zero(const uint8_t *p, size_t n)
{
	/* Compares the page with itself shifted by 16: memcmp is the fastest loop there is. */
	static const uint8_t zero[16];
	return !memcmp(p, zero, sizeof zero) && !memcmp(p, p + sizeof zero, n - sizeof zero);
}

static void report(struct sync *s)
{
	uint64_t now = mc_now();
	if (now - s->reported < REPORT_EVERY)
		return;
	s->reported = now;
	struct vm *vm = s->e->vm;
	double secs = (double)(now - s->began) / 1e9;
	double rate = secs > 0 ? (double)s->done / secs : 0; /* guest memory covered per second */
	struct vm_sync_progress p = {
		.round = s->round,
		.sent = s->sent,
		/* Later rounds are re-sends: the estimate holds for the first, the rest is the
		   tail. */
		.percent = s->total ? 100.0 * (double)s->done / (double)s->total : 100,
		.rate_mbs = secs > 0 ? (double)s->sent / secs / 1e6 : 0,
		.eta_s = rate > 0 && s->total > s->done ? (double)(s->total - s->done) / rate : 0,
	};
	pthread_mutex_lock(&vm->lock);
	vm->pub.sync = p;
	pthread_mutex_unlock(&vm->lock);
	if (s->call && s->call->wait)
		control_progress(s->call->req,
			json_pack("{s:s, s:i, s:f, s:I, s:f, s:f}", "phase", "sync", "round",
				(int)p.round, "percent", p.percent, "sent_bytes",
				(json_int_t)p.sent, "rate_mbs", p.rate_mbs, "eta_s", p.eta_s));
}

/* Sends the slab in hand; with one in flight at a time the memory of a synchronisation is one slab,
 * and a verb of the administrator never waits for more. */
static int send_slab(struct sync *s, struct mc_error *err)
{
	struct epoch *e = s->e;
	if (!s->slab || !s->slab->used)
		return 0;
	slab_seal(s->slab);
	struct wire_header h = {
		.type = WIRE_SYNC,
		.generation = e->generation,
		.length = s->slab->used,
		.digest = s->slab->digest,
	};
	int r = transport_post(e->link, &h, s->slab->mem, err);
	if (r == 0)
		r = transport_flush(e->link, mc_now() + e->timing.ack_overdue, err);
	if (r < 0)
		return r;
	s->spoke = mc_now();
	s->sent += s->slab->used;
	s->slab->used = 0;
	report(s);
	r = epoch_listen(e, err);
	if (r < 0)
		return r;
	if (e->urgent) {
		e->urgent = false;
		r = sync_calls(e, err);
	}
	return r;
}

static int add_zeroes(
	struct sync *s, uint32_t block, uint64_t off, uint64_t len, struct mc_error *err)
{
	int r = 0;
	if (!slab_append_zero(s->slab, block, off, len)) {
		r = send_slab(s, err);
		if (r == 0)
			slab_append_zero(s->slab, block, off, len);
	}
	s->done += len;
	/* A large memory of nothing but zeroes fits one slab: it goes out before it is full. */
	if (r == 0 && mc_now() - s->spoke > SPEAK_EVERY)
		r = send_slab(s, err);
	return r;
}

/* Memory that exists: pages of zeroes are told, the others sent. */
static int add_data(
	struct sync *s, uint32_t block, uint64_t off, uint64_t len, struct mc_error *err)
{
	const uint8_t *mem = s->e->ram.v[block].map + off;
	for (uint64_t i = 0; i < len;) {
		bool zero = is_zero(mem + i, PAGE);
		uint64_t n = PAGE;
		while (i + n < len && n < ZERO_RUN && is_zero(mem + i + n, PAGE) == zero)
			n += PAGE;
		if (zero) {
			int r = add_zeroes(s, block, off + i, n, err);
			if (r < 0)
				return r;
		}
		for (uint64_t done = 0; !zero && done < n;) {
			size_t took = slab_append(
				s->slab, block, off + i + done, mem + i + done, n - done);
			int r = took ? 0 : send_slab(s, err);
			if (r < 0)
				return r;
			done += took;
			s->done += took;
		}
		i += n;
	}
	return 0;
}

/* Memory that the guest never touched is a hole in its file.  It must not even be looked at:
 * reading a hole through the mapping would make a page of it, and a guest of 64 GB cost 64 GB at
 * once. */
static int add_range(struct sync *s, const struct dirty_range *d, struct mc_error *err)
{
	int fd = s->e->ram.v[d->region].fd, r = 0;
	uint64_t at = d->off, end = d->off + d->len;
	while (r == 0 && at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno != ENXIO) /* cannot tell: all of it is data */
			return add_data(s, d->region, at, end - at, err);
		uint64_t begin = data < 0 || (uint64_t)data > end
					 ? end
					 : (uint64_t)data & ~(uint64_t)(PAGE - 1);
		if (begin > at)
			r = add_zeroes(s, d->region, at, begin - at, err);
		if (r < 0 || begin == end)
			break;
		off_t hole = lseek(fd, (off_t)begin, SEEK_HOLE);
		uint64_t stop = hole < 0 || (uint64_t)hole > end
					? end
					: ((uint64_t)hole + PAGE - 1) & ~(uint64_t)(PAGE - 1);
		r = add_data(s, d->region, begin, stop - begin, err);
		at = stop;
	}
	return r;
}

/* One round: everything in e->list, then the standby's word that all of it is applied. */
static int run_round(struct sync *s, struct mc_error *err)
{
	struct epoch *e = s->e;
	s->round++;
	s->done = 0;
	s->total = e->list.bytes;
	s->sent = 0;
	s->began = mc_now();
	for (size_t i = 0; i < e->list.n; i++) {
		int r = add_range(s, &e->list.v[i], err);
		if (r < 0)
			return r;
	}
	int r = send_slab(s, err);
	if (r < 0)
		return r;
	struct wire_header end = {
		.type = WIRE_SYNC_END, .generation = e->generation, .digest = XXH3_64bits("", 0)};
	struct wire_header h;
	r = transport_post(e->link, &end, NULL, err);
	if (r == 0)
		r = transport_flush(e->link, mc_now() + e->timing.ack_overdue, err);
	uint64_t deadline = mc_now() + e->timing.ack_overdue +
			    10 * MC_SEC; /* it may have 5 MiB x socket buffers to apply */
	while (r == 0) {
		r = transport_recv(e->link, &h, deadline, e->vm->wake, err);
		if (r == 0)
			return h.type == WIRE_SYNC_OK && !h.length ? 0
								   : protect_unexpected(e, &h, err);
		if (r == -EINTR) {
			r = epoch_listen(e, err);
			if (r == 0 && e->urgent) {
				e->urgent = false;
				r = sync_calls(e, err);
			}
		}
	}
	return r;
}

/* With the guest stopped for a moment, so that its disk I/O is drained: a page that a device still
 * writes to counts as written when the I/O began, and would be missed if it was collected in
 * between. */
static int collect_stopped(struct epoch *e, struct mc_error *err)
{
	struct guest *g = e->vm->guest;
	int r = guest_pause(g, e->timing.command, err);
	if (r == 0)
		r = dirty_collect(e->dirty, &e->list, err);
	int r2 = guest_resume(g, e->timing.command, r == 0 ? err : NULL);
	if (r == 0)
		r = r2;
	if (r == 0)
		r = guest_stood_still(g, e->timing.command, err);
	return r;
}

int sync_roms(struct epoch *e, struct mc_error *err)
{
	struct roms roms = {0};
	_Static_assert(ROM_BYTES_MAX + WIRE_ROM_FIXED + RAMBLOCK_ID_MAX <= WIRE_ROM_MAX, "a ROM is one message");
	int r = guest_read_roms(e->vm->guest, &roms, err);
	for (size_t i = 0; r == 0 && i < roms.n; i++) {
		const struct rom *rom = &roms.v[i];
		_cleanup_free_ uint8_t *buf = malloc(WIRE_ROM_FIXED + RAMBLOCK_ID_MAX + rom->size);
		if (!buf) {
			r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the firmware");
			break;
		}
		size_t len = wire_put_rom(buf, WIRE_ROM_FIXED + RAMBLOCK_ID_MAX, rom->id);
		memcpy(buf + len, rom->data, rom->size);
		len += rom->size;
		struct wire_header h = {
			.type = WIRE_ROM,
			.generation = e->generation,
			.length = len,
			.digest = XXH3_64bits(buf, len),
		};
		r = transport_post(e->link, &h, buf, err);
		if (r == 0)
			r = transport_flush(e->link, mc_now() + e->timing.ack_overdue, err);
	}
	roms_clear(&roms);
	return r;
}

int sync_rounds(struct epoch *e, struct vm_call *call, struct mc_error *err)
{
	struct sync s = {.e = e, .call = call};
	uint64_t last = UINT64_MAX;
	int r = slab_get(e->pool, &s.slab, err);
	for (;;) {
		if (r == 0)
			r = collect_stopped(e, err);
		if (r < 0)
			break;
		uint64_t room = e->vm->max_buffer / 2; /* mcctl set may change it */
		/* Good enough: small, or it fits and rounds no longer make it smaller. */
		if (s.round && e->list.bytes <= room &&
			(e->list.bytes <= CALM || (s.round > 2 && e->list.bytes > last - last / 4)))
			break;
		if (s.round == ROUNDS_MAX) {
			r = mc_error_set(err, -EBUSY, MC_ECLASS_GUEST,
				"the guest writes %.1f MB while a round is sent, more than half of "
				"max-buffer (%.0f MB): "
				"raise max-buffer, or use a faster link to %s",
				(double)e->list.bytes / 1e6, (double)e->vm->max_buffer / 1e6,
				e->peer);
			break;
		}
		last = e->list.bytes;
		r = run_round(&s, err);
	}
	/* What the last collect reported has not been sent, and tracking was armed again by it: it
	 * must be part of the first epoch.  It goes out as one more, unacknowledged round; what the
	 * guest writes meanwhile is found by the first epoch's own scan. */
	if (r == 0)
		r = run_round(&s, err);
	if (s.slab) {
		s.slab->used = 0;
		slab_put(e->pool, s.slab);
	}
	return r;
}
