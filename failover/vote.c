/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The voter: its life, our own acceptor with its disk, and the answers to other hosts.
 */
#include "failover/vote-private.h"
#include "common/clock.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/thread.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ANSWER_TIME (2 * MC_SEC) /* for the rest of a begun request, and to send an answer */

/* A connection that voter_serve is in, on its stack. */
struct serving {
	struct serving *next;
	int fd;
};

void voter_vm_answer(struct voter *v, struct voter_vm *vm, const char *from,
	const struct paxos_msg *req, struct paxos_msg *ret)
{
	struct own_record known;
	/* Before anything is touched: such an answer must never be taken for a promise. */
	if ((req->type == PAXOS_PREPARE || req->type == PAXOS_ACCEPT) && !voter_may_grant(v)) {
		*ret = (struct paxos_msg){
			.type = PAXOS_REFUSED, .refusal = PAXOS_NOT_QUORATE, .ballot = req->ballot};
		return;
	}
	pthread_mutex_lock(&vm->lock);
	voter_vm_known(v, vm, &known);
	struct paxos_acceptor state = vm->state;
	bool changed = paxos_learn(&state, &known);
	changed |= paxos_answer(&state, &v->group, from, req, ret);
	if (changed && !vm->broken) {
		struct mc_error err = MC_ERROR_INIT;
		if (record_write(v->dir, &vm->file, &state, &err) < 0) {
			log_error("%s", err.msg);
			vm->broken = true;
		}
	}
	if (vm->broken) {
		*ret = (struct paxos_msg){
			.type = PAXOS_REFUSED, .refusal = PAXOS_DISK, .ballot = req->ballot};
	} else {
		/* It is on disk now, and never takes back what was promised before. */
		assert(state.decided.generation > vm->state.decided.generation ||
			ballot_compare(&state.promised, &vm->state.promised) >= 0);
		vm->state = state;
	}
	pthread_mutex_unlock(&vm->lock);
	/* Also from a broken voter: it is still true. */
	voter_vm_learn(v, vm, &state.decided);
	if (ret->type == PAXOS_REFUSED && ret->refusal != PAXOS_DISK)
		log_warn("VM '%s': refused a vote to host '%s' (reason %d)", vm->name, from,
			ret->refusal);
}

