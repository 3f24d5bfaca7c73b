/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The value of a QEMU option as a list of key=value pairs, from both of QEMU's notations:
 *
 *   virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01      a comma in a value is written ",,"
 *   {"driver":"virtio-net-pci","netdev":"net0"}           nested members become "a.b"
 *
 * The first pair may leave out its key (the implied one); later ones may leave out "=on".  Keys
 * may repeat: the last one counts, except where QEMU takes them as a list.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qemu_opt {
	char *key, *value;
};

struct qemu_opts {
	bool json;
	size_t n;
	struct qemu_opt *v;
};

/* implied may be NULL: then every pair has a key. */
int qemu_opts_parse(
	const char *text, const char *implied, struct qemu_opts *ret, struct mc_error *err);
void qemu_opts_clear(struct qemu_opts *o);
/* The value of the last pair with this key; NULL if there is none. */
const char *qemu_opts_get(const struct qemu_opts *o, const char *key);
/* Whether the key is there with on, yes, true or y. */
bool qemu_opts_on(const struct qemu_opts *o, const char *key);

/* Appends ",key=value", the value's commas doubled, to *text (malloc'd; NULL: begins it). */
int qemu_opts_append(char **text, const char *key, const char *value);

/* A size as QEMU reads it: digits, perhaps a fraction, perhaps one of B K M G T P E, else in
 * units of `unit` bytes. */
int qemu_size_parse(const char *text, uint64_t unit, uint64_t *ret, struct mc_error *err);
