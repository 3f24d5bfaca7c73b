/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every message survives its encoder and decoder; every field out of order is refused, and the
 * caller's result is untouched then. */
#include "mcd/wire/slab.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

static void assert_refused(int r, const struct mc_error *err, const char *word)
{
	assert_int_equal(r, -EBADMSG);
	assert_int_equal(err->code, -EBADMSG);
	assert_string_equal(err->cls, MC_ECLASS_PROTOCOL);
	if (!strstr(err->msg, word))
		fail_msg("\"%s\" does not say \"%s\"", err->msg, word);
}

/* ---- header ---- */

static struct wire_header a_header(void)
{
	return (struct wire_header){WIRE_SLAB, 7, 1ull << 40, SLAB_SIZE, 0x123456789abcdef0ull};
}

static void reseal(uint8_t *buf)
{
	put_le64(buf + 56, XXH3_64bits(buf, 56));
}

static void header_round_trips(void **state)
{
	for (uint16_t type = 1; type <= WIRE_TYPE_MAX; type++) {
		struct wire_header in = a_header(), out;
		in.type = type;
		in.length = wire_length_max(type);
		uint8_t buf[WIRE_HEADER_SIZE];
		wire_put_header(buf, &in);
		assert_int_equal(wire_get_header(buf, &out, NULL), 0);
		assert_int_equal(out.type, in.type);
		assert_int_equal(out.generation, in.generation);
		assert_int_equal(out.epoch, in.epoch);
		assert_int_equal(out.length, in.length);
		assert_int_equal(out.digest, in.digest);
	}
}

static void empty_message_gets_the_digest_of_nothing_but_an_ack_keeps_its_own(void **state)
{
	uint8_t buf[WIRE_HEADER_SIZE];
	struct wire_header out, in = {.type = WIRE_SYNC_END, .digest = 99};
	wire_put_header(buf, &in);
	assert_int_equal(wire_get_header(buf, &out, NULL), 0);
	assert_int_equal(out.digest, XXH3_64bits("", 0));
	in.type = WIRE_ACK;
	wire_put_header(buf, &in);
	assert_int_equal(wire_get_header(buf, &out, NULL), 0);
	assert_int_equal(out.digest, 99);
}

