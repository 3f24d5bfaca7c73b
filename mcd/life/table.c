/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/life/table.h"

#include "common/log.h"
#include "mcd/life/life.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/make.h"
#include "mcd/vm/vm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct table {
	const struct vm_env *env;
	/* Two locks: making a VM asks the voter, which may at that moment tell us of a record,
	 * for which it needs to look at the list.  `making` is taken before `lock`. */
	pthread_mutex_t making;
	pthread_mutex_t lock; /* of what follows; held for moments only */
	pthread_cond_t walked;
	unsigned walkers; /* in table_each; their VMs stay */
	size_t n;
	struct vm *vms[CONFIG_VMS_MAX];
};

int table_new(const struct vm_env *env, struct table **ret, struct mc_error *err)
{
	struct table *t = calloc(1, sizeof *t);
	if (!t)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	t->env = env;
	pthread_mutex_init(&t->making, NULL);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->walked, NULL);
	*ret = t;
	return 0;
}

void table_stop(struct table *t)
{
	struct vm *vms[CONFIG_VMS_MAX];
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	size_t n = t->n;
	memcpy(vms, t->vms, sizeof vms);
	t->n = 0; /* nobody begins a walk over these any more */
	while (t->walkers)
		pthread_cond_wait(&t->walked, &t->lock);
	pthread_mutex_unlock(&t->lock);
	for (size_t i = 0; i < n; i++)
		vm_free(vms[i]);
}

void table_free(struct table *t)
{
	if (!t)
		return;
	assert(!t->n);
	pthread_mutex_destroy(&t->making);
	pthread_cond_destroy(&t->walked);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct vm *table_known(struct table *t, const char *name)
{
	struct vm *vm = NULL;
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n; i++)
		if (!strcmp(t->vms[i]->name, name))
			vm = t->vms[i];
	pthread_mutex_unlock(&t->lock);
	return vm;
}

int table_find(struct table *t, const char *name, struct vm **ret, struct mc_error *err)
{
	struct vm *vm = table_known(t, name);
	if (vm) {
		*ret = vm;
		return 0;
	}
	struct config_vm *cfg;
	int r = config_load_vm(t->env->cfg, name, &cfg, err);
	if (r < 0)
		return r;
	config_vm_free(cfg);
	pthread_mutex_lock(&t->making);
	vm = table_known(t, name); /* made meanwhile? */
	if (!vm && t->n == CONFIG_VMS_MAX)
		r = mc_error_set(err, -ENOSPC, MC_ECLASS_CONFIG, "more than %d VMs on one host",
			CONFIG_VMS_MAX);
	else if (!vm && (r = vm_new(t->env, name, life_run, &vm, err)) == 0) {
		pthread_mutex_lock(&t->lock);
		assert(t->n < CONFIG_VMS_MAX);
		t->vms[t->n++] = vm;
		pthread_mutex_unlock(&t->lock);
	}
	pthread_mutex_unlock(&t->making);
	if (r == 0)
		*ret = vm;
	return r;
}

int table_make_all(struct table *t, struct mc_error *err)
{
	char **names;
	size_t n;
	int r = config_list_vms(t->env->cfg, &names, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct vm *vm;
		struct mc_error why = MC_ERROR_INIT;
		/* One bad file must not keep the other VMs' protection from coming up. */
		if (table_find(t, names[i], &vm, &why) < 0)
			log_error("%s", why.msg);
		free(names[i]);
	}
	free(names);
	return 0;
}

void table_ring_all(struct table *t, unsigned bit)
{
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n; i++)
		vm_ring(t->vms[i], bit);
	pthread_mutex_unlock(&t->lock);
}

size_t table_count(struct table *t)
{
	pthread_mutex_lock(&t->lock);
	size_t n = t->n;
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* Over a copy: what is done with the VMs may take long, and whoever finds or rings one meanwhile
 * must not wait for it. */
void table_each(struct table *t, void (*fn)(void *ctx, struct vm *vm), void *ctx)
{
	struct vm *vms[CONFIG_VMS_MAX];
	pthread_mutex_lock(&t->lock);
	size_t n = t->n;
	memcpy(vms, t->vms, sizeof vms);
	t->walkers++;
	pthread_mutex_unlock(&t->lock);
	for (size_t i = 0; i < n; i++)
		fn(ctx, vms[i]);
	pthread_mutex_lock(&t->lock);
	if (!--t->walkers)
		pthread_cond_broadcast(&t->walked);
	pthread_mutex_unlock(&t->lock);
}
