/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The list of VMs: whoever walks over it for long holds up nobody, and keeps its VMs alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mcd/life/life.h"
#include "mcd/life/table.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/make.h"
#include "mcd/vm/vm.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* ---- what the table is made of ---- */

static struct vm *the_vm;
static atomic_uint rings, frees;

int vm_new(const struct vm_env *env, const char *name, void *(*run)(void *), struct vm **ret,
	struct mc_error *err)
{
	the_vm = *ret = calloc(1, sizeof **ret);
	return 0;
}

void vm_free(struct vm *vm)
{
	frees++;
	free(vm);
}

void vm_ring(struct vm *vm, unsigned bits)
{
	rings++;
}

void *life_run(void *vm)
{
	return vm;
}

int config_load_vm(
	const struct config *c, const char *name, struct config_vm **ret, struct mc_error *err)
{
	*ret = NULL;
	return 0;
}

void config_vm_free(struct config_vm *vm)
{
}

int config_list_vms(const struct config *c, char ***ret, size_t *ret_n, struct mc_error *err)
{
	return -1;
}

/* ---- tests ---- */

static sem_t inside, go_on, rung;

static void visit(void *ctx, struct vm *vm)
{
	assert_ptr_equal(vm, the_vm);
	sem_post(&inside);
	sem_wait(&go_on);
	assert_int_equal(frees, 0);
}

static void *walk(void *table)
{
	table_each(table, visit, NULL);
	return NULL;
}

static void *ring(void *table)
{
	table_ring_all(table, 1);
	sem_post(&rung);
	return NULL;
}

static void *stop(void *table)
{
	table_stop(table);
	return NULL;
}

static bool within(sem_t *s, time_t seconds)
{
	struct timespec end;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += seconds;
	return sem_timedwait(s, &end) == 0;
}

static void long_walk_holds_up_no_bell_and_keeps_its_vms(void **state)
{
	struct vm_env env = {0};
	struct mc_error err = MC_ERROR_INIT;
	struct table *t;
	struct vm *vm;
	pthread_t walker, ringer, stopper;
	sem_init(&inside, 0, 0);
	sem_init(&go_on, 0, 0);
	sem_init(&rung, 0, 0);
	assert_int_equal(table_new(&env, &t, &err), 0);
	assert_int_equal(table_find(t, "vm1", &vm, &err), 0);
	pthread_create(&walker, NULL, walk, t);
	assert_true(within(&inside, 10));
	pthread_create(&ringer, NULL, ring, t);
	bool in_time = within(&rung, 3);
	pthread_create(&stopper, NULL, stop, t);
	while (in_time && table_count(t)) /* until it has begun */
		;
	sem_post(&go_on);
	pthread_join(ringer, NULL);
	pthread_join(walker, NULL);
	pthread_join(stopper, NULL);
	assert_true(in_time);
	assert_int_equal(rings, 1);
	assert_int_equal(frees, 1);
	table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_walk_holds_up_no_bell_and_keeps_its_vms),
	};
	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
