/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/vm/vm-fixture.h"

#include "mcd/vm/machine.h"

static void *nobody(void *vm)
{
	return NULL;
}

int vm_setup(void **state)
{
	struct vm_fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	f->w = world_new("hostB");
	*state = f;
	return 0;
}

struct vm *vm_make(struct vm_fixture *f, const char *more, const struct own_record *known)
{
	struct mc_error err = MC_ERROR_INIT;
	world_add_vm(f->w, "vm1", more);
	if (known) {
		world_know(f->w, known);
		world_decide(f->w, known);
	}
	if (vm_new(world_env(f->w), "vm1", nobody, &f->vm, &err) < 0)
		fail_msg("%s", err.msg);
	return f->vm;
}

int vm_teardown_all(void **state)
{
	struct vm_fixture *f = *state;
	if (f->vm)
		vm_teardown(f->vm);
	vm_free(f->vm);
	fake_guests_clear();
	world_free(f->w);
	free(f);
	return 0;
}
