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
 *   INSPECT  nothing was plugged, did the guest flush; the epoch's disk writes, streamed already, end
 *   SEND     slabs, device state and COMMIT go to the standby
 *   ACKED    the standby holds ALL of epoch n, verified by digest, and says so
 *   RELEASE  the output of epoch n leaves the host: reachable only from ACKED(n)
 *   DONE     counters and histograms
 *
 * The invariants are in mcd/README.md.  standby.c is the mirror image.
 */
#include "mcd/primary/epoch.h"

#include "common/clock.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/failpoint.h"
#include "mcd/verify.h"
#include "mcd/vm/life.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define SEND_LOOK  (5 * MC_MSEC)  /* while an epoch is sent */
#define THEIR_WORD (50 * MC_MSEC) /* with the guest's output held */
/* PEEK_STEP: how often TICK looks at the size of the dirty set; a look costs 0.2 ms per 256 MiB. */
#define PEEK_STEP(delay) ((delay) / 4 > 5 * MC_MSEC ? (delay) / 4 : 5 * MC_MSEC)

static int wait_tick(struct epoch *e, struct mc_error *err)
{
	uint64_t step = PEEK_STEP(e->vm->delay);
	uint64_t due = e->tick_at > e->settle_ns ? e->tick_at - e->settle_ns : 0;
	verify_look(e);
	for (;;) {
		uint64_t now = mc_now(), look = now + step;
		if (e->urgent || guest_paused_by_us(e->vm->guest) || now >= due) /* the guest waits for nothing else */
			return 0;
		struct wire_header h;
		int r = transport_recv(e->link, &h, look < due ? look : due, e->vm->wake, err);
		if (r == 0) {
			if (h.type != WIRE_VERIFIED)
				return protect_unexpected(e, &h, err);
			r = verify_answer(e, &h, err);
			if (r < 0)
				return r;
			verify_look(e);
			continue;
		}
		if (r != -ETIMEDOUT && r != -EINTR)
			return r;
		r = epoch_listen(e, err);
		if (r < 0)
			return r;
		uint64_t dirty = 0;
		if (dirty_peek(e->dirty, &dirty, NULL) == 0)
			slab_pool_reserve(e->pool, dirty + dirty / 4);
		if (dirty > e->vm->max_buffer / 2)
			return 0; /* the dirty set approaches the budget: end the epoch early */
	}
}

static int tick(struct epoch *e, struct mc_error *err)
{
	int r = wait_tick(e, err);
	if (r == 0)
		disks_settle(e);
	return r;
}

/* It stood already, and not by us. Asked each time: an event may still be on its way. */
static int why_stopped(struct epoch *e, struct mc_error *err)
{
	enum guest_event why;
	int r = guest_why_stopped(e->vm->guest, e->timing.command, &why, err);
	if (r == 0)
		e->guest_state = why == GUEST_EVENT_SHUTDOWN   ? WIRE_GUEST_OFF
				 : why == GUEST_EVENT_PANICKED ? WIRE_GUEST_PANICKED
							       : WIRE_GUEST_STOPPED;
	return r;
}

int epoch_pause(struct epoch *e, struct mc_error *err)
{
	struct guest *g = e->vm->guest;
	if (!guest_paused_by_us(g)) /* not since the last epoch, because its output piled up */
		e->pause_began = mc_now();
	int r = guest_pause(g, e->timing.command, err);
	if (r == -ETIMEDOUT && e->mirror) /* QEMU drains disk I/O that waits for us, and we do not know why */
		guest_mirror_yank(g, e->vm->cfg, MC_SEC, NULL);
	/* A guest that its administrator stopped is checkpointed like any other, and stays stopped. */
	return r < 0 || guest_paused_by_us(g) ? r : why_stopped(e, err);
}

