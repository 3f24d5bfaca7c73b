/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A slab from a hostile peer, applied to memory of exactly the VM's size: what slab_walk lets
 * through must stay inside it, and the validating walk must foresee the applying one. */
#include "tests/fuzz/fuzz.h"

#include "mcd/wire/slab.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 2
static const uint64_t sizes[BLOCKS] = {7 * WIRE_PAGE_SIZE, 2 * WIRE_PAGE_SIZE};

struct replica {
	uint8_t *block[BLOCKS];
	uint64_t applied;
};

static void apply(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len)
{
	struct replica *r = ctx;
	FUZZ_CHECK(block < BLOCKS && len && !(off % WIRE_PAGE_SIZE) && !(len % WIRE_PAGE_SIZE));
	if (mem)
		memcpy(r->block[block] + off, mem, len);
	else
		memset(r->block[block] + off, 0, len);
	r->applied += len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slab s = {.mem = (uint8_t *)data, .used = size};
	struct mc_error err = MC_ERROR_INIT;
	int r = slab_walk(&s, sizes, BLOCKS, NULL, NULL, &err);
	FUZZ_CHECK(r == 0 || (r == -EBADMSG && err.code == r && *err.msg));
	if (r < 0)
		return 0;
	struct replica rep = {{malloc(sizes[0]), malloc(sizes[1])}, 0};
	FUZZ_CHECK(slab_walk(&s, sizes, BLOCKS, apply, &rep, &err) == 0);
	FUZZ_CHECK(rep.applied <= sizes[0] + sizes[1]);
	free(rep.block[0]);
	free(rep.block[1]);
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	static const uint8_t page[2 * WIRE_PAGE_SIZE] = {1, 2, 3};
	struct slab s = {.mem = buf};
	switch (i) {
	case 0:
		slab_append(&s, 0, WIRE_PAGE_SIZE, page, sizeof page);
		slab_append_zero(&s, 1, 0, WIRE_PAGE_SIZE);
		slab_append(&s, 1, WIRE_PAGE_SIZE, page, WIRE_PAGE_SIZE);
		break;
	case 1:
		slab_append_zero(&s, 0, 0, 7 * WIRE_PAGE_SIZE);
		slab_append_zero(&s, 1, 0, 2 * WIRE_PAGE_SIZE);
		break;
	}
	return s.used;
}
