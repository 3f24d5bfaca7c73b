/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payloads of the messages that compare the two copies of a VM (the rules: protocol.c).
 *
 *	VERIFY: 1 to WIRE_VERIFY_MAX times
 *		 0  4  kind (0 memory, 1 disk)    8  8  offset    24  8  XXH3-64 of the range
 *		 4  4  block or disk             16  8  length, 1..WIRE_VERIFY_LEN_MAX
 *
 *	VERIFIED:
 *		 0  4  how many ranges differ, then the index of each, 4 bytes, ascending
 */
#include "mcd/wire/protocol-private.h"

#include "common/le.h"

#include <assert.h>
#include <string.h>

_Static_assert(
	WIRE_VERIFY_SIZE == 2 * 4 + 3 * 8 && WIRE_VERIFY_SIZE == sizeof(struct wire_verify_range),
	"as above");
_Static_assert(
	WIRE_VERIFY_MAX *WIRE_VERIFY_SIZE <= WIRE_CONTROL_MAX, "the longest VERIFY is a message");
_Static_assert(4 + 4 * WIRE_VERIFY_MAX <= WIRE_CONTROL_MAX, "the longest VERIFIED is a message");

size_t wire_put_verify(uint8_t *buf, size_t cap, const struct wire_verify_range *v, size_t n)
{
	if (n > WIRE_VERIFY_MAX || cap < n * WIRE_VERIFY_SIZE)
		return 0;
	const uint8_t *begin = buf;
	for (size_t i = 0; i < n; i++, buf += WIRE_VERIFY_SIZE) {
		assert(v[i].len && v[i].len <= WIRE_VERIFY_LEN_MAX);
		put_le32(buf, v[i].kind);
		put_le32(buf + 4, v[i].index);
		put_le64(buf + 8, v[i].off);
		put_le64(buf + 16, v[i].len);
		put_le64(buf + 24, v[i].digest);
	}
	assert(buf == begin + n * WIRE_VERIFY_SIZE);
	return n * WIRE_VERIFY_SIZE;
}

int wire_get_verify(const uint8_t *buf, size_t len, struct wire_verify_range *v, size_t *ret_n,
	struct mc_error *err)
{
	size_t n = len / WIRE_VERIFY_SIZE;
	if (!n || n > WIRE_VERIFY_MAX || len % WIRE_VERIFY_SIZE)
		return refuse(err, "a VERIFY of %zu bytes", len);
	for (size_t i = 0; i < n; i++, buf += WIRE_VERIFY_SIZE) {
		v[i] = (struct wire_verify_range){get_le32(buf), get_le32(buf + 4),
			get_le64(buf + 8), get_le64(buf + 16), get_le64(buf + 24)};
		if (v[i].kind > WIRE_VERIFY_DISK)
			return refuse(err, "a VERIFY of unknown kind %u", v[i].kind);
		if (!v[i].len || v[i].len > WIRE_VERIFY_LEN_MAX || v[i].off > UINT64_MAX - v[i].len)
			return refuse(err, "a VERIFY of an impossible range");
	}
	*ret_n = n;
	return 0;
}

size_t wire_put_verified(uint8_t *buf, size_t cap, const uint32_t *differ, size_t n)
{
	if (n > WIRE_VERIFY_MAX || cap < 4 + 4 * n)
		return 0;
	put_le32(buf, (uint32_t)n);
	for (size_t i = 0; i < n; i++) {
		assert(!i || differ[i] > differ[i - 1]);
		put_le32(buf + 4 + 4 * i, differ[i]);
	}
	return 4 + 4 * n;
}

int wire_get_verified(const uint8_t *buf, size_t len, size_t ranges, uint32_t *differ,
	size_t *ret_n, struct mc_error *err)
{
	size_t n = len < 4 ? 0 : get_le32(buf);
	if (len < 4 || n > ranges || n > WIRE_VERIFY_MAX || len != 4 + 4 * n)
		return refuse(err, "a VERIFIED of %zu bytes for %zu ranges", len, ranges);
	for (size_t i = 0; i < n; i++) {
		differ[i] = get_le32(buf + 4 + 4 * i);
		if (differ[i] >= ranges || (i && differ[i] <= differ[i - 1]))
			return refuse(err, "a VERIFIED whose indexes make no sense");
	}
	*ret_n = n;
	return 0;
}
