/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real QEMU that runs nothing but its firmware, as the tests of a guest need it: an empty
 * machine of 32 MiB. Its command line is made here, in place of cmdline.c.
 */
#pragma once
#include "common/clock.h"
#include "mcd/guest/guest-private.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAM_SIZE (32u << 20)
#define QEMU     "qemu-system-x86_64"
#define WAIT     (20 * MC_SEC)

struct box {
	char dir[64];
	struct config_vm vm;
	struct cmdline_plan plan;
	int ram_fd;
	uint8_t *ram;
	struct guest *g;
	struct mc_error err;
};

/* Teardown of each test: one that failed did not reach its box_clear. */
int forget_boxes(void **state);
/* What b has to be ended then. */
void remember(struct box *b, struct guest *g);
/* Everything but QEMU. */
void box_init(struct box *b);
/* 0, or guest_qemu.launch's error, in b->err. */
int launch_as(
	struct box *b, const char *command, const char *run_dir, bool incoming, uint64_t timeout);
/* Both; the test fails if QEMU does not start. */
void launch(struct box *b, bool incoming);
void path_of(const struct box *b, const char *leaf, char *path, size_t size);
/* Whether its run directory has that file. */
bool has(const struct box *b, const char *leaf);
void box_clear(struct box *b);
/* The test fails, with the words of b->err, if r is negative. */
void ok(struct box *b, int r);
void assert_said(const struct box *b, const char *part);
bool runs(struct box *b);
/* The next event, waited for. */
enum guest_event event(struct box *b);
/* As an administrator with a monitor of his own would. */
void administrator(struct box *b, const char *command);
/* The firmware has counted its memory and sits in its boot menu: the guest changes no more. */
void let_firmware_settle(struct box *b);
/* Lets go of QEMU and takes it over again, as a later mcd does. */
enum guest_adopted adopt(struct box *b);
/* Writes a port as the guest would: "/b PORT VALUE". */
void guest_writes(struct box *b, const char *port_and_value);
