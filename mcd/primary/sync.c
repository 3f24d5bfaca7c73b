/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Initial synchronisation: rounds of "what was written since the last round" while the guest runs,
 * until the rest fits one epoch.  The standby applies each slab at once: there is no committed
 * image yet that could be torn.
 */
#include "mcd/primary/sync.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/memory.h"
#include "mcd/guest/roms.h"
#include "mcd/primary/capture.h"
#include "mcd/primary/listen.h"
#include "mcd/primary/peer.h"
#include "mcd/vm/calls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define ROUNDS_MAX   40
#define PAGE         4096u
#define CALM         (2ull * SLAB_SIZE) /* a rest this small is not worth another round */
#define REPORT_EVERY (100 * MC_MSEC)

_Static_assert(RAMBLOCKS_MAX == WIRE_BLOCKS_MAX && RAMBLOCK_ID_MAX == WIRE_BLOCK_ID_MAX,
	"a HELLO can name the blocks of any VM");
_Static_assert(CONFIG_DELAY_MIN == WIRE_DELAY_MIN && CONFIG_DELAY_MAX == WIRE_DELAY_MAX &&
		       CONFIG_MAX_BUFFER_MIN >= 2ull * SLAB_SIZE,
	"and has any delay and buffer that may be configured");
#define SPEAK_EVERY MC_SEC        /* the standby gives up on a primary that says nothing for long */
#define ZERO_RUN    (64ull << 20) /* zeroes looked at in one go */

