/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/primary/rig.h"

#include "common/clock.h"
#include "mcd/primary/protect.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/make.h"
#include "mcd/vm/owner.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIMIT 20 /* seconds that a test may take */

/* --- what happens is written down ------------------------------------------------------------- */

void rig_note(struct rig *r, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	pthread_mutex_lock(&r->lock);
	assert(r->n_notes < RIG_NOTES);
	vsnprintf(r->notes[r->n_notes++], RIG_NOTE, fmt, ap);
	pthread_mutex_unlock(&r->lock);
	va_end(ap);
}

/* With the lock. */
static void breach(struct rig *r, const char *fmt, va_list ap)
{
	if (!r->breach[0])
		vsnprintf(r->breach, sizeof r->breach, fmt, ap);
}

void rig_breach(struct rig *r, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	pthread_mutex_lock(&r->lock);
	breach(r, fmt, ap);
	pthread_mutex_unlock(&r->lock);
	va_end(ap);
}

static void breach_locked(struct rig *r, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	breach(r, fmt, ap);
	va_end(ap);
}

/* From there on; with the lock. */
static int find(struct rig *r, const char *note, size_t from)
{
	for (size_t i = from; i < r->n_notes; i++)
		if (!strcmp(r->notes[i], note))
			return (int)i;
	return -1;
}

int rig_index(struct rig *r, const char *note)
{
	return rig_index_after(r, note, NULL);
}

int rig_index_after(struct rig *r, const char *note, const char *after)
{
	pthread_mutex_lock(&r->lock);
	int from = after ? find(r, after, 0) : 0;
	int at = from < 0 ? -1 : find(r, note, (size_t)from);
	pthread_mutex_unlock(&r->lock);
	return at;
}

unsigned rig_count(struct rig *r, const char *note)
{
	unsigned n = 0;
	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < r->n_notes; i++)
		n += !strcmp(r->notes[i], note);
	pthread_mutex_unlock(&r->lock);
	return n;
}

void rig_print(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	for (size_t i = r->n_notes > 60 ? r->n_notes - 60 : 0; i < r->n_notes; i++)
		print_message("    %s\n", r->notes[i]);
	pthread_mutex_unlock(&r->lock);
}

void rig_order(struct rig *r, ...)
{
	va_list ap;
	const char *last = "the beginning";
	int at = -1;
	va_start(ap, r);
	const char *note;
	for (; (note = va_arg(ap, const char *)); last = note) {
		int i = rig_index(r, note);
		if (i <= at)
			break;
		at = i;
	}
	va_end(ap);
	if (!note)
		return;
	rig_print(r);
	fail_msg("'%s' is not after '%s'", note, last);
}

/* --- what leaves the host is judged ----------------------------------------------------------- */

/* hostA may show the VM without an acknowledgement: by the record before the protection, until the
 * hold began, or by a newer one. */
static bool is_alone(struct rig *r)
{
	struct own_record d = world_decided(r->w);
	return !strcmp(d.owner, "hostA") && !d.standby[0] && (!r->held || d.generation > r->g0);
}

static bool is_named(struct rig *r)
{
	struct own_record d = world_decided(r->w);
	return !strcmp(d.owner, "hostA") && !strcmp(d.standby, "hostB") &&
	       d.generation == r->g0 + 1;
}

static void out(void *ctx, uint64_t epoch, const void *frame, size_t len)
{
	struct rig *r = ctx;
	uint64_t count;
	assert(len == sizeof count);
	memcpy(&count, frame, sizeof count);
	pthread_mutex_lock(&r->lock);
	if (count <= r->out)
		breach_locked(r, "frame %" PRIu64 " came out after %" PRIu64, count, r->out);
	r->out = count;
	if (!is_alone(r) && !is_named(r))
		breach_locked(r, "frame %" PRIu64 " came out under a record that does not allow it",
			count);
	else if (!is_alone(r) && count > r->acked)
		breach_locked(r,
			"frame %" PRIu64 " of epoch %" PRIu64 " came out, acknowledged is %" PRIu64,
			count, epoch, r->acked);
	pthread_mutex_unlock(&r->lock);
}

static void network(void *ctx, enum netbuf_fake_op op, uint64_t epoch)
{
	struct rig *r = ctx;
	const char *name = netbuf_fake_op_name(op);
	if (epoch)
		rig_note(r, "%s %" PRIu64, name, epoch);
	else
		rig_note(r, "%s", name);
	if (op == NETBUF_FAKE_HOLD) {
		pthread_mutex_lock(&r->lock);
		r->held = true;
		r->acked = r->out; /* what came out before is of no epoch */
		pthread_mutex_unlock(&r->lock);
	}
	if (r->at_network)
		r->at_network(r, op, epoch);
}

