/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The answer to "status" for people. */
#pragma once
#include <jansson.h>
#include <stdbool.h>

/* details: the barometer and all figures of every VM in the record. */
void status_print(const json_t *status, bool details);
