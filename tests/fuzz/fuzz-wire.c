/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoders of the checkpoint stream and of keep-alives.  The first byte chooses the decoder.
 * Checksums are made right first, because no mutation would ever get past them.  What is accepted
 * must be encoded to the same bytes again: a decoder that overlooks a field is found by that.
 */
#include "tests/fuzz/fuzz.h"

#include "mcd/wire/slab.h"
#include "mcd/wire/keepalive-private.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { HEADER, HELLO, COMMIT, ERROR, BEAT, SLOT, DECODERS };

/* A refusal has a code, a class and a sentence, and says nothing else. */
static void check_error(int r, const struct mc_error *err)
{
	FUZZ_CHECK(r == -EBADMSG || r == -EPROTONOSUPPORT);
	FUZZ_CHECK(err->code == r && *err->msg);
}

static void fuzz_header(const uint8_t *data, size_t size, struct mc_error *err)
{
	uint8_t buf[WIRE_HEADER_SIZE] = {0}, again[WIRE_HEADER_SIZE];
	struct wire_header h;
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	put_le64(buf + 56, XXH3_64bits(buf, 56));
	int r = wire_get_header(buf, &h, err);
	if (r < 0) {
		check_error(r, err);
		return;
	}
	FUZZ_CHECK(h.length <= wire_length_max(h.type));
	wire_put_header(again, &h);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

static void fuzz_hello(const uint8_t *data, size_t size, struct mc_error *err)
{
	static uint8_t again[WIRE_CONTROL_MAX];
	struct wire_hello h;
	int r = wire_get_hello(data, size, &h, err);
	if (r < 0) {
		check_error(r, err);
		return;
	}
	FUZZ_CHECK(wire_put_hello(again, sizeof again, &h) == size);
	FUZZ_CHECK(!memcmp(data, again, size));
}

static void fuzz_commit(const uint8_t *data, size_t size, struct mc_error *err)
{
	uint8_t again[64];
	struct wire_commit c;
	int r = wire_get_commit(data, size, &c, err);
	if (r < 0) {
		check_error(r, err);
		return;
	}
	FUZZ_CHECK(wire_put_commit(again, sizeof again, &c) == size);
	FUZZ_CHECK(!memcmp(data, again, size));
}

static void one_error(const uint8_t *data, size_t size, struct mc_error *err)
{
	uint8_t buf[1024];
	struct mc_error e, again;
	int r = wire_get_error(data, size, &e, err);
	if (r < 0) {
		check_error(r, err);
		return;
	}
	FUZZ_CHECK(e.code < 0 && e.code >= -4095);
	FUZZ_CHECK(memchr(e.msg, 0, sizeof e.msg));
	for (const char *p = e.msg; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= ' ' && *p != 0x7f);
	size_t n = wire_put_error(buf, sizeof buf, &e);
	FUZZ_CHECK(n && wire_get_error(buf, n, &again, NULL) == 0);
	FUZZ_CHECK(again.code == e.code && again.cls == e.cls && !strcmp(again.msg, e.msg));
}

/* As it is, and with the message's length made to agree, which mutations hardly ever hit. */
static void fuzz_error(const uint8_t *data, size_t size, struct mc_error *err)
{
	one_error(data, size, err);
	size_t cls = size >= 8 ? get_le16(data + 4) : SIZE_MAX;
	if (size < 8 || cls > size - 8 || size - 8 - cls > UINT16_MAX)
		return;
	uint8_t *fixed = malloc(size);
	memcpy(fixed, data, size);
	put_le16(fixed + 6, (uint16_t)(size - 8 - cls));
	one_error(fixed, size, err);
	free(fixed);
}

static void fuzz_beat(const uint8_t *data, size_t size, struct mc_error *err)
{
	const struct beat prev = {5, 1000, MC_SEC};
	uint8_t buf[BEAT_SIZE] = {0}, again[BEAT_SIZE];
	struct beat b;
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	put_le64(buf + 32, XXH3_64bits(buf, 32));
	int r = beat_decode(buf, &prev, &b, err);
	if (r < 0) {
		check_error(r, err);
		return;
	}
	FUZZ_CHECK(b.seq > prev.seq && b.time >= prev.time && b.interval);
	beat_encode(again, &b);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

static void fuzz_slot(const uint8_t *data, size_t size, struct mc_error *err)
{
	const struct beat prev = {5, 1000, MC_SEC};
	uint8_t buf[SLOT_SIZE] = {0}, again[SLOT_SIZE];
	struct beat b = {0};
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	put_le64(buf + 40, XXH3_64bits(buf, 40));
	int r = slot_decode(buf, 77, &prev, &b, err);
	if (r < 0)
		check_error(r, err);
	if (r <= 0) {
		FUZZ_CHECK(!b.seq);
		return;
	}
	FUZZ_CHECK(b.seq > prev.seq && b.time >= prev.time && b.interval);
	slot_encode(again, &b, 77);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const decoders[])(const uint8_t *, size_t, struct mc_error *) = {
		fuzz_header,
		fuzz_hello,
		fuzz_commit,
		fuzz_error,
		fuzz_beat,
		fuzz_slot,
	};
	struct mc_error err = MC_ERROR_INIT;
	if (size)
		decoders[data[0] % DECODERS](data + 1, size - 1, &err);
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	const struct wire_header h = {WIRE_SLAB, 3, 1000, SLAB_SIZE, 42},
				 empty = {.type = WIRE_SYNC_END, .generation = 3};
	const struct wire_hello hello = {3, 100 * MC_MSEC, 256u << 20, "0123456789abcdef", 2,
		{{"pc.ram", 256u << 20}, {"vga.vram", 16u << 20}}};
	const struct wire_commit c = {2, SLAB_SIZE + 4120, 80000, 42, 3, 12288, 43};
	struct mc_error e = MC_ERROR_INIT;
	mc_error_set(&e, -ENOSPC, MC_ECLASS_MEMORY, "No room for the replica; add memory");
	switch (i) {
	case 0:
		buf[0] = HEADER;
		wire_put_header(buf + 1, &h);
		return 1 + WIRE_HEADER_SIZE;
	case 1:
		buf[0] = HEADER;
		wire_put_header(buf + 1, &empty);
		return 1 + WIRE_HEADER_SIZE;
	case 2:
		buf[0] = HELLO;
		return 1 + wire_put_hello(buf + 1, cap - 1, &hello);
	case 3:
		buf[0] = COMMIT;
		return 1 + wire_put_commit(buf + 1, cap - 1, &c);
	case 4:
		buf[0] = ERROR;
		return 1 + wire_put_error(buf + 1, cap - 1, &e);
	case 5: /* nearly as long as a message can be */
		memset(e.msg, 'x', sizeof e.msg - 20);
		buf[0] = ERROR;
		return 1 + wire_put_error(buf + 1, cap - 1, &e);
	case 6:
		buf[0] = BEAT;
		beat_encode(buf + 1, &(struct beat){6, 2000, MC_SEC});
		return 1 + BEAT_SIZE;
	case 7:
		buf[0] = SLOT;
		slot_encode(buf + 1, &(struct beat){6, 2000, MC_SEC}, 77);
		return 1 + SLOT_SIZE;
	default:
		return 0;
	}
}