void rig_judge(struct rig *r)
{
	if (r->breach[0]) {
		rig_print(r);
		fail_msg("%s", r->breach);
	}
}

/* --- the guest -------------------------------------------------------------------------------- */

void rig_say(struct rig *r)
{
	struct netbuf *nb = netbuf_fake_find("vm1"); /* another one, after mcd has come back */
	if (!nb)
		return;
	pthread_mutex_lock(&r->talk);
	pthread_mutex_lock(&r->lock);
	uint64_t count = ++r->said;
	pthread_mutex_unlock(&r->lock);
	fake_guest_write(r->guest, 0, FAR_COUNT_AT, &count, sizeof count);
	netbuf_fake_send(nb, 0, &count, sizeof count);
	pthread_mutex_unlock(&r->talk);
}

static void asked(void *ctx, struct guest *g, enum fake_guest_op op)
{
	struct rig *r = ctx;
	if (op != FAKE_GUEST_PING && op != FAKE_GUEST_PEEK)
		rig_note(r, "guest %s", fake_guest_op_name(op));
	/* The last word before it is stopped, and the first after; and some in between. */
	bool moment = op == FAKE_GUEST_PAUSE || op == FAKE_GUEST_STOOD_STILL ||
		      op == FAKE_GUEST_INVENTORY;
	if (moment && !r->quiet && fake_guest_runs(g))
		rig_say(r);
	if (r->at_guest)
		r->at_guest(r, op);
}

/* --- votes ------------------------------------------------------------------------------------ */

static void proposed(void *ctx, const struct own_record *next)
{
	struct rig *r = ctx;
	rig_note(r, "vote +%" PRIu64 " {%s, %s}", next->generation - r->g0,
		next->owner[0] ? next->owner : "none", next->standby[0] ? next->standby : "none");
	if (r->at_vote)
		r->at_vote(r, next);
	vm_ring(r->vm, WAKE_SUSPECT); /* whoever rests after it looks again at once */
}

bool rig_wait(struct rig *r, const char *note)
{
	struct timespec ms = {0, 1000000};
	for (int i = 0; i < 1000 && rig_index(r, note) < 0; i++)
		nanosleep(&ms, NULL);
	return rig_index(r, note) >= 0;
}

void rig_settle(struct rig *r)
{
	struct transport_stats st;
	transport_get_stats(r->near, &st);
	for (int i = 0; i < 1000 && r->far.taken < st.sent_messages; i++)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
}

void rig_expect_held(struct rig *r)
{
	if (fake_guest_runs(r->guest))
		rig_breach(r, "the guest runs before it is decided");
	if (rig_index(r, "pass") >= 0)
		rig_breach(r, "the network is open before it is decided");
	if (r->out > r->acked)
		rig_breach(r, "more is out than was acknowledged");
}

void rig_stick(struct rig *r, unsigned n)
{
	world_votes(r->w, WORLD_STUCK, n);
}

void rig_verb(struct rig *r, int verb, bool force)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert(c);
	c->verb = (enum vm_verb)verb;
	c->force = force;
	vm_call(r->vm, c);
}

/* --- making one ------------------------------------------------------------------------------- */

static void *nobody(void *vm)
{
	return NULL;
}

static void start(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	if (vm_new(world_env(r->w), "vm1", nobody, &r->vm, &err) < 0 ||
		vm_prepare(r->vm, &err) < 0 || vm_launch(r->vm, false, MC_SEC, &err) < 0)
		fail_msg("%s", err.msg);
	r->guest = fake_guest_find("vm1");
	r->nb = netbuf_fake_find("vm1");
	fake_guest_hook(r->guest, asked, r);
	r->vm->shut_in = true;
	vm_open(r->vm);
	vm_set_state(r->vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "started");
	r->n_notes = 0;
}

static void add_vm(struct rig *r, const struct rig_options *o)
{
	char path[500], text[2000], lines[600] = "", image[500];
	world_path(r->w, "disk0.img", image, sizeof image);
	if (o->disk) {
		snprintf(lines, sizeof lines, "[disk disk0]\nimage = %s\n", image);
		FILE *f = fopen(image, "w");
		assert(f && ftruncate(fileno(f), RIG_DISK) == 0);
		fclose(f);
	}
	world_add_vm(r->w, "vm1", lines);
	if (!o->memory)
		return;
	snprintf(path, sizeof path, "%s/vm1.conf", world_config(r->w)->vms_dir);
	FILE *f = fopen(path, "r+");
	assert(f);
	size_t n = fread(text, 1, sizeof text - 1, f);
	text[n] = 0;
	char *at = strstr(text, "-m 8M");
	assert(at);
	rewind(f);
	fprintf(f, "%.*s-m %s%s", (int)(at - text), text, o->memory, at + strlen("-m 8M"));
	fclose(f);
}

