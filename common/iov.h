/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is left of a vector of buffers after a part of it was sent. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Takes `done` bytes off the front of v[0..n), changing the first that is left; returns how many
 * whole ones went, empty ones behind them included. */
static inline size_t mc_iov_advance(struct iovec *v, size_t n, size_t done)
{
	size_t i = 0;
	while (i < n && done >= v[i].iov_len)
		done -= v[i++].iov_len;
	if (i < n) {
		v[i].iov_base = (uint8_t *)v[i].iov_base + done;
		v[i].iov_len -= done;
	}
	return i;
}
