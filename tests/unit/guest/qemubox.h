/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real QEMU under TCG that runs its firmware on memory of ours, for tests of one part at a time.
 */
#pragma once
#include "common/error.h"
#include "common/qmp.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define QEMUBOX_RAM  (32ull << 20)
#define QEMUBOX_RAMS 2

struct qemubox {
	char dir[64];
	pid_t pid;
	struct qmp *qmp;
	int ram_fd[QEMUBOX_RAMS];
	uint8_t *ram[QEMUBOX_RAMS]; /* each QEMUBOX_RAM bytes */
};

bool qemubox_installed(void);
/* options: words separated by spaces; each %d becomes the number of the next memory file. Its total
 * size (-m) is 32M times the number of backends. */
int qemubox_start(struct qemubox *b, const char *options, struct mc_error *err);
void qemubox_stop(struct qemubox *b); /* also one that was not started */
