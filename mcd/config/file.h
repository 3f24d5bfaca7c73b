/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One INI file, read whole: sections and keys in order with their line numbers.  What they mean is
 * not known here; what can be wrong with any such file is refused here: a line that is neither, a
 * key outside of a section, a section or a key given twice, a NUL byte, a file too large.
 *
 * A value goes on in the next line when that begins with white space; the parts are joined by one
 * space, and a backslash at the end of a part is dropped, so that a command pasted from a shell
 * script means what it meant there.  Lines that begin with # or ; are comments.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>

struct conf_item {
	unsigned line;
	char *section;  /* white space reduced to single spaces: "host hostA" */
	char *key;      /* NULL: the section's head itself */
	char *value;    /* NULL with key NULL */
	bool continued; /* written on more than one line */
};

struct conf_file {
	char path[256];
	size_t n;
	struct conf_item *items;
};

int conf_file_load(const char *path, struct conf_file *ret, struct mc_error *err);
void conf_file_clear(struct conf_file *f);

/* "PATH:LINE: " and the sentence, class ConfigError, -EINVAL. */
int conf_file_error(const struct conf_file *f, unsigned line, struct mc_error *err, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));
