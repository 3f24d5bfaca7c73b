/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Part of link.c: a TCP connection that is not authenticated yet. */
#pragma once
#include "common/error.h"
#include <stdint.h>

int link_tcp_listen(const char *address, uint16_t port, struct mc_error *err); /* link_listen */
/* connect(2) that ends by the deadline; from `local` (numeric address, NULL for any).  Returns the
 * descriptor: non-blocking, close-on-exec, TCP_NODELAY. */
int link_tcp_connect(const char *local, const char *address, uint16_t port, uint64_t deadline,
	struct mc_error *err);
