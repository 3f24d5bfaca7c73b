/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fakes/world.h"

#include "common/clock.h"
#include "tests/fakes/fake-guest.h"

#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROPOSALS_MAX 256

struct world {
	struct vm_env env;
	struct config cfg;
	char dir[200];
	pthread_mutex_t lock;
	enum world_vote how;
	unsigned n_how;
	void (*on_propose)(void *ctx, const struct own_record *next);
	void *ctx;
	struct own_record decided, known;
	struct own_record proposals[PROPOSALS_MAX];
	size_t n_proposals;
	bool suspected[3], others_hear, quorate;
	size_t connected;
	struct transport *stream;
	struct disklink *disk;
	json_t *events;
};

static const char *const hosts[] = {"hostA", "hostB", "hostC"};

struct own_record world_record(uint64_t generation, const char *owner, const char *standby)
{
	struct own_record r = {.generation = generation};
	snprintf(r.owner, sizeof r.owner, "%s", owner);
	snprintf(r.standby, sizeof r.standby, "%s", standby);
	return r;
}

static size_t index_of(const char *host)
{
	for (size_t i = 0; i < 3; i++)
		if (!strcmp(hosts[i], host))
			return i;
	assert(!"a host of this world");
	return 0;
}

/* --- what a VM asks --------------------------------------------------------------------------- */

static void known(void *ctx, const char *vm, struct own_record *ret)
{
	struct world *w = ctx;
	*ret = w->known;
}

static int current(
	void *ctx, const char *vm, uint64_t deadline, struct own_record *ret, struct mc_error *err)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	bool answers = w->connected > 1;
	struct own_record r = w->decided;
	pthread_mutex_unlock(&w->lock);
	if (!answers)
		return mc_error_set(
			err, -ENOLINK, MC_ECLASS_NO_MAJORITY, "no majority in this world");
	*ret = r;
	return 0;
}

static int propose(void *ctx, const char *vm, const struct own_record *next, uint64_t deadline,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct world *w = ctx;
	if (w->on_propose)
		w->on_propose(w->ctx, next);
	pthread_mutex_lock(&w->lock);
	assert(w->n_proposals < PROPOSALS_MAX);
	w->proposals[w->n_proposals++] = *next;
	int r = 0;
	enum world_vote how = w->n_how ? w->how : WORLD_WINS;
	w->n_how -= w->n_how > 0;
	if (next->generation <= w->decided.generation) {
		r = mc_error_set(
			err, -ESTALE, MC_ECLASS_NOT_OWNER, "decided already in this world");
		*ret_decided = w->decided;
	} else {
		if (how != WORLD_STUCK)
			w->decided = *next;
		if (how == WORLD_WINS)
			*ret_decided = *next;
		else
			r = mc_error_set(
				err, -ENOLINK, MC_ECLASS_NO_MAJORITY, "no majority in this world");
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int force(void *ctx, const char *vm, const struct own_record *next,
	struct own_record *ret_decided, struct mc_error *err)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	w->decided = *next;
	pthread_mutex_unlock(&w->lock);
	*ret_decided = *next;
	return 0;
}

static void reachable(void *ctx, size_t *ret_connected, size_t *ret_total)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	*ret_connected = w->connected;
	*ret_total = 3;
	pthread_mutex_unlock(&w->lock);
}

static uint64_t ask_heard(void *ctx, const char *host, uint64_t deadline)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	uint64_t age = w->others_hear ? MC_MSEC : UINT64_MAX;
	pthread_mutex_unlock(&w->lock);
	return age;
}

static bool suspected(void *ctx, const char *host)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	bool yes = w->suspected[index_of(host)];
	pthread_mutex_unlock(&w->lock);
	return yes;
}

static uint64_t heard_age(void *ctx, const char *host)
{
	return suspected(ctx, host) ? MC_SEC : MC_MSEC;
}

static bool quorate(void *ctx)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	bool yes = w->quorate;
	pthread_mutex_unlock(&w->lock);
	return yes;
}

static void changed(void *ctx)
{
}

static void emit(void *ctx, const char *event, json_t *data)
{
	struct world *w = ctx;
	pthread_mutex_lock(&w->lock);
	json_object_set_new(data, "event", json_string(event));
	json_array_append_new(w->events, data);
	pthread_mutex_unlock(&w->lock);
}

