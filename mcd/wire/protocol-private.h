/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the encoders and decoders of the checkpoint stream share; only protocol*.c include this. */
#pragma once
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <stdbool.h>

/* Refuses the peer's bytes; the sentence says what was wrong, the hint is the same for all. */
#define refuse(err, fmt, ...)                                                                      \
	mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,                                            \
		fmt "; the connection is closed (damaged on the way, or a broken peer)",           \
		##__VA_ARGS__)

#define BUFFER_MAX                                                                                 \
	(1ull << 46) /* bytes of one epoch, and of one block: an address of x86-64 user space */

/* Names travel into logs and error messages: printable, without blanks that would split them. */
static inline bool is_name(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return false;
	return n > 0;
}
