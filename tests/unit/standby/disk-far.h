/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disks of the rig's VM, and the primary's side of their stream:
 * tests/unit/diskmirror/fake-primary.h, whose names are those of other things here.  Two raw
 * disks, empty at first; of session 7. */
#pragma once
#include "diskmirror/disklink.h"
#include "diskmirror/stream.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_far;

struct disk_far *disk_far_new(void);
void disk_far_free(struct disk_far *d);
const char *disk_far_config(struct disk_far *d); /* the [disk] sections */
const char *disk_far_path(struct disk_far *d, int disk);
struct disklink *disk_far_hello(struct disk_far *d); /* the standby's end, HELLO under way */
void disk_far_greeted(struct disk_far *d);
void disk_far_write(struct disk_far *d, uint64_t epoch, uint64_t off, unsigned seed);
struct disk_epoch_sum disk_far_end(struct disk_far *d, uint64_t epoch);
void disk_far_committed(struct disk_far *d); /* what was written so far is what must be kept */
void disk_far_expect_committed(struct disk_far *d);
