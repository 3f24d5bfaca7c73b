/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's side of the rig: its thread, its surroundings, and what is to be seen of it. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/machine.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/takeover-file.h"

#include <assert.h>
#include <time.h>

static void *body(void *arg)
{
	struct vm *vm = arg;
	struct rig *r = (struct rig *)vm->env;
	pthread_mutex_lock(&r->lock);
	while (!r->ends || r->job) {
		if (!r->job) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		void (*job)(struct rig * r) = r->job;
		pthread_mutex_unlock(&r->lock);
		job(r);
		pthread_mutex_lock(&r->lock);
		r->job = NULL;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	vm_teardown(vm);
	return NULL;
}

bool rig_kept(struct rig *r, uint64_t *ret_generation)
{
	struct takeover_state t = {0};
	char dir[300];
	vm_run_dir(r->vm, dir, sizeof dir);
	if (takeover_file_load(dir, &t, NULL) < 0)
		return false;
	if (ret_generation)
		*ret_generation = t.generation;
	free(t.devices);
	return true;
}

/* By the VM's thread. */
static void on_propose(void *ctx, const struct own_record *next)
{
	struct rig *r = ctx;
	assert(r->n_votes < RIG_VOTES);
	struct rig_vote *v = &r->votes[r->n_votes];
	struct guest *g = fake_guest_find("vm1");
	struct netbuf *nb = netbuf_fake_find("vm1");
	size_t len;
	v->asked = *next;
	v->activated = g && fake_guest_activated(g, &len);
	v->runs = g && fake_guest_runs(g);
	v->visible = nb && netbuf_fake_calls(nb, NETBUF_FAKE_PASS);
	v->kept = rig_kept(r, NULL);
	if (r->far) {
		uint8_t buf[64];
		struct wire_commit c = far_sum(r);
		pthread_mutex_lock(&r->lock);
		struct wire_header h = {
			.type = WIRE_COMMIT, .generation = RIG_GENERATION, .epoch = r->now.epoch};
		pthread_mutex_unlock(&r->lock);
		h.length = wire_put_commit(buf, sizeof buf, &c);
		h.digest = XXH3_64bits(buf, h.length);
		v->acknowledged = transport_post(r->far, &h, buf, NULL);
	}
	r->n_votes++;
	if (r->at_vote)
		r->at_vote(r, r->n_votes);
}

static struct rig *the_rig; /* the VM's surroundings know the world only */

static void changed(void *ctx)
{
	pthread_mutex_lock(&the_rig->lock);
	pthread_cond_broadcast(&the_rig->changed);
	pthread_mutex_unlock(&the_rig->lock);
}

int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof *r);
	pthread_condattr_t attr;
	assert_non_null(r);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&r->lock, NULL);
	r->w = world_new("hostB");
	struct config *c = world_config(r->w);
	c->keepalive_interval = 10 * MC_MSEC;
	c->keepalive_misses = 3;
	c->delay = 2 * MC_MSEC;
	r->env = *world_env(r->w);
	r->ops = *r->env.ops;
	r->ops.changed = changed;
	r->env.ops = &r->ops;
	the_rig = r;
	r->max_buffer = 32u << 20;
	r->now.ram = calloc(1, RIG_RAM);
	r->image.ram = calloc(1, RIG_RAM);
	r->slab.mem = malloc(SLAB_SIZE);
	assert_true(r->now.ram && r->image.ram && r->slab.mem);
	struct own_record first = world_record(RIG_GENERATION - 1, "hostA", "");
	world_decide(r->w, &first);
	world_know(r->w, &first);
	world_on_propose(r->w, on_propose, r);
	*state = r;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *r = *state;
	far_close(r);
	if (r->vm) {
		vm_ring(r->vm, WAKE_QUIT);
		pthread_mutex_lock(&r->lock);
		r->ends = true;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->lock);
		vm_free(r->vm);
	}
	fake_guests_clear();
	world_free(r->w);
	free(r->now.ram);
	free(r->image.ram);
	free(r->slab.mem);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return 0;
}

/* --- the VM's thread -------------------------------------------------------------------------- */

void rig_make(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	world_add_vm(r->w, "vm1", r->more);
	if (vm_new(&r->env, "vm1", body, &r->vm, &err) < 0)
		fail_msg("%s", err.msg);
}

