/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/control/control.h"

struct daemon;
struct vm;

/* What the control socket can be asked; the context of each is the struct daemon. */
extern const struct control_verb daemon_verbs[];
/* check.c: `mcctl check`; vm may be NULL. */
json_t *daemon_check(struct daemon *d, struct vm *vm);