/* Puts what was learned on disk, off everybody's path. */
static void *sync_thread(void *arg)
{
	struct voter *v = arg;
	static const struct paxos_msg nothing = {.type = PAXOS_QUERY};
	pthread_mutex_lock(&v->lock);
	for (;;) {
		struct voter_vm *vm = v->vms;
		while (vm && !vm->unsynced)
			vm = vm->next;
		if (vm) {
			vm->unsynced = false;
			pthread_mutex_unlock(&v->lock);
			struct paxos_msg answer;
			voter_vm_answer(v, vm, v->self_name, &nothing, &answer);
			pthread_mutex_lock(&v->lock);
		} else if (v->closing) {
			break;
		} else {
			pthread_cond_wait(&v->cond, &v->lock);
		}
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

/* A host that is back gets to know what was decided without it, and tells us what we missed. */
static void on_connected(void *ctx, unsigned node)
{
	struct voter *v = ctx;
	pthread_mutex_lock(&v->lock);
	struct voter_vm *vm = v->vms; /* the list only grows, at its head */
	pthread_mutex_unlock(&v->lock);
	for (; vm; vm = vm->next) {
		struct vote_msg m;
		struct paxos_msg decided = {.type = PAXOS_DECIDED};
		voter_vm_known(v, vm, &decided.value);
		if (!decided.value.generation)
			continue;
		voter_vm_request(v, vm, &decided, &m);
		mesh_post(v->mesh, &m, 1u << node);
	}
}

static void on_answered(void *ctx, unsigned node, const struct vote_msg *m)
{
	struct voter *v = ctx;
	bool paxos = m->paxos.type < VOTE_HEARD_ANSWER;
	if (m->paxos.type == PAXOS_REFUSED) {
		pthread_mutex_lock(&v->lock);
		bool first = v->refusal[node] != m->paxos.refusal;
		v->refusal[node] = m->paxos.refusal;
		pthread_mutex_unlock(&v->lock);
		if (first)
			log_error("voter %s refuses: %s", v->group.names[node - 1],
				vote_refusal_text(m->paxos.refusal));
	}
	if (!paxos || !m->paxos.decided.generation)
		return;
	struct voter_vm *vm = voter_vm_get(v, m->subject, true);
	if (vm)
		voter_vm_learn(v, vm, &m->paxos.decided);
}

/* Returns false if the request is not one. */
static bool answer_request(
	struct voter *v, const char *from, const struct vote_msg *req, struct vote_msg *ret)
{
	*ret = (struct vote_msg){.id = req->id, .group = v->group_id, .list = v->group.number};
	memcpy(ret->subject, req->subject, sizeof ret->subject);
	if (req->paxos.type >= PAXOS_PROMISE)
		return false;
	if (req->paxos.type == VOTE_HEARD_REQUEST) {
		ret->paxos.type = VOTE_HEARD_ANSWER;
		ret->number = UINT64_MAX;
		if (!strcmp(req->subject, v->self_name))
			ret->number = 0;
		else if (v->cfg.heard_age)
			ret->number = v->cfg.heard_age(v->cfg.ctx, req->subject);
		return true;
	}
	ret->paxos = (struct paxos_msg){
		.type = PAXOS_REFUSED, .refusal = PAXOS_OTHER_VOTERS, .ballot = req->paxos.ballot};
	/* Another list of voters means another majority: such votes cannot be counted together.
	 * A decided record stays a fact. */
	if (req->group != v->group_id && req->paxos.type != PAXOS_DECIDED)
		return true;
	struct voter_vm *vm = voter_vm_get(v, req->subject, req->paxos.type != PAXOS_QUERY);
	if (vm)
		voter_vm_answer(v, vm, from, &req->paxos, &ret->paxos);
	else if (req->paxos.type == PAXOS_QUERY)
		ret->paxos = (struct paxos_msg){.type = PAXOS_CURRENT};
	else
		ret->paxos.refusal = PAXOS_DISK;
	return true;
}

static void serve(struct voter *v, int fd, const char *from)
{
	for (;;) {
		uint8_t buf[VOTE_MSG_SIZE];
		struct vote_msg req, answer;
		int r = link_read(fd, buf, 1, UINT64_MAX, -1);
		if (r == 0)
			r = link_read(fd, buf + 1, sizeof buf - 1, mc_now() + ANSWER_TIME, -1);
		if (r < 0)
			return;
		if (!vote_decode(&req, buf) || !answer_request(v, from, &req, &answer)) {
			if (vote_other_version(buf))
				log_warn("host '%s' speaks another version of the vote protocol, "
					 "so its votes and this host's do not count together: "
					 "install the same mcd on all hosts",
					from);
			else
				log_warn("host '%s' sent a malformed vote message; its connection "
					 "is closed",
					from);
			return;
		}
		vote_encode(buf, &answer);
		if (link_write(fd, buf, sizeof buf, mc_now() + ANSWER_TIME) < 0)
			return;
	}
}

void voter_serve(struct voter *v, int fd, const struct link_peer *peer)
{
	unsigned node = paxos_group_node(&v->group, peer->name);
	if (peer->purpose != LINK_VOTE || !node || node == v->self) {
		log_warn("host '%s' may not vote here: it is %s; its connection is closed",
			peer->name,
			node == v->self ? "called like this host"
					: "not among the configured voters");
		return;
	}
	mesh_watch_socket(fd);
	struct serving self = {.fd = fd};
	pthread_mutex_lock(&v->lock);
	bool closing = v->closing;
	if (!closing) {
		self.next = v->serving;
		/* cppcheck-suppress autoVariables ; it is taken off the list before we return */
		v->serving = &self;
	}
	pthread_mutex_unlock(&v->lock);
	if (closing)
		return;
	serve(v, fd, peer->name);
	pthread_mutex_lock(&v->lock);
	struct serving **at = &v->serving;
	while (*at != &self)
		at = &(*at)->next;
	*at = self.next;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

/* STATE_DIR/votes, locked: two mcds with one memory could promise against each other. */
static int open_dir(const char *state_dir, struct mc_error *err)
{
	char path[512];
	snprintf(path, sizeof path, "%s/votes", state_dir);
	if ((mkdir(state_dir, 0700) < 0 && errno != EEXIST) ||
		(mkdir(path, 0700) < 0 && errno != EEXIST))
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"cannot make directory %s: %s; check 'state-dir' in mcd.conf", path,
			strerror(errno));
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"cannot open directory %s: %s; check 'state-dir' in mcd.conf", path,
			strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return mc_error_set(err, -EBUSY, MC_ECLASS_STATE,
			"another mcd uses %s; stop it, or give this one a 'state-dir' of its own",
			path);
	return mc_steal_fd(&fd);
}

static int load_all(struct voter *v, struct mc_error *err)
{
	int fd = openat(v->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		int e = errno;
		if (fd >= 0)
			close(fd);
		return mc_error_set(err, -e, MC_ECLASS_FAILED,
			"cannot list the votes directory: %s", strerror(e));
	}
	struct dirent *e;
	while ((e = readdir(d)))
		if (vote_name_valid(e->d_name))
			voter_vm_get(v, e->d_name, true);
	closedir(d);
	return 0;
}

static int check_config(const struct voter_config *cfg, struct mc_error *err)
{
	if (cfg->n_voters == 0 || cfg->n_voters > VOTERS_MAX)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%zu voters are configured, 1 to %d are possible; check the [host] "
			"sections",
			cfg->n_voters, VOTERS_MAX);
	bool found = false;
	for (size_t i = 0; i < cfg->n_voters; i++) {
		if (!vote_name_valid(cfg->voters[i].name))
			return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
				"'%s' is not a host name", cfg->voters[i].name);
		found |= !strcmp(cfg->voters[i].name, cfg->self);
		for (size_t j = 0; j < i; j++)
			if (!strcmp(cfg->voters[i].name, cfg->voters[j].name))
				return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
					"host '%s' is configured twice; every voter counts once",
					cfg->voters[i].name);
	}
	struct paxos_group g;
	size_t a, b;
	paxos_group_init(&g, cfg->voters, cfg->n_voters);
	if (paxos_group_collides(&g, &a, &b))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"the names of the hosts '%s' and '%s' have the same digest, so their votes "
			"could not be told apart: give one of them another name",
			g.names[a], g.names[b]);
	if (!found)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"this host '%s' is not among the voters; add a [host %s] section to every "
			"host's mcd.conf",
			cfg->self, cfg->self);
	return 0;
}

