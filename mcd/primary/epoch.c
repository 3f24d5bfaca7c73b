/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One epoch on the primary, from top to bottom: the file to read first.
 *
 *   TICK     delay elapsed, or earlier: byte budget reached, output piling up, a command waiting
 *   PAUSE    vCPUs stopped, disk I/O drained
 *   BARRIER  what the guest sent and wrote to disk so far belongs to epoch n
 *   SAVE     device state saved
 *   SCAN     dirty pages found, and tracking armed again
 *   COPY     dirty pages copied into slabs
 *   RESUME   vCPUs run; the pause ends here
 *   INSPECT  nothing was plugged, did the guest flush; the epoch's disk writes end (they are there)
 *   SEND     slabs, device state and COMMIT go to the standby
 *   ACKED    the standby holds ALL of epoch n, verified by digest, and says so
 *   RELEASE  the output of epoch n leaves the host: reachable only from ACKED(n)
 *   DONE     counters and histograms
 *
 * The invariants are in mcd/README.md.  standby/epoch.c is the mirror image.
 */
#include "mcd/primary/epoch.h"

#include "common/clock.h"
#include "diskmirror/mirror.h"
#include "common/failpoint.h"
#include "mcd/primary/capture.h"
#include "mcd/primary/disks.h"
#include "mcd/primary/listen.h"
#include "mcd/primary/pause.h"
#include "mcd/primary/peer.h"
#include "mcd/primary/verify.h"
#include "mcd/vm/owner.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <xxhash.h>

#define SEND_LOOK  (5 * MC_MSEC) /* while an epoch is sent */
#define RESETS_MAX 3             /* in one pause; a guest that stands can begin no other */
/* PEEK_STEP: how often TICK looks at the size of the dirty set; a look costs 0.2 ms per 256 MiB. */
#define PEEK_STEP(delay) ((delay) / 4 > 5 * MC_MSEC ? (delay) / 4 : 5 * MC_MSEC)

/* Until the time: what the standby says of a comparison, and what the bell rings for. */
static int hear(struct session *s, uint64_t until, struct mc_error *err)
{
	struct wire_header h;
	int r = peer_recv(s, &h, until, err);
	if (r == -ETIMEDOUT || r == -EINTR)
		return session_listen(s, LISTEN_EPOCH, err);
	if (r < 0)
		return r;
	if (h.type != WIRE_VERIFIED)
		return peer_unexpected(s, &h, err);
	r = verify_answer(s, &h, err);
	if (r == 0)
		verify_look(s);
	return r;
}

static int wait_tick(struct session *s, struct mc_error *err)
{
	uint64_t step = PEEK_STEP(s->vm->delay);
	uint64_t due = s->tick_at > s->disks.flush_ns ? s->tick_at - s->disks.flush_ns : 0;
	verify_look(s);
	for (;;) {
		uint64_t now = mc_now(), dirty = 0;
		/* A guest that we stopped waits for nothing else. */
		if (s->e.urgent || guest_paused_by_us(s->vm->guest) || now >= due)
			return 0;
		int r = hear(s, now + step < due ? now + step : due, err);
		if (r < 0)
			return r;
		if (dirty_peek(s->dirty, &dirty, NULL) == 0)
			slab_pool_reserve(s->pool, dirty + dirty / 4);
		if (dirty > s->vm->max_buffer / 2)
			return 0; /* the dirty set approaches the budget: end the epoch early */
	}
}

static int tick(struct session *s, struct mc_error *err)
{
	int r = wait_tick(s, err);
	if (r == 0)
		disks_flush(s);
	return r;
}

static int barrier(struct session *s, struct mc_error *err)
{
	/* PAUSE returned, so every write that the guest saw completed is here */
	if (s->disks.mirror)
		mirror_barrier(s->disks.mirror, s->e.n, &s->e.disk_sum);
	return netbuf_barrier(s->vm->nb, s->e.n, err);
}

static int save(struct session *s, struct mc_error *err)
{
	return guest_save_devices(s->vm->guest, s->timing.command, &s->devices, &s->devices_cap,
		&s->e.devices_len, err);
}

/* After SAVE, never before: saving makes devices write to RAM (their pre_save hooks). */
static int scan(struct session *s, struct mc_error *err)
{
	assert(s->e.devices_len);
	int r = dirty_collect(s->dirty, &s->list, err);
	if (r == 0)
		verify_keep(s);
	return r;
}

/* A reset that the guest had begun when it was stopped is done while it stands: then what was
 * captured is of no one moment, and is captured again.  Nobody ran meanwhile, so the barrier is
 * still true. */
static int copy(struct session *s, struct mc_error *err)
{
	int r = capture_copy(s, err);
	for (int i = 0; r == 0 && i < RESETS_MAX && guest_take_reset(s->vm->guest); i++)
		if ((r = save(s, err)) == 0 && (r = scan(s, err)) == 0)
			r = capture_copy(s, err);
	return r;
}

