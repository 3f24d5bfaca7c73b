/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text from elsewhere, made fit for JSON, a log line and a terminal.
 *
 * What QEMU, a guest, a peer or a file name says may be Latin-1, hold control characters, or have
 * been cut in the middle of a character.  JSON refuses all of it, and then whatever the text was
 * part of is missing: so everything that is shown goes through here once, where it is stored.
 */
#pragma once
#include <stddef.h>

/* Makes it UTF-8 without control characters, in place: what is neither becomes '?', byte by byte;
 * a character that was cut off at the end goes. */
void mc_text_clean(char *text);

/* Copies what fits into cap bytes (the zero included), cut between two characters, and cleans
 * it.  NULL counts as "".  Returns to. */
char *mc_text_copy(char *to, size_t cap, const char *text);
