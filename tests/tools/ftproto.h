/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the demo's guest service and its client agree on.
 *
 * One TCP port, one line per request and per answer, answered in order:
 *
 *   PUT n payload -> OK n chain        applies request n; n must be last + 1.  A request that was
 *                                      applied before is answered from the log, and refused when
 *                                      its payload differs from what was applied.
 *   GET n         -> OK n chain        | NONE n
 *   STAT          -> STAT last chain uptime_ns pages_written lap cursor bad
 *   CHECK         -> CHECK OK pages=N laps=M log=K  |  CHECK BAD page=P ... / CHECK BAD log=n ...
 *                                      | CHECK BAD clock=ns: CLOCK_MONOTONIC went back by so much
 *   TIME          -> TIME mono=NS real=NS back=NS gap=NS source=NAME    its clocks, see ftclock.h
 *   RATE bytes    -> OK bytes          dirties so much memory in each period from now on
 *   DISKBENCH kind ms -> see ftbench.h, when it is over; ends the connection
 *   REBOOT, POWEROFF, PANIC -> BYE last   and then does it, to the whole guest
 *   anything else -> ERR sentence
 *
 * n is decimal, chain is 16 hex digits: chain(n) = H(chain(n-1), n, H(payload)), chain(0) = 0, so
 * one value vouches for every request before it.  H is 64-bit FNV-1a: this finds lost, doubled and
 * mixed-up history, it is not meant to resist an attacker.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FT_PORT        7000
#define FT_LINE_MAX    4096 /* longest line, newline included */
#define FT_PAYLOAD_MAX 2048

#define FT_FNV_BASIS 0xcbf29ce484222325ull
#define FT_FNV_PRIME 0x100000001b3ull

static inline uint64_t ft_hash(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * FT_FNV_PRIME;
	return h;
}

static inline uint64_t ft_hash_u64(uint64_t h, uint64_t v)
{
	for (int i = 0; i < 8; i++, v >>= 8)
		h = (h ^ (v & 0xff)) * FT_FNV_PRIME;
	return h;
}

static inline uint64_t ft_chain(uint64_t prev, uint64_t n, uint64_t payload_hash)
{
	uint64_t h = ft_hash_u64(FT_FNV_BASIS, prev);

	h = ft_hash_u64(h, n);
	return ft_hash_u64(h, payload_hash);
}
