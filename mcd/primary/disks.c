/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A protected VM's disks on its primary: QEMU mirrors them to us, we stream them to the standby. */
#include "mcd/vm/disks.h"

#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/mirror.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks-private.h"
#include "mcd/primary/protect.h"
#include "mcd/primary/settle.h"
#include "mcd/vm/life.h"
#include "mcd/wire/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define QMP_WAIT    (5 * MC_SEC)
#define HELLO_WAIT  (5 * MC_SEC)
#define LOOK_EVERY  (100 * MC_MSEC)
#define ANSWER_WAIT (10 * MC_SEC)
#define SETTLE_SHARE 4 /* of the delay: as much of it may go by, not more */
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
static struct settle *open_images(struct vm *vm)
{
	struct cmdline_disk disks[CONFIG_DISKS_MAX];
	const char *paths[CONFIG_DISKS_MAX];
	if (disks_locate(vm, false, disks, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < vm->cfg->n_disks; i++)
		paths[i] = disks[i].path;
	return settle_new(paths, vm->cfg->n_disks);
}

static int describe(struct epoch *e, struct disk_hello *h, struct mc_error *err)
{
	const struct config_vm *cfg = e->vm->cfg;
	*h = (struct disk_hello){.generation = e->generation, .n_disks = cfg->n_disks};
	if (getrandom(h->seed, sizeof h->seed, 0) != sizeof h->seed)
		return mc_error_set(
			err, -EIO, MC_ECLASS_FAILED, "the kernel gives no random bytes");
	for (size_t i = 0; i < cfg->n_disks; i++) {
		snprintf(h->disks[i].id, sizeof h->disks[i].id, "%s", cfg->disks[i].id);
		int r = guest_disk_size(
			e->vm->guest, cfg->disks[i].id, QMP_WAIT, &h->disks[i].size, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* By what the checkpoints travel by. */
static int open_link(struct epoch *e, struct disklink **ret, struct mc_error *err)
{
	struct daemon *d = e->vm->d;
	const struct config_host *h = config_find_host(&d->cfg, e->peer);
	enum rd_mode mode = transport_is_rdma(e->link) ? rd_mode_parse(d->cfg.transport) : RD_TCP;
	struct link_peer who;
	struct rd_link link;
	/* The standby agrees on RDMA once it has come to its disks. */
	int r = rd_dial(mode, &disklink_rdma_wants, d->self->address, h->address, h->port, &d->key,
		d->cfg.name, d->instance, LINK_DISK, e->vm->name, e->peer, mc_now() + HELLO_WAIT,
		&who, &link, err);
	if (r < 0)
		return r;
	if (link.rdma)
		log_info("%s: its disks' writes go over RDMA (%s)", e->vm->name,
			rd_device_name(link.rdma));
	else if (link.why[0])
		log_notice("%s: its disks' writes go over TCP, not RDMA: %s", e->vm->name, link.why);
	return disklink_new(&link, ret, err);
}

int disks_connect(struct epoch *e, struct mc_error *err)
{
	struct vm *vm = e->vm;
	struct disk_hello hello;
	struct disklink *link;
	char path[400];
	if (!vm->cfg->n_disks)
		return 0;
	vm_run_dir(vm, path, sizeof path - 16);
	strcat(path, "/disks.sock");
	int r = describe(e, &hello, err);
	if (r == 0)
		r = open_link(e, &link, err);
	if (r < 0)
		return r;
	struct mirror_config c = {
		.socket_path = path,
		.hello = &hello,
		.budget = disks_share(vm, vm->max_buffer),
		.stall_after = e->timing.ack_overdue,
		.broken = broken,
		.pressure = pressure,
		.ctx = vm,
	};
	r = mirror_open(&c, link, mc_now() + HELLO_WAIT, &e->mirror, err);
	if (r == 0)
		e->settle = open_images(vm);
	return r;
}

/* --- the first copy --------------------------------------------------------------------------- */

struct progress {
	uint64_t began, done, total;
	size_t ready;
	uint64_t spoke;
	bool asked; /* an answer of the standby is still to come */
};

static int look(struct epoch *e, struct progress *p, struct mc_error *err)
{
	const struct config_vm *cfg = e->vm->cfg;
	p->done = p->total = p->ready = 0;
	int r = mirror_error(e->mirror, err);
	for (size_t i = 0; i < cfg->n_disks && r == 0; i++) {
		struct guest_mirror m;
		r = guest_mirror_look(e->vm->guest, cfg->disks[i].id, QMP_WAIT, &m, err);
		if (r < 0)
			break;
		p->done += m.done;
		p->total += m.total;
		p->ready += m.ready;
	}
	return r;
}

static void report(struct epoch *e, struct vm_call *call, const struct progress *p)
{
	struct mirror_stats st;
	double secs = (double)(mc_now() - p->began) / 1e9;
	double rate = secs > 0 ? (double)p->done / secs : 0;
	mirror_get_stats(e->mirror, &st);
	struct vm_sync_progress s = {
		.sent = st.sent_bytes,
		.percent = p->total ? 100.0 * (double)p->done / (double)p->total : 0,
		.rate_mbs = rate / 1e6,
		.eta_s = rate > 0 ? (double)(p->total - p->done) / rate : 0,
	};
	pthread_mutex_lock(&e->vm->lock);
	e->vm->pub.sync = s;
	e->vm->pub.mirror = st;
	pthread_mutex_unlock(&e->vm->lock);
	if (call && call->wait)
		control_progress(call->req,
			json_pack("{s:s, s:i, s:f, s:I, s:f, s:f}", "phase", "disks", "round", 0,
				"percent", s.percent, "sent_bytes", (json_int_t)s.sent, "rate_mbs",
				s.rate_mbs, "eta_s", s.eta_s));
}

/* An empty round of the synchronisation.  Only one is under way at a time, and none may be when the
 * rounds of the memory begin: its answer would be taken for one of theirs. */
static int speak(struct epoch *e, struct progress *p, struct mc_error *err)
{
	if (p->asked || mc_now() - p->spoke < SPEAK_EVERY)
		return 0;
	p->asked = true;
	p->spoke = mc_now();
	return protect_tell(e, WIRE_SYNC_END, 0, err);
}

/* Until the deadline: what the standby, the administrator and the world have to say. */
static int attend(struct epoch *e, struct progress *p, uint64_t deadline, struct mc_error *err)
{
	struct wire_header h;
	int r = transport_recv(e->link, &h, deadline, e->vm->wake, err);
	if (r == -ETIMEDOUT && p->asked && mc_now() - p->spoke > ANSWER_WAIT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT, "%s has not answered for %.0f s",
			e->peer, (double)ANSWER_WAIT / 1e9);
	if (r == -ETIMEDOUT)
		return 0;
	if (r == 0 && h.type == WIRE_SYNC_OK && !h.length && p->asked) {
		p->asked = false;
		return 0;
	}
	if (r == 0)
		return protect_unexpected(e, &h, err);
	if (r == -EINTR)
		r = epoch_listen(e, err);
	if (r == 0 && e->urgent) {
		e->urgent = false;
		r = sync_calls(e, err);
	}
	return r;
}

int disks_sync(struct epoch *e, struct vm_call *call, struct mc_error *err)
{
	struct vm *vm = e->vm;
	struct progress p = {.began = mc_now(), .spoke = mc_now()};
	char path[400];
	int r = 0;
	if (!e->mirror)
		return 0;
	vm_run_dir(vm, path, sizeof path - 16);
	strcat(path, "/disks.sock");
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_SYNCING, "copying disks to %s", e->peer);
	for (size_t i = 0; i < vm->cfg->n_disks && r == 0; i++)
		r = guest_mirror_begin(vm->guest, vm->cfg->disks[i].id, path, QMP_WAIT, err);
	while (r == 0) {
		r = look(e, &p, err);
		if (r == 0)
			report(e, call, &p);
		bool ready = p.ready == vm->cfg->n_disks;
		if (r < 0 || (ready && !p.asked))
			break;
		if (!ready)
			r = speak(e, &p, err);
		if (r == 0)
			r = attend(e, &p, mc_now() + LOOK_EVERY, err);
	}
	if (r < 0 && mirror_error(e->mirror, NULL) < 0)
		protect_their_word(e, MC_SEC, err);
	return r;
}

/* --- each epoch ------------------------------------------------------------------------------- */

void disks_settle(struct epoch *e)
{
	struct mirror_stats st;
	if (!e->settle || guest_paused_by_us(e->vm->guest))
		return;
	mirror_get_stats(e->mirror, &st);
	uint64_t began = mc_now();
	if (st.epoch_bytes)
		settle_run(e->settle, e->vm->delay / SETTLE_SHARE);
	e->settle_ns = mc_now() - began;
}

static int check_plugged(struct epoch *e, struct mc_error *err)
{
	uint64_t now;
	int r = guest_inventory(e->vm->guest, e->timing.command, &now, err);
	if (r < 0 || now == e->vm->inventory)
		return r;
	return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
		"a device of %s was plugged or unplugged: %s has a machine without that change, "
		"and could not go on "
		"from here; undo it, or change the VM's file on both hosts and restart the VM",
		e->vm->name, e->peer);
}

int disks_inspect(struct epoch *e, struct mc_error *err)
{
	uint64_t flushes;
	/* After RESUME, so that it costs no pause: what is seen now was done in this epoch or just
	 * after it; either way nothing done in it is missed. */
	int r = check_plugged(e, err);
	if (r < 0 || !e->mirror)
		return r;
	/* That the mirror lives after the epoch means that it lived in all of it. */
	r = guest_mirror_check(e->vm->guest, e->vm->cfg, e->timing.command, err);
	if (r == 0)
		r = guest_disk_flushes(e->vm->guest, e->timing.command, &flushes, err);
	if (r < 0)
		return r;
	bool flushed = flushes != e->flushes;
	e->flushes = flushes;
	return mirror_end(e->mirror, e->n, flushed, err);
}

static int end_jobs(struct vm *vm, struct mc_error *err)
{
	if (!vm->guest || !guest_alive(vm->guest))
		return 0;
	int r = guest_ping(vm->guest, QMP_WAIT, err);
	for (size_t i = 0; i < vm->cfg->n_disks && r == 0; i++)
		r = guest_mirror_end(vm->guest, vm->cfg->disks[i].id, QMP_WAIT, err);
	return r;
}

void disks_drop(struct epoch *e, bool in_order)
{
	struct vm *vm = e->vm;
	struct mc_error err = MC_ERROR_INIT;
	settle_free(e->settle);
	e->settle = NULL;
	if (!e->mirror)
		return;
	/* QEMU can end its jobs only while the server answers, which waits for the standby when the queue is
	 * full; of a standby that is lost nobody waits. */
	int r = in_order && mirror_error(e->mirror, NULL) == 0 ? end_jobs(vm, &err) : -EAGAIN;
	mirror_close(e->mirror);
	e->mirror = NULL;
	pthread_mutex_lock(&vm->lock);
	memset(&vm->pub.mirror, 0, sizeof vm->pub.mirror);
	pthread_mutex_unlock(&vm->lock);
	if (r < 0)
		r = end_jobs(vm, &err);
	if (r < 0) /* the next guest_mirror_begin tries again */
		log_warn("%s: the mirror of its disks is not cleaned up: %s", vm->name, err.msg);
}