static int give(struct world *w, struct vm_stream *ret, struct mc_error *err)
{
	pthread_mutex_lock(&w->lock);
	struct vm_stream s = {.link = w->stream};
	w->stream = NULL;
	pthread_mutex_unlock(&w->lock);
	if (!s.link)
		return mc_error_set(
			err, -ECONNREFUSED, MC_ECLASS_UNREACHABLE, "no stream in this world");
	*ret = s;
	return 0;
}

static int connect_to(void *ctx, const char *vm, const char *host, uint64_t buffer,
	struct vm_stream *ret, struct mc_error *err)
{
	return give(ctx, ret, err);
}

static int welcome(void *ctx, int fd, const struct link_peer *peer, struct vm_stream *ret,
	struct mc_error *err)
{
	if (fd >= 0)
		close(fd);
	return give(ctx, ret, err);
}

static int give_disk(struct world *w, struct disklink **ret, struct mc_error *err)
{
	pthread_mutex_lock(&w->lock);
	struct disklink *l = w->disk;
	w->disk = NULL;
	pthread_mutex_unlock(&w->lock);
	if (!l)
		return mc_error_set(
			err, -ECONNREFUSED, MC_ECLASS_UNREACHABLE, "no disk stream in this world");
	*ret = l;
	return 0;
}

static int connect_disk(void *ctx, const char *vm, const char *host, bool rdma,
	struct disklink **ret, struct mc_error *err)
{
	return give_disk(ctx, ret, err);
}

static int welcome_disk(void *ctx, int fd, const struct link_peer *peer, struct disklink **ret,
	struct mc_error *err)
{
	if (fd >= 0)
		close(fd);
	return give_disk(ctx, ret, err);
}

static const struct vm_env_ops ops = {
	.known = known,
	.current = current,
	.propose = propose,
	.force = force,
	.reachable = reachable,
	.ask_heard = ask_heard,
	.suspected = suspected,
	.heard_age = heard_age,
	.quorate = quorate,
	.changed = changed,
	.emit = emit,
	.connect = connect_to,
	.welcome = welcome,
	.connect_disk = connect_disk,
	.welcome_disk = welcome_disk,
};

/* --- making one ------------------------------------------------------------------------------- */

const char *world_path(struct world *w, const char *leaf, char *buf, size_t size)
{
	snprintf(buf, size, "%s/%s", w->dir, leaf);
	return buf;
}

static void make_config(struct world *w, const char *self)
{
	struct config *c = &w->cfg;
	snprintf(c->path, sizeof c->path, "%.190s/mcd.conf", w->dir);
	snprintf(c->name, sizeof c->name, "%s", self);
	snprintf(c->run_dir, sizeof c->run_dir, "%.190s/run", w->dir);
	snprintf(c->state_dir, sizeof c->state_dir, "%.190s/state", w->dir);
	snprintf(c->vms_dir, sizeof c->vms_dir, "%.190s/vms.d", w->dir);
	c->keepalive_interval = 50 * MC_MSEC;
	c->keepalive_misses = 5;
	c->failover_automatic = c->reprotect_auto = true;
	c->delay = 10 * MC_MSEC;
	c->max_buffer = 32u << 20;
	c->hold_limit = 1u << 20;
	c->n_hosts = 3;
	for (size_t i = 0; i < 3; i++) {
		snprintf(c->hosts[i].name, sizeof c->hosts[i].name, "%s", hosts[i]);
		snprintf(c->hosts[i].address, sizeof c->hosts[i].address, "127.0.0.%zu", i + 1);
	}
	mkdir(c->run_dir, 0700);
	mkdir(c->state_dir, 0700);
	mkdir(c->vms_dir, 0700);
}

struct world *world_new(const char *self)
{
	struct world *w = calloc(1, sizeof *w);
	const char *tmp = getenv("TMPDIR");
	assert(w);
	snprintf(w->dir, sizeof w->dir, "%.150s/mcd-world-XXXXXX", tmp ? tmp : "/tmp");
	char *made = mkdtemp(w->dir);
	assert(made);
	(void)made;
	make_config(w, self);
	pthread_mutex_init(&w->lock, NULL);
	w->quorate = true;
	w->connected = 3;
	w->events = json_array();
	w->env = (struct vm_env){.ops = &ops,
		.ctx = w,
		.cfg = &w->cfg,
		.netbuf = "fake",
		.guests = fake_guests_source()};
	return w;
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
	return remove(path);
}

