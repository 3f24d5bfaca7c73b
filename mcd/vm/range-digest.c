/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/range-digest.h"

#include "common/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define PIECE 65536u

/* 576 bytes, of a size that the library keeps to itself. */
static XXH3_state_t *begin_digest(void)
{
	XXH3_state_t *h = XXH3_createState();
	if (!h)
		abort(); /* nobody lives on without half a KiB */
	XXH3_64bits_reset(h);
	return h;
}

static uint64_t end_digest(XXH3_state_t *h)
{
	uint64_t digest = XXH3_64bits_digest(h);
	XXH3_freeState(h);
	return digest;
}

static void add_zeroes(XXH3_state_t *h, uint64_t len)
{
	static const uint8_t zero[PIECE];
	for (; len; len -= len < PIECE ? len : PIECE)
		XXH3_64bits_update(h, zero, len < PIECE ? len : PIECE);
}

struct update {
	XXH3_state_t *h;
	const uint8_t *mem;
	uint64_t len;
};

static void update(void *arg)
{
	struct update *u = arg;
	XXH3_64bits_update(u->h, u->mem, u->len);
}

int range_digest_memory(
	int fd, const uint8_t *map, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err)
{
	uint64_t at = off, end = off + len;
	XXH3_state_t *h = begin_digest();
	while (at < end) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		uint64_t begin = data < 0 ? (errno == ENXIO ? end : at) : (uint64_t)data;
		if (begin > end)
			begin = end;
		add_zeroes(h, begin - at);
		if (begin == end)
			break;
		off_t hole = lseek(fd, (off_t)begin, SEEK_HOLE);
		uint64_t stop = hole < 0 || (uint64_t)hole > end ? end : (uint64_t)hole;
		struct update u = {h, map + begin, stop - begin};
		if (memory_try(update, &u) < 0) {
			end_digest(h);
			return memory_lost("the VM", err);
		}
		at = stop;
	}
	*ret = end_digest(h);
	return 0;
}

int range_digest_file(int fd, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err)
{
	uint8_t buf[PIECE];
	XXH3_state_t *h = begin_digest();
	while (len) {
		ssize_t n = pread(fd, buf, len < sizeof buf ? len : sizeof buf, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			end_digest(h);
			return mc_error_set(err, n < 0 ? -errno : -EIO, MC_ECLASS_FAILED,
				"a disk cannot be read for comparing it: %s",
				n < 0 ? strerror(errno) : "it is shorter than it was");
		}
		XXH3_64bits_update(h, buf, (size_t)n);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	*ret = end_digest(h);
	return 0;
}