void rig_run(struct rig *r, void (*job)(struct rig *r))
{
	pthread_mutex_lock(&r->lock);
	assert_null(r->job);
	r->job = job;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void standby(struct rig *r)
{
	struct link_peer peer = {.name = "hostA", .subject = "vm1", .purpose = LINK_DATA};
	standby_run(r->vm, -1, &peer);
}

static int recv_and_count(struct transport *t, struct wire_header *ret, uint64_t deadline,
	int wake_fd, struct mc_error *err)
{
	struct rig *r = the_rig;
	pthread_mutex_lock(&r->lock);
	r->finished = r->received; /* who asks for the next is through with those before */
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	int e = r->near_recv(t, ret, deadline, wake_fd, err);
	pthread_mutex_lock(&r->lock);
	r->received += e == 0;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return e;
}

void rig_begin(struct rig *r)
{
	struct mc_error err = MC_ERROR_INIT;
	if (!r->vm)
		rig_make(r);
	if (transport_fake_pair(&r->plan, &r->far, &r->near, &err) < 0)
		fail_msg("%s", err.msg);
	r->near_ops = *r->near->ops;
	r->near_recv = r->near_ops.recv;
	r->near_ops.recv = recv_and_count;
	r->near->ops = &r->near_ops;
	world_give_stream(r->w, r->near);
	rig_run(r, standby);
}

bool rig_over(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	bool over = !r->job;
	pthread_mutex_unlock(&r->lock);
	return over;
}

/* Until done says so; false: not in time. */
static bool await(struct rig *r, bool (*done)(struct rig *r, int what), int what)
{
	uint64_t until = mc_now() + RIG_WAIT;
	struct timespec ts = {(time_t)(until / MC_SEC), (long)(until % MC_SEC)};
	int e = 0;
	pthread_mutex_lock(&r->lock);
	while (!done(r, what) && !e)
		e = pthread_cond_timedwait(&r->changed, &r->lock, &ts);
	bool is = done(r, what);
	pthread_mutex_unlock(&r->lock);
	return is;
}

static bool over(struct rig *r, int what)
{
	return !r->job;
}

static bool is_in_state(struct rig *r, int what)
{
	return (int)vm_get_state(r->vm) == what;
}

static bool has_taken(struct rig *r, int what)
{
	return r->received >= r->sent;
}

static bool has_finished(struct rig *r, int what)
{
	return r->finished >= r->sent;
}

void far_taken(struct rig *r)
{
	if (!await(r, has_taken, 0))
		fail_msg("the standby does not read");
}

void far_settled(struct rig *r)
{
	if (!await(r, has_finished, 0))
		fail_msg("the standby does not finish");
}

void rig_join(struct rig *r)
{
	if (!await(r, over, 0))
		fail_msg(
			"the standby's life goes on: it is %s", vm_state_name(vm_get_state(r->vm)));
}

void rig_await(struct rig *r, enum vm_state state)
{
	if (!await(r, is_in_state, (int)state))
		fail_msg("it is %s", vm_state_name(vm_get_state(r->vm)));
}

static bool has_alarm(struct rig *r, int what)
{
	return world_emitted(r->w, "ALARM") > 0;
}

void rig_await_alarm(struct rig *r)
{
	if (!await(r, has_alarm, 0))
		fail_msg("there is no alarm");
}

void rig_call(struct rig *r, enum vm_verb verb, bool force)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert_non_null(c);
	c->verb = verb;
	c->force = force;
	vm_call(r->vm, c);
}

/* --- what is to be seen ----------------------------------------------------------------------- */

void rig_copy(struct rig_image *to, const struct rig_image *from)
{
	uint8_t *ram = to->ram;
	memcpy(ram, from->ram, RIG_RAM);
	*to = *from;
	to->ram = ram;
}

void expect_runs_after_all(struct rig *r, const struct rig_image *image)
{
	size_t len;
	rig_join(r);
	assert_string_equal(vm_state_name(vm_get_state(r->vm)), "unprotected");
	assert_true(r->vm->guest && guest_alive(r->vm->guest));
	struct guest *g = fake_guest_find("vm1");
	assert_ptr_equal(g, r->vm->guest);
	assert_memory_equal(fake_guest_ram(g, 0, NULL), image->ram, RIG_RAM);
	const uint8_t *devices = fake_guest_activated(g, &len);
	assert_non_null(devices);
	assert_int_equal(len, strlen(image->devices));
	assert_memory_equal(devices, image->devices, len);
	assert_int_equal(fake_guest_runs(g), image->guest == WIRE_GUEST_RUNS);
	assert_true(netbuf_fake_calls(netbuf_fake_find("vm1"), NETBUF_FAKE_PASS) > 0);
	assert_false(rig_kept(r, NULL));
}

void expect_runs(struct rig *r, const struct rig_image *image)
{
	expect_runs_after_all(r, image);
	struct netbuf *nb = netbuf_fake_find("vm1");
	assert_int_equal(netbuf_fake_calls(nb, NETBUF_FAKE_PASS), 1);
	assert_int_equal(netbuf_fake_calls(nb, NETBUF_FAKE_ANNOUNCE), 1);
}

void expect_gone(struct rig *r)
{
	size_t len;
	rig_join(r);
	assert_string_equal(vm_state_name(vm_get_state(r->vm)), "stopped");
	assert_null(r->vm->guest);
	struct guest *g = fake_guest_find("vm1");
	if (g) { /* it never ran, and does not now */
		assert_true(fake_guest_is_free(g));
		assert_null(fake_guest_activated(g, &len));
		assert_false(fake_guest_runs(g));
	}
	assert_null(netbuf_fake_find("vm1"));
	assert_false(rig_kept(r, NULL));
}
