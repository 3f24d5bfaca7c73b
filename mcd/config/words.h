/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Splits a command into words as a shell would: white space separates; '...' keeps everything;
 * "..." keeps everything but \" \\ \$ \`; a backslash keeps the next character.  No shell runs the
 * command, so what only a shell could do ($NAME, `...`, | & ; < > ( ) outside of quotes) is
 * refused instead of being handed to QEMU as it stands.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>

#define WORDS_MAX 1024

/* *ret_words is NULL-terminated; free with words_free. */
int words_split(const char *text, char ***ret_words, size_t *ret_n, struct mc_error *err);
void words_free(char **words); /* NULL is fine */