void world_free(struct world *w)
{
	transport_close(w->stream);
	json_decref(w->events);
	nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

const struct vm_env *world_env(const struct world *w)
{
	return &w->env;
}

struct config *world_config(struct world *w)
{
	return &w->cfg;
}

void world_add_vm(struct world *w, const char *name, const char *more)
{
	char path[500], run[500];
	snprintf(path, sizeof path, "%s/%s.conf", w->cfg.vms_dir, name);
	snprintf(run, sizeof run, "%s/%s", w->cfg.run_dir, name);
	mkdir(run, 0700); /* a real guest makes it when it is launched */
	FILE *f = fopen(path, "w");
	assert(f);
	fprintf(f,
		"[vm]\ncommand = qemu-system-x86_64 -M pc,accel=tcg -m 8M -display none -vga none "
		"-nodefaults -netdev tap,id=net0 -device virtio-net-pci,netdev=net0\n\n[nic "
		"net0]\nbridge = br0\n\n%s",
		more ? more : "");
	fclose(f);
}

/* --- what the test says ----------------------------------------------------------------------- */

void world_votes(struct world *w, enum world_vote how, unsigned n)
{
	pthread_mutex_lock(&w->lock);
	w->how = how;
	w->n_how = n;
	pthread_mutex_unlock(&w->lock);
}

void world_on_propose(
	struct world *w, void (*fn)(void *ctx, const struct own_record *next), void *ctx)
{
	w->on_propose = fn;
	w->ctx = ctx;
}

void world_decide(struct world *w, const struct own_record *rec)
{
	pthread_mutex_lock(&w->lock);
	assert(rec->generation >= w->decided.generation);
	w->decided = *rec;
	pthread_mutex_unlock(&w->lock);
}

struct own_record world_decided(struct world *w)
{
	pthread_mutex_lock(&w->lock);
	struct own_record r = w->decided;
	pthread_mutex_unlock(&w->lock);
	return r;
}

void world_know(struct world *w, const struct own_record *rec)
{
	w->known = *rec;
}

size_t world_proposals(struct world *w, struct own_record *ret, size_t max)
{
	pthread_mutex_lock(&w->lock);
	size_t n = w->n_proposals;
	memcpy(ret, w->proposals, (n < max ? n : max) * sizeof *ret);
	pthread_mutex_unlock(&w->lock);
	return n;
}

void world_suspect(struct world *w, const char *host, bool yes)
{
	pthread_mutex_lock(&w->lock);
	w->suspected[index_of(host)] = yes;
	pthread_mutex_unlock(&w->lock);
}

void world_others_hear(struct world *w, bool yes)
{
	pthread_mutex_lock(&w->lock);
	w->others_hear = yes;
	pthread_mutex_unlock(&w->lock);
}

void world_set_quorate(struct world *w, bool yes)
{
	pthread_mutex_lock(&w->lock);
	w->quorate = yes;
	pthread_mutex_unlock(&w->lock);
}

void world_set_reachable(struct world *w, size_t connected)
{
	pthread_mutex_lock(&w->lock);
	w->connected = connected;
	pthread_mutex_unlock(&w->lock);
}

void world_give_stream(struct world *w, struct transport *t)
{
	pthread_mutex_lock(&w->lock);
	w->stream = t;
	pthread_mutex_unlock(&w->lock);
}

void world_give_disk(struct world *w, struct disklink *l)
{
	pthread_mutex_lock(&w->lock);
	w->disk = l;
	pthread_mutex_unlock(&w->lock);
}

unsigned world_emitted(struct world *w, const char *event)
{
	unsigned n = 0;
	size_t i;
	json_t *e;
	pthread_mutex_lock(&w->lock);
	json_array_foreach(w->events, i, e)
		n += !strcmp(json_string_value(json_object_get(e, "event")), event);
	pthread_mutex_unlock(&w->lock);
	return n;
}

const char *world_event(
	struct world *w, const char *event, const char *member, char *buf, size_t size)
{
	size_t i;
	json_t *e;
	*buf = 0;
	pthread_mutex_lock(&w->lock);
	json_array_foreach(w->events, i, e)
		if (!strcmp(json_string_value(json_object_get(e, "event")), event)) {
			const char *text = json_string_value(json_object_get(e, member));
			snprintf(buf, size, "%s", text ? text : "");
		}
	pthread_mutex_unlock(&w->lock);
	return buf;
}
