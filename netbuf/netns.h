/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running a function in another network namespace. */
#pragma once
#include "common/error.h"
#include <stdbool.h>

/* Runs fn(arg, err) in the namespace ns (a descriptor), or in a new one if ns is -1, in a thread of
 * its own that ends before this returns: what fn wants to outlive it must hold the namespace (a
 * descriptor of a tap does).  Returns what fn returned, or why the namespace cannot be entered. */
int netns_run(int ns, int (*fn)(void *arg, struct mc_error *err), void *arg, struct mc_error *err);

/* Whether the tap with this descriptor is in the caller's own namespace: 1, 0, or an error. */
int netns_has_tap(int tap, struct mc_error *err);
/* The namespace of a tap, as a descriptor. */
int netns_of_tap(int tap, struct mc_error *err);