static int resume(struct session *s, struct mc_error *err)
{
	struct guest *g = s->vm->guest;
	int r = s->stay_paused ? 0 : guest_resume(g, s->timing.command, err);
	if (r < 0)
		return r;
	/* or this is no image of one moment, and is not sent */
	return guest_stood_still(g, s->timing.command, err);
}

/* An epoch that takes long to send leaves its guest's output time to pile up: that, and whatever
 * else comes, is heard between two looks. */
static int flush(struct session *s, uint64_t deadline, struct mc_error *err)
{
	for (;;) {
		uint64_t look = mc_now() + SEND_LOOK;
		if (look >= deadline)
			return peer_flush(s, deadline, err);
		int r = transport_push(s->link, look, err);
		if (r != -ETIMEDOUT)
			return session_fails(s, END_LINK, r);
		r = session_listen(s, LISTEN_EPOCH, err);
		if (r < 0)
			return r;
	}
}

static int post_devices(struct session *s, struct mc_error *err)
{
	struct wire_header h = {
		.type = WIRE_DEVICES,
		.generation = s->generation,
		.epoch = s->e.n,
		.length = s->e.devices_len,
		.digest = XXH3_64bits(s->devices, s->e.devices_len),
	};
	wire_epoch_digest_add(&s->e.digest, h.digest, h.length);
	s->e.commit.device_bytes = h.length;
	return peer_post(s, &h, s->devices, err);
}

static int post_commit(struct session *s, struct mc_error *err)
{
	struct wire_commit *c = &s->e.commit;
	if (s->disks.mirror) {
		const struct disk_epoch_sum *sum = &s->e.disk_sum;
		wire_epoch_digest_add(&s->e.digest, sum->digest, sum->bytes);
		c->disk_writes = sum->writes;
		c->disk_bytes = sum->bytes;
		c->disk_digest = sum->digest;
	}
	c->digest = s->e.digest.h;
	size_t len = wire_put_commit(s->e.commit_buf, sizeof s->e.commit_buf, c);
	struct wire_header h = {
		.type = WIRE_COMMIT,
		.generation = s->generation,
		.epoch = s->e.n,
		.length = len,
		.digest = XXH3_64bits(s->e.commit_buf, len),
		.flags = s->e.guest_state,
	};
	return peer_post(s, &h, s->e.commit_buf, err);
}

static int send_all(struct session *s, struct mc_error *err)
{
	s->e.under_way = true;
	s->e.send_began = mc_now();
	uint64_t deadline = s->e.send_began + s->timing.ack_overdue;
	int r;
	if ((r = verify_send(s, err)) < 0 || (r = capture_post(s, WIRE_SLAB, err)) < 0 ||
		(r = post_devices(s, err)) < 0 || (r = post_commit(s, err)) < 0)
		return r;
	return flush(s, deadline, err);
}

/* The ACK repeats the digest: it answers this epoch's bytes, not merely this number. */
static int check_ack(struct session *s, const struct wire_header *h, struct mc_error *err)
{
	if (h->type != WIRE_ACK || h->length)
		return peer_unexpected(s, h, err);
	if (h->generation == s->generation && h->epoch == s->e.n && h->digest == s->e.commit.digest)
		return 0;
	return session_ends(s, END_LINK, err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"%s acknowledged epoch %" PRIu64 " of generation %" PRIu64 " (digest %016" PRIx64
		"), but %" PRIu64 " of %" PRIu64 " (%016" PRIx64 ") was sent",
		s->peer, h->epoch, h->generation, h->digest, s->e.n, s->generation,
		s->e.commit.digest);
}

static int wait_ack(struct session *s, struct mc_error *err)
{
	uint64_t deadline = mc_now() + s->timing.ack_overdue;
	for (;;) {
		struct wire_header h;
		int r = peer_recv(s, &h, deadline, err);
		if (r == -ETIMEDOUT)
			return session_ends(s, END_ACK_OVERDUE, err, r, MC_ECLASS_TIMEOUT,
				"%s did not acknowledge epoch %" PRIu64 " within %.0f ms", s->peer,
				s->e.n, (double)s->timing.ack_overdue / 1e6);
		if (r == -EINTR)
			r = session_listen(s, LISTEN_EPOCH, err);
		else if (r == 0 && h.type == WIRE_VERIFIED) /* of the former epoch */
			r = verify_answer(s, &h, err);
		else if (r == 0 && (r = check_ack(s, &h, err)) == 0) {
			assert(s->acked < s->e.n);
			s->acked = s->e.n;
			s->e.under_way = false;
			return 0;
		}
		if (r < 0)
			return r;
	}
}

