/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The knobs of a VM as written on the command line, checked before the daemon is asked, so that a
 * slip is found also while it is away.  The daemon checks again. */
#pragma once
#include "common/error.h"

/* key: "delay" or "max-buffer"; another one is an error that names the nearest. */
int knob_check(const char *key, const char *value, struct mc_error *err);