struct sync {
	struct session *s;
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

static void report(struct sync *y)
{
	uint64_t now = mc_now();
	if (now - y->reported < REPORT_EVERY)
		return;
	y->reported = now;
	double secs = (double)(now - y->began) / 1e9;
	double rate = secs > 0 ? (double)y->done / secs : 0; /* guest memory covered per second */
	struct vm_sync_progress p = {
		.round = y->round,
		.sent = y->sent,
		/* Later rounds are re-sends: the estimate holds for the first, the rest is the
		   tail. */
		.percent = y->total ? 100.0 * (double)y->done / (double)y->total : 100,
		.rate_mbs = secs > 0 ? (double)y->sent / secs / 1e6 : 0,
		.eta_s = rate > 0 && y->total > y->done ? (double)(y->total - y->done) / rate : 0,
	};
	vm_publish_sync(y->s->vm, &p);
	vm_call_progress(
		y->call, json_pack("{s:s, s:i, s:f, s:I, s:f, s:f}", "phase", "sync", "round",
				 (int)p.round, "percent", p.percent, "sent_bytes",
				 (json_int_t)p.sent, "rate_mbs", p.rate_mbs, "eta_s", p.eta_s));
}

/* Sends the slab in hand; with one in flight at a time the memory of a synchronisation is one slab,
 * and a verb of the administrator never waits for more. */
static int send_slab(struct sync *y, struct mc_error *err)
{
	struct session *s = y->s;
	if (!y->slab || !y->slab->used)
		return 0;
	slab_seal(y->slab);
	struct wire_header h = {
		.type = WIRE_SYNC,
		.generation = s->generation,
		.length = y->slab->used,
		.digest = y->slab->digest,
	};
	int r = peer_post(s, &h, y->slab->mem, err);
	if (r == 0)
		r = peer_flush(s, mc_now() + s->timing.ack_overdue, err);
	if (r < 0)
		return r;
	y->spoke = mc_now();
	y->sent += y->slab->used;
	y->slab->used = 0;
	report(y);
	return session_listen(s, LISTEN_SYNC, err);
}

static int add_zeroes(
	struct sync *y, uint32_t block, uint64_t off, uint64_t len, struct mc_error *err)
{
	int r = 0;
	if (!slab_append_zero(y->slab, block, off, len)) {
		r = send_slab(y, err);
		if (r == 0)
			slab_append_zero(y->slab, block, off, len);
	}
	y->done += len;
	/* A large memory of nothing but zeroes fits one slab: it goes out before it is full. */
	if (r == 0 && mc_now() - y->spoke > SPEAK_EVERY)
		r = send_slab(y, err);
	return r;
}

struct look {
	const uint8_t *mem;
	uint64_t len, n;
	bool zero;
};

/* How far it goes on as it begins: with zeroes, or without. */
static void look(void *arg)
{
	struct look *l = arg;
	l->zero = is_zero(l->mem, PAGE);
	l->n = PAGE;
	while (l->n < l->len && l->n < ZERO_RUN && is_zero(l->mem + l->n, PAGE) == l->zero)
		l->n += PAGE;
}

/* Memory that exists: pages of zeroes are told, the others sent. */
static int add_data(
	struct sync *y, uint32_t block, uint64_t off, uint64_t len, struct mc_error *err)
{
	const uint8_t *mem = y->s->ram.v[block].map + off;
	for (uint64_t i = 0; i < len;) {
		struct look l = {.mem = mem + i, .len = len - i};
		if (memory_try(look, &l) < 0)
			return memory_lost(y->s->vm->name, err);
		if (l.zero) {
			int r = add_zeroes(y, block, off + i, l.n, err);
			if (r < 0)
				return r;
		}
		for (uint64_t done = 0; !l.zero && done < l.n;) {
			size_t took = 0;
			int r = capture_append(
				y->s, y->slab, block, off + i + done, l.n - done, &took, err);
			if (r == 0 && !took)
				r = send_slab(y, err);
			if (r < 0)
				return r;
			done += took;
			y->done += took;
		}
		i += l.n;
	}
	return 0;
}

/* Memory that the guest never touched is a hole in its file.  It must not even be looked at:
 * reading a hole through the mapping would make a page of it, and a guest of 64 GB cost 64 GB at
 * once. */
static int add_range(struct sync *y, const struct dirty_range *d, struct mc_error *err)
{
	int fd = y->s->ram.v[d->region].fd, r = 0;
	uint64_t at = d->off, end = d->off + d->len;
	while (r == 0 && at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno != ENXIO) /* cannot tell: all of it is data */
			return add_data(y, d->region, at, end - at, err);
		uint64_t begin = data < 0 || (uint64_t)data > end
					 ? end
					 : (uint64_t)data & ~(uint64_t)(PAGE - 1);
		if (begin > at)
			r = add_zeroes(y, d->region, at, begin - at, err);
		if (r < 0 || begin == end)
			break;
		off_t hole = lseek(fd, (off_t)begin, SEEK_HOLE);
		uint64_t stop = hole < 0 || (uint64_t)hole > end
					? end
					: ((uint64_t)hole + PAGE - 1) & ~(uint64_t)(PAGE - 1);
		r = add_data(y, d->region, begin, stop - begin, err);
		at = stop;
	}
	return r;
}

/* One round: everything in s->list, then the standby's word that all of it is applied. */
static int run_round(struct sync *y, struct mc_error *err)
{
	struct session *s = y->s;
	y->round++;
	y->done = 0;
	y->total = s->list.bytes;
	y->sent = 0;
	y->began = mc_now();
	for (size_t i = 0; i < s->list.n; i++) {
		int r = add_range(y, &s->list.v[i], err);
		if (r < 0)
			return r;
	}
	int r = send_slab(y, err);
	if (r < 0)
		return r;
	struct wire_header end = {
		.type = WIRE_SYNC_END, .generation = s->generation, .digest = XXH3_64bits("", 0)};
	struct wire_header h;
	r = peer_post(s, &end, NULL, err);
	if (r == 0)
		r = peer_flush(s, mc_now() + s->timing.ack_overdue, err);
	uint64_t deadline = mc_now() + s->timing.ack_overdue +
			    10 * MC_SEC; /* it may have 5 MiB x socket buffers to apply */
	while (r == 0) {
		r = peer_recv(s, &h, deadline, err);
		if (r == 0)
			return h.type == WIRE_SYNC_OK && !h.length ? 0
								   : peer_unexpected(s, &h, err);
		if (r == -EINTR)
			r = session_listen(s, LISTEN_SYNC, err);
	}
	return r;
}

