/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Numbers as people write them, for the configuration and the command line.
 *
 * A quantity always carries its unit: "100" is refused, because whoever reads it guesses wrong.
 * Nothing is accepted around the text: no white space, no sign, no rest.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>

/* A duration in ns: "50us", "100ms", "1.5s", "2min" (ns us ms s min h). */
int mc_parse_duration(const char *text, uint64_t *ret_ns, struct mc_error *err);

/* A size in bytes: "5MB" (kB MB GB TB: powers of ten), "256MiB" (KiB MiB GiB TiB: powers of two),
 * "1G" (K M G T: powers of two, as QEMU has them), "512B", and plain "0". */
int mc_parse_size(const char *text, uint64_t *ret_bytes, struct mc_error *err);

/* A decimal number in [min, max]. */
int mc_parse_uint(
	const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct mc_error *err);

/* The shortest text that parses back to the same value: "100ms", "256MiB". */
#define MC_QUANTITY_MAX 32
const char *mc_format_duration(uint64_t ns, char buf[MC_QUANTITY_MAX]);
const char *mc_format_size(uint64_t bytes, char buf[MC_QUANTITY_MAX]);

/* The candidate that the word was probably meant to be: the smallest edit distance (a swap of two
 * neighbours counts as one), if it is small for the word's length.  NULL if nothing is near. */
const char *mc_nearest(const char *word, const char *const *candidates, size_t n);
