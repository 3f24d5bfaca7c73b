/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mirror with a fake standby behind it, and NBD clients before it. */
#pragma once
#include "diskmirror/mirror.h"
#include "fake-standby.h"

#include <libnbd.h>
#include <stdatomic.h>

#define BIG_SIZE   (8u << 20)
#define SMALL_SIZE (3 * DISK_BLOCK + 512) /* its last block is a short one */

struct fixture {
	struct mirror *m;
	struct fake_standby *f;
	struct disk_hello hello;
	char dir[32], path[64];
	atomic_uint broken, pressed;
};

/* Two disks, "big" and "small". */
struct fixture *fixture_open(uint64_t budget, uint64_t stall_after);
void fixture_close(struct fixture *x);
struct nbd_handle *fixture_client(struct fixture *x, const char *disk); /* NULL: not let in */
void fixture_client_done(struct nbd_handle *h);
/* Waits until all that was queued is sent, and the standby has answered a READ: it has taken
 * all. */
void fixture_settle(struct fixture *x, struct nbd_handle *h);
/* Bounded waits for what a thread will do; fail the test. */
void fixture_wait_broken(struct fixture *x);
