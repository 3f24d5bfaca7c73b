/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/machine.h"
#include "mcd/vm/make.h"
#include "mcd/vm/vm.h"
#include "tests/fakes/fake-guest.h"
#include "tests/fakes/netbuf-fake.h"
#include "tests/fakes/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void *nobody(void *vm)
{
	return NULL;
}

static void a_vm_is_made_in_this_world(void **state)
{
	struct world *w = world_new("hostA");
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm;
	world_add_vm(w, "vm1", NULL);
	assert_int_equal(vm_new(world_env(w), "vm1", nobody, &vm, &err), 0);
	if (vm_prepare(vm, &err) < 0 || vm_launch(vm, false, 1000000000, &err) < 0)
		fail_msg("%s", err.msg);
	assert_non_null(fake_guest_find("vm1"));
	assert_non_null(netbuf_fake_find("vm1"));
	vm_teardown(vm);
	vm_free(vm);
	fake_guests_clear();
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_is_made_in_this_world),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
