/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the writer and the reader of the journal share; the byte layout is at the head of
 * journal.c. */
#pragma once
#include "diskmirror/journal.h"

#include <stdbool.h>

#define JOURNAL_VERSION     1
#define JOURNAL_HEADER_SIZE 72
#define JOURNAL_BODY        4096 /* offset of the body: the header has a block of its own */
#define JOURNAL_ENTRY_SIZE  24
#define JOURNAL_ID_SIZE     64

static const char journal_magic[8] = {'M', 'C', 'D', 'J', 'R', 'N', 'L', '\n'};

struct journal_header {
	bool sealed;
	uint64_t generation, epoch, entries, length;
	uint8_t digest[16];
};