static int barrier(struct epoch *e, struct mc_error *err)
{
	if (e->mirror) /* PAUSE returned, so every write that the guest saw completed is here */
		mirror_barrier(e->mirror, e->n, &e->disk_sum);
	return netbuf_barrier(e->vm->nb, e->n, err);
}

static int save(struct epoch *e, struct mc_error *err)
{
	return guest_save_devices(e->vm->guest, e->timing.command, &e->devices, &e->devices_cap,
		&e->devices_len, err);
}

/* After SAVE, never before: saving makes devices write to RAM (their pre_save hooks). */
static int scan(struct epoch *e, struct mc_error *err)
{
	int r = dirty_collect(e->dirty, &e->list, err);
	if (r == 0)
		verify_settle(e);
	return r;
}

static int resume(struct epoch *e, struct mc_error *err)
{
	struct guest *g = e->vm->guest;
	int r = e->stay_paused ? 0 : guest_resume(g, e->timing.command, err);
	if (r < 0)
		return r;
	return guest_stood_still(g, e->timing.command, err); /* or this is no image of one moment, and is not sent */
}

/* An epoch that takes long to send leaves its guest's output time to pile up: that, and whatever else
 * comes, is heard between two looks. */
static int flush(struct epoch *e, uint64_t deadline, struct mc_error *err)
{
	for (;;) {
		uint64_t look = mc_now() + SEND_LOOK;
		int r = look < deadline ? transport_push(e->link, look, err)
					: transport_flush(e->link, deadline, err);
		if (r != -ETIMEDOUT || look >= deadline)
			return r;
		r = epoch_listen(e, err);
		if (r < 0)
			return r;
	}
}

static int send_all(struct epoch *e, struct mc_error *err)
{
	e->send_began = mc_now();
	uint64_t deadline = e->send_began + e->timing.ack_overdue;
	int r = verify_send(e, err);
	if (r == 0)
		r = capture_post(e, WIRE_SLAB, err);
	if (r < 0)
		return r;
	struct wire_header dev = {
		.type = WIRE_DEVICES,
		.generation = e->generation,
		.epoch = e->n,
		.length = e->devices_len,
		.digest = XXH3_64bits(e->devices, e->devices_len),
	};
	wire_epoch_digest_add(&e->digest, dev.digest, dev.length);
	e->commit.device_bytes = dev.length;
	if (e->mirror) {
		wire_epoch_digest_add(&e->digest, e->disk_sum.digest, e->disk_sum.bytes);
		e->commit.disk_writes = e->disk_sum.writes;
		e->commit.disk_bytes = e->disk_sum.bytes;
		e->commit.disk_digest = e->disk_sum.digest;
	}
	e->commit.digest = e->digest.h;
	size_t len = wire_put_commit(e->commit_buf, sizeof e->commit_buf, &e->commit);
	struct wire_header commit = {
		.type = WIRE_COMMIT,
		.generation = e->generation,
		.epoch = e->n,
		.length = len,
		.digest = XXH3_64bits(e->commit_buf, len),
		.flags = e->guest_state,
	};
	r = transport_post(e->link, &dev, e->devices, err);
	if (r == 0)
		r = transport_post(e->link, &commit, e->commit_buf, err);
	return r < 0 ? r : flush(e, deadline, err);
}

