/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's life on this host: which role comes next. */
#pragma once
#include "common/error.h"

#include <stdbool.h>

struct vm;
struct vm_call;

void *life_run(void *vm); /* the body of its thread (vm_new) */

/* adopt.c: takes over what a former mcd left running; returns at once if there is nothing. */
void life_adopt(struct vm *vm);
/* start.c: `mcctl start` and `mcctl stop`, of a VM that no session protects. */
int life_start(struct vm *vm, bool force, struct mc_error *err);
void life_stop(struct vm *vm, struct vm_call *c);
