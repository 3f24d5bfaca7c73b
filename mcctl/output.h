/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What mcctl prints.  A result is one JSON record; with --json it is printed as it is, without, a
 * verb's text function prints the same record for people. */
#pragma once
#include "mcctl/verb.h"
#include <stdio.h>

#define FORMAT_MAX 24

/* The record on one line; indented when a person looks on. */
void output_json(const json_t *record);
/* "mcctl: error: ..." on stderr, with --json also {"error": {...}} on stdout; returns the exit code
 * that belongs to the error. */
int output_error(const struct mcctl *m, const struct mc_error *err);
/* The same for a wrong command line: MCCTL_USAGE. */
int output_usage(const struct mcctl *m, const struct mc_error *err);

/* Text that came from elsewhere, without what could confuse a terminal or break a line. */
void output_text(FILE *f, const char *text);

/* "1.2MiB", "92ms", "3.1s": for reading, three digits. */
const char *format_bytes(double bytes, char buf[FORMAT_MAX]);
const char *format_ms(double ms, char buf[FORMAT_MAX]);

/* Members of a record, with a default when missing or of another type. */
const char *get_text(const json_t *record, const char *name);
double get_number(const json_t *record, const char *name);