static void every_flipped_bit_of_a_header_is_noticed(void **state)
{
	struct wire_header in = a_header(), out = {.type = 77};
	uint8_t buf[WIRE_HEADER_SIZE];
	wire_put_header(buf, &in);
	for (unsigned bit = 0; bit < 8 * WIRE_HEADER_SIZE; bit++) {
		struct mc_error err = MC_ERROR_INIT;
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_true(wire_get_header(buf, &out, &err) < 0);
		assert_true(err.code < 0);
		assert_int_equal(out.type, 77);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void header_of_another_version_names_the_cure(void **state)
{
	struct wire_header in = a_header(), out;
	struct mc_error err = MC_ERROR_INIT;
	uint8_t buf[WIRE_HEADER_SIZE];
	wire_put_header(buf, &in);
	put_le16(buf + 4, WIRE_VERSION + 1);
	memset(buf + 8, 0xa5, 56); /* whatever that version has there */
	assert_int_equal(wire_get_header(buf, &out, &err), -EPROTONOSUPPORT);
	assert_string_equal(err.cls, MC_ECLASS_VERSION);
	assert_non_null(strstr(err.msg, "same release"));
}

static void header_fields_out_of_range_are_refused(void **state)
{
	static const struct {
		unsigned at, size;
		uint64_t value;
		const char *word;
	} bad[] = {
		{0, 4, 0x4d434457, "not a message"},
		{6, 2, 0, "unknown type 0"},
		{6, 2, WIRE_TYPE_MAX + 1, "unknown type"},
		{8, 4, 1, "unknown flags"},
		{12, 4, 1, "unknown flags"},
		{48, 8, 1, "unknown flags"},
		{32, 8, SLAB_SIZE + 1, "more than"},
		{32, 8, UINT64_MAX, "more than"},
		{32, 8, 0, "without payload"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wire_header in = a_header(), out = {.type = 77};
		struct mc_error err = MC_ERROR_INIT;
		uint8_t buf[WIRE_HEADER_SIZE];
		wire_put_header(buf, &in);
		uint64_t v = htole64(bad[i].value);
		memcpy(buf + bad[i].at, &v, bad[i].size);
		reseal(buf);
		assert_refused(wire_get_header(buf, &out, &err), &err, bad[i].word);
		assert_int_equal(out.type, 77);
	}
}

static void only_a_commit_tells_of_the_guest(void **state)
{
	for (uint16_t type = 1; type <= WIRE_TYPE_MAX; type++)
		for (uint32_t flags = 0; flags <= WIRE_GUEST_MAX + 1; flags++) {
			struct wire_header in = {.type = type,
						   .flags = flags,
						   .digest = XXH3_64bits("", 0)},
					   out;
			struct mc_error err = MC_ERROR_INIT;
			uint8_t buf[WIRE_HEADER_SIZE];
			wire_put_header(buf, &in);
			if (flags && (type != WIRE_COMMIT || flags > WIRE_GUEST_MAX)) {
				assert_refused(
					wire_get_header(buf, &out, &err), &err, "unknown flags");
			} else {
				assert_int_equal(wire_get_header(buf, &out, &err), 0);
				assert_int_equal(out.flags, flags);
			}
		}
}

static void each_type_has_its_length_limit(void **state)
{
	for (uint16_t type = 1; type <= WIRE_TYPE_MAX; type++) {
		uint64_t max = type == WIRE_SLAB || type == WIRE_SYNC ? SLAB_SIZE
			       : type == WIRE_DEVICES                 ? WIRE_DEVICES_MAX
			       : type == WIRE_ROM                     ? WIRE_ROM_MAX
			       : type == WIRE_ACK                     ? 0
								      : WIRE_CONTROL_MAX;
		struct wire_header in = {.type = type, .length = max}, out;
		struct mc_error err = MC_ERROR_INIT;
		uint8_t buf[WIRE_HEADER_SIZE];
		wire_put_header(buf, &in);
		assert_int_equal(wire_get_header(buf, &out, &err), 0);
		put_le64(buf + 32, max + 1);
		reseal(buf);
		assert_refused(wire_get_header(buf, &out, &err), &err, "more than");
	}
}

/* ---- HELLO ---- */

static struct wire_hello a_hello(void)
{
	struct wire_hello h = {.generation = 3,
		.delay = 100000000,
		.max_buffer = 256u << 20,
		.machine = "0123456789abcdef",
		.n_blocks = 2,
		.blocks = {{"pc.ram", 256u << 20}, {"/objects/vga-ram", 16u << 20}}};
	return h;
}

static void hello_round_trips(void **state)
{
	struct wire_hello in = a_hello(), out;
	uint8_t buf[WIRE_CONTROL_MAX];
	in.n_blocks = WIRE_BLOCKS_MAX;
	for (size_t i = 0; i < WIRE_BLOCKS_MAX; i++) {
		memset(in.blocks[i].id, 'a' + (int)i, WIRE_BLOCK_ID_MAX);
		in.blocks[i].id[WIRE_BLOCK_ID_MAX] = '\0';
		in.blocks[i].size = (i + 1) * WIRE_PAGE_SIZE;
	}
	size_t n = wire_put_hello(buf, sizeof buf, &in);
	assert_true(n > 0);
	assert_int_equal(wire_get_hello(buf, n, &out, NULL), 0);
	assert_int_equal(out.generation, in.generation);
	assert_int_equal(out.delay, in.delay);
	assert_int_equal(out.max_buffer, in.max_buffer);
	assert_string_equal(out.machine, in.machine);
	assert_int_equal(out.n_blocks, in.n_blocks);
	for (size_t i = 0; i < WIRE_BLOCKS_MAX; i++) {
		assert_string_equal(out.blocks[i].id, in.blocks[i].id);
		assert_int_equal(out.blocks[i].size, in.blocks[i].size);
	}
	assert_int_equal(wire_put_hello(buf, n - 1, &in), 0);
}

static void hello_cut_or_stretched_anywhere_is_refused(void **state)
{
	struct wire_hello in = a_hello(), out;
	uint8_t buf[512] = {0};
	size_t n = wire_put_hello(buf, sizeof buf, &in);
	for (size_t len = 0; len < n + 3; len++) {
		/* A copy of exactly that size: reading beyond it is seen by the sanitizer. */
		uint8_t *exact = malloc(len ? len : 1);
		memcpy(exact, buf, len);
		struct mc_error err = MC_ERROR_INIT;
		int r = wire_get_hello(exact, len, &out, &err);
		free(exact);
		if (len == n)
			assert_int_equal(r, 0);
		else
			assert_refused(r, &err, "HELLO");
	}
}

static void hello_fields_out_of_range_are_refused(void **state)
{
	static const struct {
		unsigned at, size;
		uint64_t value;
		const char *word;
	} bad[] = {
		{0, 8, 0, "generation"},
		{0, 8, UINT64_MAX, "generation"},
		{8, 8, 0, "delay"},
		{8, 8, WIRE_DELAY_MAX + 1, "delay"},
		{16, 8, 0, "buffer"},
		{16, 8, UINT64_MAX, "buffer"},
		{24, 1, 'G', "hex"},
		{39, 1, 0, "hex"},
		{40, 4, 0, "blocks"},
		{40, 4, WIRE_BLOCKS_MAX + 1, "blocks"},
		{40, 4, 1, "too many"},
		{40, 4, 3, "block 2"},
		{44, 4, 1, "flags"},
		{48, 8, 0, "size"},
		{48, 8, 4097, "size"},
		{48, 8, 1ull << 63, "size"},
		{56, 2, 0, "not a name"},
		{56, 2, WIRE_BLOCK_ID_MAX + 1, "does not fit"},
		{56, 2, 200, "does not fit"},
		{58, 2, 1, "flags"},
		{60, 4, 1, "flags"},
		{64, 1, 0, "not a name"},
		{65, 1, ' ', "not a name"},
		{66, 1, 0x80, "not a name"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wire_hello in = a_hello(), out = {.n_blocks = 99};
		struct mc_error err = MC_ERROR_INIT;
		uint8_t buf[512];
		size_t n = wire_put_hello(buf, sizeof buf, &in);
		uint64_t v = htole64(bad[i].value);
		memcpy(buf + bad[i].at, &v, bad[i].size);
		assert_refused(wire_get_hello(buf, n, &out, &err), &err, bad[i].word);
		assert_int_equal(out.n_blocks, 99);
	}
}

static void hello_with_two_blocks_of_one_name_is_refused(void **state)
{
	struct wire_hello in = a_hello(), out;
	struct mc_error err = MC_ERROR_INIT;
	uint8_t buf[512];
	strcpy(in.blocks[1].id, in.blocks[0].id);
	size_t n = wire_put_hello(buf, sizeof buf, &in);
	assert_refused(wire_get_hello(buf, n, &out, &err), &err, "two blocks called pc.ram");
}

/* ---- COMMIT, ERROR, digest ---- */

static void commit_round_trips(void **state)
{
	struct wire_commit in = {3, 2 * SLAB_SIZE + 4120, 80000, 42, 7, 28672, 43}, out;
	uint8_t buf[56];
	assert_int_equal(wire_put_commit(buf, 55, &in), 0);
	assert_int_equal(wire_put_commit(buf, sizeof buf, &in), 56);
	assert_int_equal(wire_get_commit(buf, 56, &out, NULL), 0);
	assert_memory_equal(&in, &out, sizeof in);
}

static void impossible_commits_are_refused(void **state)
{
	static const struct {
		struct wire_commit c;
		size_t len;
		const char *word;
	} bad[] = {
		{{1, 4120, 1, 1}, 55, "bytes"},
		{{1, 4120, 1, 1}, 0, "bytes"},
		{{1, SLAB_SIZE + 1, 1, 1}, 56, "slabs have"},
		{{0, 1, 1, 1}, 56, "slabs have"},
		{{2, WIRE_RANGE_SIZE, 1, 1}, 56, "slabs have"},
		{{UINT64_MAX, 4120, 1, 1}, 56, "impossible"},
		{{1, 4120, WIRE_DEVICES_MAX + 1, 1}, 56, "device state"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wire_commit out = {.slabs = 99};
		struct mc_error err = MC_ERROR_INIT;
		uint8_t buf[56];
		wire_put_commit(buf, sizeof buf, &bad[i].c);
		assert_refused(wire_get_commit(buf, bad[i].len, &out, &err), &err, bad[i].word);
		assert_int_equal(out.slabs, 99);
	}
}

static void error_round_trips_with_our_class_constant(void **state)
{
	struct mc_error in = MC_ERROR_INIT, out = MC_ERROR_INIT;
	uint8_t buf[1024];
	mc_error_set(&in, -ENOSPC, MC_ECLASS_MEMORY, "The standby has no room; add memory");
	size_t n = wire_put_error(buf, sizeof buf, &in);
	assert_int_equal(wire_get_error(buf, n, &out, NULL), 0);
	assert_int_equal(out.code, -ENOSPC);
	assert_string_equal(out.cls, MC_ECLASS_MEMORY);
	assert_string_equal(out.msg, in.msg);
}

static void error_too_long_for_its_buffer_is_cut_at_its_end(void **state)
{
	struct mc_error in = MC_ERROR_INIT, out = MC_ERROR_INIT;
	uint8_t buf[40];
	memset(in.msg, 'x', sizeof in.msg - 1);
	in.msg[sizeof in.msg - 1] = '\0';
	assert_int_equal(wire_put_error(buf, 10, &in), 0);
	size_t n = wire_put_error(buf, sizeof buf, &in);
	assert_int_equal(n, sizeof buf);
	assert_int_equal(wire_get_error(buf, n, &out, NULL), 0);
	assert_int_equal(out.code, -EIO); /* it was never set */
	assert_int_equal(strlen(out.msg), sizeof buf - 8 - strlen(MC_ECLASS_FAILED));
}

static void error_cannot_forge_log_lines(void **state)
{
	struct mc_error in = MC_ERROR_INIT, out = MC_ERROR_INIT;
	uint8_t buf[1024];
	mc_error_set(&in, -EIO, "NoSuchClass", "?");
	/* as a peer may send it: our own are cleaned where they are stored */
	strcpy(in.msg, "one\n<0>two\x1b[31m");
	size_t n = wire_put_error(buf, sizeof buf, &in);
	assert_int_equal(wire_get_error(buf, n, &out, NULL), 0);
	assert_string_equal(out.msg, "one <0>two [31m");
	assert_string_equal(out.cls, MC_ECLASS_FAILED);
}

static void impossible_errors_are_refused(void **state)
{
	static const struct {
		unsigned at, size;
		uint64_t value;
		const char *word;
	} bad[] = {
		{0, 4, 0, "code"},
		{0, 4, 4096, "code"},
		{4, 2, 0, "says"},
		{4, 2, 65, "says"},
		{6, 2, 65535, "says"},
		{8, 1, ' ', "class"},
		{16, 1, 0, "NUL"},
	};
	struct mc_error in = MC_ERROR_INIT, out = MC_ERROR_INIT;
	uint8_t buf[2048];
	mc_error_set(&in, -EIO, MC_ECLASS_FAILED, "a sentence");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct mc_error err = MC_ERROR_INIT;
		size_t n = wire_put_error(buf, sizeof buf, &in);
		uint64_t v = htole64(bad[i].value);
		memcpy(buf + bad[i].at, &v, bad[i].size);
		assert_refused(wire_get_error(buf, n, &out, &err), &err, bad[i].word);
		assert_int_equal(out.code, 0);
	}
	struct mc_error err = MC_ERROR_INIT;
	assert_refused(wire_get_error(buf, 7, &out, &err), &err, "less than any");
	/* Lengths that agree, but more than a message can have. */
	memset(buf, 'x', sizeof buf);
	put_le32(buf, 5);
	put_le16(buf + 4, 4);
	put_le16(buf + 6, sizeof out.msg);
	assert_refused(wire_get_error(buf, 8 + 4 + sizeof out.msg, &out, &err), &err, "too many");
	put_le16(buf + 4, 65);
	put_le16(buf + 6, 1);
	assert_refused(wire_get_error(buf, 8 + 65 + 1, &out, &err), &err, "class");
}

static uint64_t digest_of(uint64_t gen, uint64_t epoch, const uint64_t (*parts)[2], size_t n)
{
	struct wire_epoch_digest d;
	wire_epoch_digest_init(&d, gen, epoch);
	for (size_t i = 0; i < n; i++)
		wire_epoch_digest_add(&d, parts[i][0], parts[i][1]);
	return d.h;
}

static void epoch_digest_depends_on_everything(void **state)
{
	const uint64_t p[][2] = {{1, 10}, {2, 20}}, swapped[][2] = {{2, 20}, {1, 10}},
		       length[][2] = {{1, 10}, {2, 21}};
	uint64_t d = digest_of(1, 5, p, 2);
	assert_int_equal(d, digest_of(1, 5, p, 2));
	assert_int_not_equal(d, digest_of(2, 5, p, 2));
	assert_int_not_equal(d, digest_of(1, 6, p, 2));
	assert_int_not_equal(d, digest_of(1, 5, p, 1));
	assert_int_not_equal(d, digest_of(1, 5, swapped, 2));
	assert_int_not_equal(d, digest_of(1, 5, length, 2));
}

static void rom_comes_back_as_it_went(void **state)
{
	uint8_t buf[8 + 7 + 4096];
	char id[WIRE_BLOCK_ID_MAX + 1] = "";
	size_t at = 0;

	memset(buf, 'x', sizeof buf);
	assert_int_equal(wire_put_rom(buf, 14, "pc.bios"), 0);
	assert_int_equal(wire_put_rom(buf, sizeof buf, "pc.bios"), 15);
	assert_int_equal(wire_get_rom(buf, sizeof buf, id, &at, NULL), 0);
	assert_string_equal(id, "pc.bios");
	assert_int_equal(at, 15);
}

static void impossible_roms_are_refused(void **state)
{
	static const struct {
		size_t len;
		int at;
		uint8_t byte;
		const char *word;
	} bad[] = {
		{0, 0, 7, "does not fit"},
		{7, 0, 7, "does not fit"},
		{14, 0, 7, "does not fit"},
		{15, 0, 7, "whole pages"},
		{15 + 4095, 0, 7, "whole pages"},
		{15 + 4096, 1, 2, "does not fit"},
		{15 + 4096, 0, 0, "not a name"},
		{15 + 4096, 9, ' ', "not a name"},
		{15 + 4096, 2, 1, "flags"},
		{15 + 4096, 7, 1, "flags"},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint8_t buf[15 + 4096] = {0};
		char id[WIRE_BLOCK_ID_MAX + 1] = "same";
		size_t at = 99;
		struct mc_error err = MC_ERROR_INIT;
		wire_put_rom(buf, sizeof buf, "pc.bios");
		buf[bad[i].at] = bad[i].byte;
		assert_refused(wire_get_rom(buf, bad[i].len, id, &at, &err), &err, bad[i].word);
		assert_string_equal(id, "same");
		assert_int_equal(at, 99);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_round_trips),
		cmocka_unit_test(empty_message_gets_the_digest_of_nothing_but_an_ack_keeps_its_own),
		cmocka_unit_test(every_flipped_bit_of_a_header_is_noticed),
		cmocka_unit_test(header_of_another_version_names_the_cure),
		cmocka_unit_test(header_fields_out_of_range_are_refused),
		cmocka_unit_test(only_a_commit_tells_of_the_guest),
		cmocka_unit_test(each_type_has_its_length_limit),
		cmocka_unit_test(rom_comes_back_as_it_went),
		cmocka_unit_test(impossible_roms_are_refused),
		cmocka_unit_test(hello_round_trips),
		cmocka_unit_test(hello_cut_or_stretched_anywhere_is_refused),
		cmocka_unit_test(hello_fields_out_of_range_are_refused),
		cmocka_unit_test(hello_with_two_blocks_of_one_name_is_refused),
		cmocka_unit_test(commit_round_trips),
		cmocka_unit_test(impossible_commits_are_refused),
		cmocka_unit_test(error_round_trips_with_our_class_constant),
		cmocka_unit_test(error_too_long_for_its_buffer_is_cut_at_its_end),
		cmocka_unit_test(error_cannot_forge_log_lines),
		cmocka_unit_test(impossible_errors_are_refused),
		cmocka_unit_test(epoch_digest_depends_on_everything),
	};
	return cmocka_run_group_tests_name("protocol", tests, NULL, NULL);
}
