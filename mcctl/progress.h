/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bar that a person sees while a VM's memory is copied; nothing when stderr is no terminal. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

struct progress {
	const char *vm;
	bool shown; /* a line stands on the terminal and must be ended */
};

/* Matches client_call's callback; ctx is a struct progress. */
void progress_show(void *ctx, const json_t *data);
void progress_end(struct progress *p);
