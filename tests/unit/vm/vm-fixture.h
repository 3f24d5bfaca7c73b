/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM on hostB whose own thread is the test's. */
#pragma once
#include "common/clock.h"
#include "mcd/vm/make.h"
#include "mcd/vm/vm.h"
#include "tests/fakes/fake-guest.h"
#include "tests/fakes/netbuf-fake.h"
#include "tests/fakes/world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct vm_fixture {
	struct world *w;
	struct vm *vm;
};

int vm_setup(void **state); /* *state: the fixture; no VM yet */
int vm_teardown_all(void **state);
/* more: of its configuration, or NULL; known: the record on its voter's disk, or NULL. */
struct vm *vm_make(struct vm_fixture *f, const char *more, const struct own_record *known);
#define VM_TEST(f) cmocka_unit_test_setup_teardown(f, vm_setup, vm_teardown_all)