static int wait_ack(struct epoch *e, struct mc_error *err)
{
	uint64_t deadline = mc_now() + e->timing.ack_overdue;
	for (;;) {
		struct wire_header h;
		int r = transport_recv(e->link, &h, deadline, e->vm->wake, err);
		if (r == -EINTR) {
			r = epoch_listen(e, err);
			if (r < 0)
				return r;
			continue;
		}
		if (r == -ETIMEDOUT)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"%s did not acknowledge epoch %llu within %.0f ms", e->peer,
				(unsigned long long)e->n, (double)e->timing.ack_overdue / 1e6);
		if (r == 0 && h.type == WIRE_VERIFIED) { /* of the former epoch */
			r = verify_answer(e, &h, err);
			if (r == 0)
				continue;
		}
		if (r < 0)
			return r;
		if (h.type != WIRE_ACK || h.length)
			return protect_unexpected(e, &h, err);
		/* The ACK repeats the digest: it answers this epoch's bytes, not merely this
		 * number. */
		if (h.generation != e->generation || h.epoch != e->n ||
			h.digest != e->commit.digest)
			return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				"%s acknowledged epoch %llu of generation %llu (digest %016llx), "
				"but %llu of %llu (%016llx) "
				"was sent",
				e->peer, (unsigned long long)h.epoch,
				(unsigned long long)h.generation, (unsigned long long)h.digest,
				(unsigned long long)e->n, (unsigned long long)e->generation,
				(unsigned long long)e->commit.digest);
		e->acked = e->n;
		return 0;
	}
}

/* This mcd, or its host, may have stood still until the standby had gone on from this very epoch.
 * Its output would be true all the same, but switches would look for the VM here again. */
static int still_here(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	struct own_record rec = vm_newest_record(vm);
	if (mc_now() - e->send_began > e->timing.suspect_after) {
		int r = voter_current(vm->d->voter, vm->name, mc_now() + MC_SEC, &rec, err);
		if (r < 0)
			return r;
		vm_learned(vm, &rec);
	}
	if (rec.generation <= e->generation)
		return 0;
	return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
		"a newer ownership record was decided before epoch %llu could be released",
		(unsigned long long)e->n);
}

static int release(struct epoch *e, struct mc_error *err)
{
	assert(e->acked ==
		e->n); /* invariant 1: there is no other way here than through ACKED(n) */
	int r = still_here(e, err);
	if (r < 0)
		return r;
	return netbuf_release(e->vm->nb, e->n, err);
}

static int done(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	struct slab_stats slabs;
	struct netbuf_stats held;
	capture_reset(e);
	slab_pool_epoch(e->pool);
	slab_get_stats(e->pool, &slabs);
	netbuf_get_stats(vm->nb, &held); /* asks the kernel: not with the lock */
	e->tick_at = e->pause_began + vm->delay;
	pthread_mutex_lock(&vm->lock);
	vm->pub.epoch = e->n;
	vm->pub.acked_at = mc_now();
	for (int i = 0; i < STEP_MAX; i++)
		mc_histogram_add(&vm->pub.steps[i], e->step_ns[i]);
	mc_histogram_add(&vm->pub.dirty, e->list.bytes);
	vm->pub.buffer_in_use = slabs.total * SLAB_SIZE;
	vm->pub.buffer_peak = slabs.peak * SLAB_SIZE;
	vm->pub.netbuf = held;
	if (e->mirror)
		mirror_get_stats(e->mirror, &vm->pub.mirror);
	pthread_mutex_unlock(&vm->lock);
	uint64_t lost = held.lost_frames - e->lost_before;
	/* All that was shown is still true; but a guest whose output disappears is not what its
	 * administrator calls protected. */
	if (lost)
		return mc_error_set(err, -ENOBUFS, MC_ECLASS_MEMORY,
			"%llu frames of the output of %s were lost while it was held: raise hold-limit (%.0f "
			"MiB now), or lower the delay",
			(unsigned long long)lost, vm->name, (double)vm->cfg->hold_limit / 1048576);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct epoch *e, struct mc_error *err);
	int measured; /* STEP_*, or -1 */
} steps[] = {
	{"TICK", tick, -1},
	{"PAUSE", epoch_pause, STEP_STOP},
	{"BARRIER", barrier, STEP_BARRIER},
	{"SAVE", save, STEP_SAVE},
	{"SCAN", scan, STEP_SCAN},
	{"COPY", capture_copy, STEP_COPY},
	{"RESUME", resume, STEP_RESUME},
	{"INSPECT", disks_inspect, STEP_INSPECT},
	{"SEND", send_all, STEP_SEND},
	{"ACKED", wait_ack, STEP_ACK},
	{"RELEASE", release, STEP_RELEASE},
	{"DONE", done, -1},
};
#define N_STEPS  (sizeof steps / sizeof *steps)
#define RELEASED (N_STEPS - 2) /* index of RELEASE */

