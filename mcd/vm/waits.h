/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long mcd waits for what is on this host, in ns; the times of the protocol between hosts are
 * derived in failover/timing.c.  A wait that one file has alone is named there. */
#pragma once
#include "common/clock.h"

#define WAIT_LAUNCH (15 * MC_SEC)    /* for a QEMU that was started to answer */
#define WAIT_PING   (1500 * MC_MSEC) /* for a sign of life of a running one */
#define WAIT_QMP    (5 * MC_SEC)     /* for a command that may have disk I/O before it */
#define WAIT_VOTE                                                                                  \
	(500 * MC_MSEC) /* one attempt at a vote; between two the world is looked at again */
