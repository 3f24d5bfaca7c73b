/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "common/error.h"
#include "common/link.h"

/* Tells a primary that offers a VM why not, and closes.  From any thread. */
void standby_refuse(int fd, const struct link_peer *peer, const struct mc_error *why);
/* The same once RDMA was refused, or given up. */
void standby_refuse_tcp(int fd, const struct mc_error *why);