/* This mcd, or its host, may have stood still until the standby had gone on from this very epoch.
 * Its output would be true all the same, but switches would look for the VM here again. */
static int still_here(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct own_record rec;
	if (mc_now() - s->e.send_began > s->timing.suspect_after) {
		int r = vm_look(vm, MC_SEC, &rec, err);
		if (r < 0)
			return session_fails(s, END_RECORD, r);
	}
	if (vm_newest_record(vm).generation <= s->generation)
		return 0;
	return session_ends(s, END_RECORD, err, -ESTALE, MC_ECLASS_NOT_OWNER,
		"a newer ownership record was decided before epoch %" PRIu64 " could be released",
		s->e.n);
}

static int release(struct session *s, struct mc_error *err)
{
	/* Invariant 1: there is no other way here than through ACKED(n), */
	assert(s->acked == s->e.n);
	/* ... and under a record that names the standby which has it (invariant 7). */
	assert(s->vm->rec.generation == s->generation);
	int r = still_here(s, err);
	if (r == 0)
		r = netbuf_release(s->vm->nb, s->e.n, err);
	if (r == 0)
		s->released = s->e.n;
	return r;
}

static int done(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct slab_stats slabs;
	assert(s->released == s->e.n && s->released <= s->acked);
	capture_reset(s);
	slab_pool_epoch(s->pool);
	slab_get_stats(s->pool, &slabs);
	struct vm_epoch_figures f = {
		.epoch = s->e.n,
		.step_ns = s->e.step_ns,
		.dirty_bytes = s->list.bytes,
		.buffer_in_use = slabs.total * SLAB_SIZE,
		.buffer_peak = slabs.peak * SLAB_SIZE,
	};
	netbuf_get_stats(vm->nb, &f.netbuf);
	s->tick_at = s->pause_began + vm->delay;
	vm_publish_epoch(vm, &f);
	disks_publish(s);
	uint64_t lost = f.netbuf.lost_frames - s->lost_before;
	/* All that was shown is still true; but a guest whose output disappears is not what its
	 * administrator calls protected. */
	if (lost)
		return session_ends(s, END_OUTPUT_LOST, err, -ENOBUFS, MC_ECLASS_MEMORY,
			"%" PRIu64 " frames of the output of %s were lost while it was held: raise "
			"hold-limit (%.0f MiB now), or lower the delay",
			lost, vm->name, (double)vm->cfg->hold_limit / 1048576);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct session *s, struct mc_error *err);
	int measured; /* STEP_*, or -1 */
} steps[] = {
	{"TICK", tick, -1},
	{"PAUSE", session_pause, STEP_STOP},
	{"BARRIER", barrier, STEP_BARRIER},
	{"SAVE", save, STEP_SAVE},
	{"SCAN", scan, STEP_SCAN},
	{"COPY", copy, STEP_COPY},
	{"RESUME", resume, STEP_RESUME},
	{"INSPECT", disks_inspect, STEP_INSPECT},
	{"SEND", send_all, STEP_SEND},
	{"ACKED", wait_ack, STEP_ACK},
	{"RELEASE", release, STEP_RELEASE},
	{"DONE", done, -1},
};
#define N_STEPS  (sizeof steps / sizeof *steps)
#define RELEASED (N_STEPS - 2) /* index of RELEASE */

static int run_steps(struct session *s, size_t from, size_t to, struct mc_error *err)
{
	for (size_t i = from; i < to; i++) {
		s->e.step = steps[i].name;
		failpoint(s->e.step);
		uint64_t began = mc_now();
		int r = steps[i].run(s, err);
		if (r < 0)
			/* unless the step has said better why */
			return session_fails(s, END_FAULT, r);
		uint64_t ended = mc_now();
		if (steps[i].measured >= 0)
			s->e.step_ns[steps[i].measured] = ended - began;
		if (steps[i].run == resume)
			s->e.step_ns[STEP_PAUSE] = ended - s->pause_began;
	}
	return 0;
}

static void begin(struct session *s)
{
	assert(s->end == END_NONE && !s->slabs);
	assert(s->acked == s->e.n); /* invariant 4: no gaps, and none twice */
	s->e = (struct epoch){.n = s->e.n + 1, .guest_state = WIRE_GUEST_RUNS};
	wire_epoch_digest_init(&s->e.digest, s->generation, s->e.n);
}

int epoch_run(struct session *s, struct mc_error *err)
{
	begin(s);
	return run_steps(s, 0, N_STEPS, err);
}

int epoch_run_until_acked(struct session *s, struct mc_error *err)
{
	begin(s);
	return run_steps(s, 0, RELEASED, err);
}

int epoch_release(struct session *s, struct mc_error *err)
{
	return run_steps(s, RELEASED, N_STEPS, err);
}