/* With the guest stopped for a moment, so that its disk I/O is drained: a page that a device still
 * writes to counts as written when the I/O began, and would be missed if it was collected in
 * between. */
static int collect_stopped(struct session *s, struct mc_error *err)
{
	struct guest *g = s->vm->guest;
	int r = guest_pause(g, s->timing.command, err);
	if (r == 0)
		r = dirty_collect(s->dirty, &s->list, err);
	int r2 = guest_resume(g, s->timing.command, r == 0 ? err : NULL);
	if (r == 0)
		r = r2;
	if (r == 0)
		r = guest_stood_still(g, s->timing.command, err);
	return r;
}

int sync_roms(struct session *s, struct mc_error *err)
{
	struct roms roms = {0};
	_Static_assert(ROM_BYTES_MAX + WIRE_ROM_FIXED + RAMBLOCK_ID_MAX <= WIRE_ROM_MAX,
		"a ROM is one message");
	int r = guest_read_roms(s->vm->guest, &roms, err);
	for (size_t i = 0; r == 0 && i < roms.n; i++) {
		const struct rom *rom = &roms.v[i];
		_cleanup_free_ uint8_t *buf = malloc(WIRE_ROM_FIXED + RAMBLOCK_ID_MAX + rom->size);
		if (!buf) {
			r = mc_error_set(
				err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the firmware");
			break;
		}
		size_t len = wire_put_rom(buf, WIRE_ROM_FIXED + RAMBLOCK_ID_MAX, rom->id);
		memcpy(buf + len, rom->data, rom->size);
		len += rom->size;
		struct wire_header h = {
			.type = WIRE_ROM,
			.generation = s->generation,
			.length = len,
			.digest = XXH3_64bits(buf, len),
		};
		r = peer_post(s, &h, buf, err);
		if (r == 0)
			r = peer_flush(s, mc_now() + s->timing.ack_overdue, err);
	}
	roms_clear(&roms);
	return r;
}

int sync_rounds(struct session *s, struct vm_call *call, struct mc_error *err)
{
	struct sync y = {.s = s, .call = call};
	uint64_t last = UINT64_MAX;
	int r = slab_get(s->pool, &y.slab, err);
	for (;;) {
		if (r == 0)
			r = collect_stopped(s, err);
		if (r < 0)
			break;
		uint64_t room = s->vm->max_buffer / 2; /* mcctl set may change it */
		/* Good enough: small, or it fits and rounds no longer make it smaller. */
		if (y.round && s->list.bytes <= room &&
			(s->list.bytes <= CALM || (y.round > 2 && s->list.bytes > last - last / 4)))
			break;
		if (y.round == ROUNDS_MAX) {
			r = mc_error_set(err, -EBUSY, MC_ECLASS_GUEST,
				"the guest writes %.1f MB while a round is sent, more than half of "
				"max-buffer (%.0f MB): raise max-buffer, or use a faster link to "
				"%s",
				(double)s->list.bytes / 1e6, (double)s->vm->max_buffer / 1e6,
				s->peer);
			break;
		}
		last = s->list.bytes;
		r = run_round(&y, err);
	}
	/* What the last collect reported has not been sent, and tracking was armed again by it: it
	 * must be part of the first epoch.  It goes out as one more, unacknowledged round; what the
	 * guest writes meanwhile is found by the first epoch's own scan. */
	if (r == 0)
		r = run_round(&y, err);
	if (y.slab) {
		y.slab->used = 0;
		slab_put(s->pool, y.slab);
	}
	return r;
}
