/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

/* Takes over fd; receives HELLO, checks everything, makes replica and QEMU, answers HELLO_OK. */
int standby_greet(struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err);
void standby_free(struct standby *s); /* the memory and the link; not the VM */
