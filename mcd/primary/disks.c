/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A protected VM's disks on its primary: QEMU mirrors them to us, we stream them to the standby. */
#include "mcd/primary/disks.h"

#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/mirror.h"
#include "mcd/primary/flush.h"
#include "mcd/primary/listen.h"
#include "mcd/primary/peer.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/waits.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define HELLO_WAIT  (5 * MC_SEC) /* the standby opens its replica */
#define LOOK_EVERY  (100 * MC_MSEC)
#define ANSWER_WAIT (10 * MC_SEC)
#define FLUSH_SHARE 4      /* of the delay: as much of it may go by, not more */
#define SPEAK_EVERY MC_SEC /* the standby gives up on a primary that says nothing for long */

static void broken(void *ctx)
{
	vm_ring(ctx, WAKE_DISK);
}

static void pressure(void *ctx)
{
	vm_ring(ctx, WAKE_PRESSURE);
}

/* For a short pause only, so without an error. */
static struct flusher *open_images(struct vm *vm)
{
	struct cmdline_disk disks[CONFIG_DISKS_MAX];
	const char *paths[CONFIG_DISKS_MAX];
	if (disks_locate(vm, false, disks, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < vm->cfg->n_disks; i++)
		paths[i] = disks[i].path;
	return flusher_new(paths, vm->cfg->n_disks);
}

static int describe(struct session *s, struct disk_hello *h, struct mc_error *err)
{
	const struct config_vm *cfg = s->vm->cfg;
	*h = (struct disk_hello){.generation = s->generation, .n_disks = cfg->n_disks};
	if (getrandom(h->seed, sizeof h->seed, 0) != sizeof h->seed)
		return mc_error_set(
			err, -EIO, MC_ECLASS_FAILED, "the kernel gives no random bytes");
	for (size_t i = 0; i < cfg->n_disks; i++) {
		snprintf(h->disks[i].id, sizeof h->disks[i].id, "%s", cfg->disks[i].id);
		int r = guest_disk_size(
			s->vm->guest, cfg->disks[i].id, WAIT_QMP, &h->disks[i].size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int disks_connect(struct session *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct disk_hello hello;
	struct disklink *link;
	char path[400];
	if (!vm->cfg->n_disks)
		return 0;
	vm_run_dir(vm, path, sizeof path - 16);
	strcat(path, "/disks.sock");
	int r = describe(s, &hello, err);
	if (r == 0)
		r = vm->env->ops->connect_disk(
			vm->env->ctx, vm->name, s->peer, transport_is_rdma(s->link), &link, err);
	if (r < 0)
		return r;
	struct mirror_config c = {
		.socket_path = path,
		.hello = &hello,
		.budget = disks_share(vm, vm->max_buffer),
		.stall_after = s->timing.ack_overdue,
		.broken = broken,
		.pressure = pressure,
		.ctx = vm,
	};
	r = mirror_open(&c, link, mc_now() + HELLO_WAIT, &s->disks.mirror, err);
	if (r == 0)
		s->disks.flusher = open_images(vm);
	return r;
}

/* --- the first copy --------------------------------------------------------------------------- */

struct progress {
	uint64_t began, done, total;
	size_t ready;
	uint64_t spoke;
	bool asked; /* an answer of the standby is still to come */
};

static int look(struct session *s, struct progress *p, struct mc_error *err)
{
	const struct config_vm *cfg = s->vm->cfg;
	p->done = p->total = p->ready = 0;
	int r = mirror_error(s->disks.mirror, err);
	for (size_t i = 0; i < cfg->n_disks && r == 0; i++) {
		struct guest_mirror m;
		r = guest_mirror_look(s->vm->guest, cfg->disks[i].id, WAIT_QMP, &m, err);
		if (r < 0)
			break;
		p->done += m.done;
		p->total += m.total;
		p->ready += m.ready;
	}
	return r;
}

static void report(struct session *s, struct vm_call *call, const struct progress *p)
{
	struct mirror_stats st;
	double secs = (double)(mc_now() - p->began) / 1e9;
	double rate = secs > 0 ? (double)p->done / secs : 0;
	mirror_get_stats(s->disks.mirror, &st);
	struct vm_sync_progress y = {
		.sent = st.sent_bytes,
		.percent = p->total ? 100.0 * (double)p->done / (double)p->total : 0,
		.rate_mbs = rate / 1e6,
		.eta_s = rate > 0 ? (double)(p->total - p->done) / rate : 0,
	};
	vm_publish_sync(s->vm, &y);
	vm_publish_mirror(s->vm, &st);
	vm_call_progress(
		call, json_pack("{s:s, s:i, s:f, s:I, s:f, s:f}", "phase", "disks", "round", 0,
			      "percent", y.percent, "sent_bytes", (json_int_t)y.sent, "rate_mbs",
			      y.rate_mbs, "eta_s", y.eta_s));
}

/* An empty round of the synchronisation.  Only one is under way at a time, and none may be when the
 * rounds of the memory begin: its answer would be taken for one of theirs. */
static int speak(struct session *s, struct progress *p, struct mc_error *err)
{
	if (p->asked || mc_now() - p->spoke < SPEAK_EVERY)
		return 0;
	p->asked = true;
	p->spoke = mc_now();
	return peer_tell(s, WIRE_SYNC_END, 0, err);
}

/* Until the deadline: what the standby, the administrator and the world have to say. */
static int attend(struct session *s, struct progress *p, uint64_t deadline, struct mc_error *err)
{
	struct wire_header h;
	int r = peer_recv(s, &h, deadline, err);
	if (r == -ETIMEDOUT && p->asked && mc_now() - p->spoke > ANSWER_WAIT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT, "%s has not answered for %.0f s",
			s->peer, (double)ANSWER_WAIT / 1e9);
	if (r == -ETIMEDOUT)
		return 0;
	if (r == 0 && h.type == WIRE_SYNC_OK && !h.length && p->asked) {
		p->asked = false;
		return 0;
	}
	if (r == 0)
		return peer_unexpected(s, &h, err);
	return r == -EINTR ? session_listen(s, LISTEN_SYNC, err) : r;
}

int disks_sync(struct session *s, struct vm_call *call, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct progress p = {.began = mc_now(), .spoke = mc_now()};
	char path[400];
	int r = 0;
	if (!s->disks.mirror)
		return 0;
	vm_run_dir(vm, path, sizeof path - 16);
	strcat(path, "/disks.sock");
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_SYNCING, "copying disks to %s", s->peer);
	for (size_t i = 0; i < vm->cfg->n_disks && r == 0; i++)
		r = guest_mirror_begin(vm->guest, vm->cfg->disks[i].id, path, WAIT_QMP, err);
	while (r == 0) {
		r = look(s, &p, err);
		if (r == 0)
			report(s, call, &p);
		bool ready = p.ready == vm->cfg->n_disks;
		if (r < 0 || (ready && !p.asked))
			break;
		if (!ready)
			r = speak(s, &p, err);
		if (r == 0)
			r = attend(s, &p, mc_now() + LOOK_EVERY, err);
	}
	if (r < 0 && mirror_error(s->disks.mirror, NULL) < 0)
		peer_their_word(s, MC_SEC, err);
	return r;
}

/* --- each epoch ------------------------------------------------------------------------------- */

void disks_flush(struct session *s)
{
	struct mirror_stats st;
	if (!s->disks.flusher || guest_paused_by_us(s->vm->guest))
		return;
	mirror_get_stats(s->disks.mirror, &st);
	uint64_t began = mc_now();
	if (st.epoch_bytes)
		flusher_run(s->disks.flusher, s->vm->delay / FLUSH_SHARE);
	s->disks.flush_ns = mc_now() - began;
}

static int check_plugged(struct session *s, struct mc_error *err)
{
	struct guest_inventory now;
	char what[400];
	int r = guest_inventory(s->vm->guest, s->timing.command, &now, err);
	if (r < 0 || !guest_inventory_changed(&s->vm->inventory, &now, what, sizeof what))
		return r;
	return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
		"in %s %s: %s has a machine without that change, and could not go on from here; "
		"undo it, or change the VM's file on both hosts and restart the VM",
		s->vm->name, what, s->peer);
}

/* Whether the guest may have flushed in this epoch.  The counter is read after RESUME, so that it
 * costs no pause: what it counts was done in this epoch or just after it, that is, in the next
 * one, whose data it then makes a promise of.  So a change counts for both.  A flush that is
 * counted nowhere else is of this epoch, because PAUSE waits for those under way. */
static bool guest_flushed(struct session *s, uint64_t flushes)
{
	bool changed = flushes != s->disks.flushes, before = s->disks.flushed;
	s->disks.flushes = flushes;
	s->disks.flushed = changed;
	return changed || before;
}

int disks_inspect(struct session *s, struct mc_error *err)
{
	uint64_t flushes;
	int r = check_plugged(s, err);
	if (r < 0 || !s->disks.mirror)
		return r;
	/* That the mirror lives after the epoch means that it lived in all of it. */
	r = session_fails(
		s, END_DISKS, guest_mirror_check(s->vm->guest, s->vm->cfg, s->timing.command, err));
	if (r == 0)
		r = guest_disk_flushes(s->vm->guest, s->timing.command, &flushes, err);
	if (r < 0)
		return r;
	bool flushed = guest_flushed(s, flushes);
	return session_fails(s, END_DISKS, mirror_end(s->disks.mirror, s->e.n, flushed, err));
}

void disks_publish(struct session *s)
{
	struct mirror_stats st;
	if (!s->disks.mirror)
		return;
	mirror_get_stats(s->disks.mirror, &st);
	vm_publish_mirror(s->vm, &st);
}

static int end_jobs(struct vm *vm, struct mc_error *err)
{
	if (!vm->guest || !guest_alive(vm->guest))
		return 0;
	int r = guest_ping(vm->guest, WAIT_QMP, err);
	for (size_t i = 0; i < vm->cfg->n_disks && r == 0; i++)
		r = guest_mirror_end(vm->guest, vm->cfg->disks[i].id, WAIT_QMP, err);
	return r;
}

void disks_drop(struct session *s, bool in_order)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	flusher_free(s->disks.flusher);
	s->disks.flusher = NULL;
	if (!s->disks.mirror)
		return;
	/* QEMU can end its jobs only while the server answers.  With a full queue that waits for
	 * the standby, and a standby that is lost is not waited for: then the server goes first. */
	int r = in_order && mirror_error(s->disks.mirror, NULL) == 0 ? end_jobs(vm, &err) : -EAGAIN;
	mirror_close(s->disks.mirror);
	s->disks.mirror = NULL;
	vm_publish_mirror(vm, NULL);
	if (r < 0)
		r = end_jobs(vm, &err);
	if (r < 0) /* the next guest_mirror_begin tries again */
		log_warn("%s: the mirror of its disks is not cleaned up: %s", vm->name, err.msg);
}
