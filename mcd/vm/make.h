/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "common/error.h"

struct vm;
struct vm_env;

/* Starts its thread, which runs body(vm) until vm->quit. */
int vm_new(const struct vm_env *env, const char *name, void *(*body)(void *vm), struct vm **ret,
	struct mc_error *err);
/* Rings WAKE_QUIT, joins the thread; a primary's QEMU goes on.  NULL is fine. */
void vm_free(struct vm *vm);