struct rig *rig_new(const struct rig_options *o)
{
	static const struct rig_options none;
	struct rig *r = calloc(1, sizeof *r);
	assert(r);
	o = o ? o : &none;
	alarm(LIMIT);
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->talk, NULL);
	r->w = world_new("hostA");
	world_config(r->w)->delay = 2 * MC_MSEC;
	if (o->change)
		o->change(world_config(r->w));
	add_vm(r, o);
	struct own_record rec = world_record(7, "hostA", "");
	r->g0 = rec.generation;
	world_decide(r->w, &rec);
	world_know(r->w, &rec);
	world_on_propose(r->w, proposed, r);
	netbuf_fake_watch(&(struct netbuf_fake_watcher){.op = network, .out = out, .ctx = r});
	if (!o->no_vm)
		start(r);
	return r;
}

void rig_adopt(struct rig *r)
{
	r->guest = fake_guest_find("vm1");
	r->nb = netbuf_fake_find("vm1");
	assert(r->guest && r->nb);
	fake_guest_hook(r->guest, asked, r);
	pthread_mutex_lock(&r->lock);
	if (!r->held)
		r->g0 = world_decided(r->w).generation;
	pthread_mutex_unlock(&r->lock);
}

void rig_free(struct rig *r)
{
	far_join(r);
	if (r->vm)
		vm_teardown(r->vm);
	vm_free(r->vm);
	fake_guests_clear();
	netbuf_fake_watch(NULL);
	world_free(r->w);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->talk);
	free(r);
	alarm(0);
}

int rig_setup(void **state)
{
	*state = rig_new(NULL);
	return 0;
}

int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* --- running it ------------------------------------------------------------------------------- */

void rig_give_stream(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	bool theirs = r->far_posts;
	if (transport_fake_pair(&r->plan, theirs ? &r->far.t : &r->near,
		    theirs ? &r->near : &r->far.t, &err) < 0)
		fail_msg("%s", err.msg);
	world_give_stream(r->w, r->near);
	far_start(r);
}

void rig_protect(struct rig *r)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert(c);
	rig_give_stream(r);
	c->verb = VM_PROTECT;
	c->wait = true;
	snprintf(c->peer, sizeof c->peer, "hostB");
	protect_run(r->vm, c);
	if (r->far.running) /* its end is closed by now */
		pthread_join(r->far.thread, NULL);
	r->far.running = false;
	rig_judge(r);
}

void rig_again(struct rig *r)
{
	far_join(r);
	r->far = (struct far){0};
	r->g0 = world_decided(r->w).generation;
	r->n_notes = 0;
	r->held = false;
	r->acked = 0;
}

void rig_expect_alone(struct rig *r)
{
	struct own_record d = world_decided(r->w);
	rig_judge(r);
	if (vm_get_state(r->vm) != VM_UNPROTECTED || strcmp(d.owner, "hostA") || d.standby[0]) {
		rig_print(r);
		fail_msg("it is %s, under {%s, %s}", vm_state_name(vm_get_state(r->vm)), d.owner,
			d.standby);
	}
	assert_ptr_equal(r->vm->guest, r->guest);
	assert_true(fake_guest_runs(r->guest));
	rig_say(r);
	rig_judge(r);
	assert_int_equal(r->out, r->said);
}

void rig_expect_gone(struct rig *r)
{
	rig_judge(r);
	assert_null(r->vm->guest);
	assert_true(fake_guest_is_free(r->guest));
	assert_false(guest_alive(r->guest));
	assert_null(netbuf_fake_find("vm1"));
}

void rig_expect_decided(struct rig *r, uint64_t after_g0, const char *owner, const char *standby)
{
	struct own_record d = world_decided(r->w);
	assert_string_equal(d.owner, owner);
	assert_string_equal(d.standby, standby);
	assert_int_equal(d.generation, r->g0 + after_g0);
}

void rig_expect_end(struct rig *r, const char *why)
{
	char buf[64];
	assert_string_equal(world_event(r->w, "PROTECTION_ENDED", "why", buf, sizeof buf), why);
}