static int run_steps(struct epoch *e, size_t from, size_t to, struct mc_error *err)
{
	for (size_t i = from; i < to; i++) {
		e->step = steps[i].name;
		failpoint(e->step);
		uint64_t began = mc_now();
		int r = steps[i].run(e, err);
		if (r < 0)
			return r;
		uint64_t ended = mc_now();
		if (steps[i].measured >= 0)
			e->step_ns[steps[i].measured] = ended - began;
		if (steps[i].run == resume)
			e->step_ns[STEP_PAUSE] = ended - e->pause_began;
	}
	return 0;
}

static void begin(struct epoch *e)
{
	e->n++;
	e->urgent = false;
	e->guest_state = WIRE_GUEST_RUNS;
	e->commit = (struct wire_commit){0};
	wire_epoch_digest_init(&e->digest, e->generation, e->n);
}

int epoch_run(struct epoch *e, struct mc_error *err)
{
	begin(e);
	return run_steps(e, 0, N_STEPS, err);
}

int epoch_run_until_acked(struct epoch *e, struct mc_error *err)
{
	begin(e);
	return run_steps(e, 0, RELEASED, err);
}

int epoch_release(struct epoch *e, struct mc_error *err)
{
	return run_steps(e, RELEASED, N_STEPS, err);
}

int epoch_listen(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	unsigned pending = vm_take_pending(vm);
	enum guest_event ev = vm_guest_events(vm);
	/* A guest that is off has one more epoch, for its last words (protect.c); while its memory
	 * is first copied nothing of it is held. */
	if (ev == GUEST_EVENT_SHUTDOWN) {
		e->guest_event = ev;
		e->urgent = true;
		if (!e->n)
			return mc_error_set(err, -ECHILD, MC_ECLASS_QMP, "the guest powered off");
	}
	if (ev == GUEST_EVENT_GONE) {
		if (e->guest_event == GUEST_EVENT_NONE)
			e->guest_event = ev;
		return mc_error_set(err, -ECHILD, MC_ECLASS_QMP, "QEMU ended by itself");
	}
	if (vm->quit)
		return mc_error_set(err, -ESHUTDOWN, MC_ECLASS_STATE, "mcd is shutting down");
	if ((pending & WAKE_RECORD) && vm_newest_record(vm).generation > e->generation)
		return mc_error_set(
			err, -ESTALE, MC_ECLASS_NOT_OWNER, "a newer ownership record was decided");
	if ((pending & WAKE_SUSPECT) && keepalive_suspected(vm->d->keepalive, e->peer))
		return mc_error_set(err, -EHOSTDOWN, MC_ECLASS_UNREACHABLE,
			"the keep-alives of %s stopped", e->peer);
	if ((pending & WAKE_DISK) && e->mirror) {
		int r = mirror_error(e->mirror, err);
		if (r < 0)
			protect_their_word(e, THEIR_WORD, err);
		if (r < 0)
			return r == -ETIMEDOUT || r == -ECHILD ? -EIO : r; /* not one of epoch_run's */
	}
	if (pending & (WAKE_CALL | WAKE_PRESSURE))
		e->urgent = true;
	/* Output piles up while its epoch is not acknowledged yet: the guest waits. RESUME comes
	 * with the next epoch, whose PAUSE finds it stopped. */
	if ((pending & WAKE_PRESSURE) && !guest_paused_by_us(vm->guest) && e->step &&
		(!strcmp(e->step, "SEND") || !strcmp(e->step, "ACKED"))) {
		e->pause_began = mc_now();
		int r = guest_pause(vm->guest, e->timing.command, err);
		if (r < 0)
			return r;
	}
	return 0;
}
