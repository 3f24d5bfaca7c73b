/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/hosts/daemon.h"

/* Brings up the parts of a daemon that has its configuration, its instance and its loop, in
 * order of dependency.  On failure what is there is left to take_down. */
int bring_up(struct daemon *d, struct mc_error *err);
void take_down(struct daemon *d);