int voter_open(const struct voter_config *cfg, struct voter **ret, struct mc_error *err)
{
	int r = check_config(cfg, err);
	if (r < 0)
		return r;
	struct voter *v = calloc(1, sizeof *v);
	if (!v)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	v->cfg = *cfg;
	paxos_group_init(&v->group, cfg->voters, cfg->n_voters);
	v->self = paxos_group_node(&v->group, cfg->self);
	assert(v->self >= 1 && v->self <= v->group.n); /* check_config has found it */
	v->self_name = v->group.names[v->self - 1];
	v->group_id = vote_group_id(&v->group);
	v->random = cfg->instance ^ v->group_id * v->self;
	pthread_mutex_init(&v->lock, NULL);
	mc_cond_init(&v->cond);
	r = v->dir = open_dir(cfg->state_dir, err);
	if (r >= 0)
		r = load_all(v, err);
	if (r < 0)
		goto fail;

	struct mesh_config mesh = {
		.group = &v->group,
		.self = v->self,
		.voters = cfg->voters,
		.n_voters = cfg->n_voters,
		.link = {.name = v->self_name,
			.key = cfg->key,
			.instance = cfg->instance,
			.address = cfg->local_address},
		.connected = on_connected,
		.answered = on_answered,
		.ctx = v,
	};
	r = mesh_open(&mesh, &v->mesh, err);
	if (r == 0)
		r = mesh_start(v->mesh, err);
	if (r < 0)
		goto fail;
	r = mc_thread_start(&v->sync_thread, "vote-disk", sync_thread, v);
	if (r < 0) {
		mc_error_set(err, r, MC_ECLASS_FAILED, "cannot start a thread: %s", strerror(-r));
		goto fail;
	}
	v->sync_started = true;
	*ret = v;
	return 0;
fail:
	voter_close(v);
	return r;
}

void voter_shutdown(struct voter *v)
{
	if (v->mesh)
		mesh_shutdown(v->mesh);
	pthread_mutex_lock(&v->lock);
	v->closing = true;
	pthread_cond_broadcast(&v->cond);
	for (struct serving *s = v->serving; s; s = s->next)
		shutdown(s->fd, SHUT_RDWR);
	pthread_mutex_unlock(&v->lock);
}

void voter_close(struct voter *v)
{
	if (!v)
		return;
	voter_shutdown(v);
	pthread_mutex_lock(&v->lock);
	while (v->serving || v->callers)
		pthread_cond_wait(&v->cond, &v->lock);
	assert(!v->serving && !v->callers);
	pthread_mutex_unlock(&v->lock);
	/* What was learned is written last. */
	if (v->sync_started)
		pthread_join(v->sync_thread, NULL);
	mesh_close(v->mesh);
	for (struct voter_vm *vm = v->vms, *next; vm; vm = next) {
		next = vm->next;
		record_close(&vm->file);
		pthread_mutex_destroy(&vm->lock);
		free(vm);
	}
	if (v->dir >= 0)
		close(v->dir);
	pthread_cond_destroy(&v->cond);
	pthread_mutex_destroy(&v->lock);
	free(v);
}
