/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "diskmirror/stream.h"

#include "common/le.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

static const struct disk_header good[] = {
	{DISK_HELLO, .length = 70, .digest = 9},
	{DISK_HELLO_OK},
	{DISK_TABLE, 3, .offset = 7 * DISK_BLOCK, .length = 32, .digest = 9},
	{DISK_WRITE, 15, 0, 12, 4096, DISK_DATA_MAX, 9},
	{DISK_ZERO, 1, 0, 0, 5, DISK_SIZE_MAX - 5},
	{DISK_TRIM, 0, 0, UINT64_MAX, 0, 1},
	{DISK_END, 0, DISK_FLUSHED, 12, 0, 24, 9},
	{DISK_READ, 2, 0, 0, 1, 1},
	{DISK_DATA, 2, 0, 0, 1, 1, 9},
	{DISK_ERROR, .length = DISK_TEXT_MAX, .digest = 9},
};

static void seal(uint8_t *b)
{
	put_le64(b + 40, XXH3_64bits(b, 40));
}

static void test_every_type_comes_back_as_it_was(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		uint8_t b[DISK_HEADER_SIZE];
		struct disk_header h, want = good[i];
		disk_put_header(b, &want);
		assert_int_equal(disk_get_header(b, &h, NULL), 0);
		if (!disk_has_payload(want.type))
			want.digest = XXH3_64bits("", 0);
		assert_memory_equal(&h, &want, sizeof h);
	}
}

static void test_unused_fields_are_encoded_as_zero(void **state)
{
	uint8_t b[DISK_HEADER_SIZE];
	struct disk_header h = {DISK_END, 5, 0, 3, 77, 24, 9};
	disk_put_header(b, &h);
	assert_int_equal(disk_get_header(b, &h, NULL), 0);
	assert_int_equal(h.disk, 0);
	assert_int_equal(h.offset, 0);
}

static void test_every_flipped_bit_is_refused(void **state)
{
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		uint8_t b[DISK_HEADER_SIZE];
		disk_put_header(b, &good[i]);
		for (size_t bit = 0; bit < 8 * sizeof b; bit++) {
			struct disk_header h;
			struct mc_error err = MC_ERROR_INIT;
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
			int r = disk_get_header(b, &h, &err);
			assert_true(r == -EBADMSG || (r == -EPROTONOSUPPORT && bit / 8 == 4));
			assert_int_equal(err.code, r);
			b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

/* A peer that computes checksums and lies otherwise. */
static void refused(const struct disk_header *from, size_t at, uint64_t value, size_t width)
{
	uint8_t b[DISK_HEADER_SIZE], v[8];
	struct disk_header h;
	struct mc_error err = MC_ERROR_INIT;
	disk_put_header(b, from);
	put_le64(v, value);
	memcpy(b + at, v, width);
	seal(b);
	assert_int_equal(disk_get_header(b, &h, &err), -EBADMSG);
	assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
}

static void test_every_field_is_checked(void **state)
{
	const struct disk_header *hello = &good[0], *ok = &good[1], *table = &good[2],
				 *write = &good[3], *zero = &good[4], *end = &good[6],
				 *read = &good[7], *error = &good[9];
	refused(ok, 5, 0, 1);
	refused(ok, 5, DISK_TYPE_MAX + 1, 1);
	refused(write, 6, DISKS_MAX, 1);
	refused(write, 7, 1, 1);
	refused(end, 7, 2, 1);
	refused(end, 6, 1, 1);
	refused(end, 8, 0, 8);
	refused(hello, 8, 1, 8);
	refused(hello, 16, 1, 8);
	refused(read, 8, 1, 8);
	refused(write, 24, 0, 8);
	refused(write, 24, DISK_DATA_MAX + 1, 8);
	refused(zero, 24, 0, 8);
	refused(zero, 24, DISK_SIZE_MAX - 4, 8);
	refused(zero, 16, UINT64_MAX, 8);
	refused(table, 16, DISK_BLOCK + 1, 8);
	refused(table, 24, 17, 8);
	refused(table, 24, DISK_TABLE_MAX + 16, 8);
	refused(end, 24, 23, 8);
	refused(error, 24, 0, 8);
	refused(error, 24, DISK_TEXT_MAX + 1, 8);
	refused(ok, 24, 1, 8);
	refused(read, 32, 9, 8);
}

static struct disk_hello a_hello(void)
{
	struct disk_hello h = {.generation = 3, .seed = "0123456789abcde", .n_disks = 2};
	strcpy(h.disks[0].id, "disk0");
	strcpy(h.disks[1].id, "d");
	h.disks[0].size = 512;
	h.disks[1].size = DISK_SIZE_MAX;
	return h;
}

static void test_hello_comes_back_as_it_was_and_no_shorter_or_longer_one_does(void **state)
{
	uint8_t b[DISK_HELLO_MAX + 1] = {0};
	struct disk_hello h = a_hello(), g;
	size_t len = disk_put_hello(b, sizeof b, &h);
	assert_int_equal(len, 32 + 16 + 5 + 16 + 1);
	assert_int_equal(disk_put_hello(b, len - 1, &h), 0);
	assert_int_equal(disk_get_hello(b, len, &g, NULL), 0);
	assert_memory_equal(&g, &h, sizeof h);
	for (size_t n = 0; n <= len + 1; n++)
		if (n != len)
			assert_int_equal(disk_get_hello(b, n, &g, NULL), -EBADMSG);
}

static void hello_refused(size_t at, uint64_t value, size_t width)
{
	uint8_t b[DISK_HELLO_MAX], v[8];
	struct disk_hello h = a_hello(), g;
	size_t len = disk_put_hello(b, sizeof b, &h);
	put_le64(v, value);
	memcpy(b + at, v, width);
	assert_int_equal(disk_get_hello(b, len, &g, NULL), -EBADMSG);
}

static void test_every_field_of_a_hello_is_checked(void **state)
{
	hello_refused(0, 0, 8);
	hello_refused(0, 1ull << 63, 8);
	hello_refused(24, 0, 4);
	hello_refused(24, 1, 4);
	hello_refused(24, DISKS_MAX + 1, 4);
	hello_refused(28, 1, 4);
	hello_refused(32, 0, 8);
	hello_refused(32, 513, 8);
	hello_refused(32, DISK_SIZE_MAX + 512, 8);
	hello_refused(40, 0, 2);
	hello_refused(40, 64, 2);
	hello_refused(42, 1, 2);
	hello_refused(44, 1, 4);
	hello_refused(48, ' ', 1);
	hello_refused(48, 0, 1);
	hello_refused(48, 0xff, 1);
	uint8_t b[DISK_HELLO_MAX];
	struct disk_hello h = a_hello(), g;
	strcpy(h.disks[1].id, "disk0");
	assert_int_equal(disk_get_hello(b, disk_put_hello(b, sizeof b, &h), &g, NULL), -EBADMSG);
}

static void test_a_sum_is_possible_or_refused(void **state)
{
	uint8_t b[32];
	struct disk_epoch_sum s = {3, 3ull * DISK_DATA_MAX, 9}, t;
	assert_int_equal(disk_put_sum(b, sizeof b, &s), 24);
	assert_int_equal(disk_put_sum(b, 23, &s), 0);
	assert_int_equal(disk_get_sum(b, 24, &t, NULL), 0);
	assert_memory_equal(&s, &t, sizeof s);
	assert_int_equal(disk_get_sum(b, 23, &t, NULL), -EBADMSG);
	assert_int_equal(disk_get_sum(b, 25, &t, NULL), -EBADMSG);
	s.bytes += DISK_DATA_MAX;
	disk_put_sum(b, sizeof b, &s);
	assert_int_equal(disk_get_sum(b, 24, &t, NULL), -EBADMSG);
}

static void test_the_digest_of_an_epoch_covers_order_epoch_and_payloads(void **state)
{
	uint8_t a[DISK_HEADER_SIZE], b[DISK_HEADER_SIZE];
	struct disk_header h = {DISK_WRITE, 0, 0, 4, 0, 512, 77};
	disk_put_header(a, &h);
	h.digest = 78;
	disk_put_header(b, &h);
	struct disk_digest d[5];
	for (int i = 0; i < 5; i++)
		disk_digest_init(&d[i], i == 3 ? 2 : 1, i == 4 ? 5 : 4);
	const uint8_t *order[5][2] = {{a, b}, {b, a}, {a, a}, {a, b}, {a, b}};
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < 2; k++)
			disk_digest_add(&d[i], order[i][k]);
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < i; k++)
			assert_true(d[i].h != d[k].h);
}

static void test_digests_of_blocks_depend_on_the_seed_and_holes_are_zeroes(void **state)
{
	static uint8_t block[DISK_BLOCK];
	uint8_t x[DISK_DIGEST_SIZE], y[DISK_DIGEST_SIZE];
	struct disk_hash *h, *g;
	assert_int_equal(disk_hash_new((const uint8_t *)"0123456789abcdef", &h, NULL), 0);
	assert_int_equal(disk_hash_new((const uint8_t *)"0123456789abcdeg", &g, NULL), 0);
	disk_hash_block(h, block, sizeof block, x);
	disk_hash_block(h, NULL, sizeof block, y);
	assert_memory_equal(x, y, sizeof x);
	disk_hash_block(g, NULL, sizeof block, y);
	assert_memory_not_equal(x, y, sizeof x);
	disk_hash_block(h, NULL, 1536, x);
	disk_hash_block(h, block, 1536, y);
	assert_memory_equal(x, y, sizeof x);
	/* A known answer: two hosts with different builds must come to the same. */
	disk_hash_block(h, "mcd", 3, x);
	static const uint8_t want[DISK_DIGEST_SIZE] = {0x18, 0xb4, 0x86, 0xfd, 0x77, 0xeb, 0x2f,
		0xfb, 0x5e, 0xe7, 0x30, 0xa2, 0xff, 0x2e, 0x0f, 0x6f};
	assert_memory_equal(x, want, sizeof x);
	disk_hash_free(h);
	disk_hash_free(g);
}

static void test_a_peers_sentence_cannot_forge_a_log(void **state)
{
	char text[DISK_TEXT_MAX + 1];
	disk_get_text((const uint8_t *)"full\n\033[2J\0x", 11, text);
	assert_string_equal(text, "full??[2J?x");
	uint8_t large[DISK_TEXT_MAX + 5];
	memset(large, 'a', sizeof large);
	disk_get_text(large, sizeof large, text);
	assert_int_equal(strlen(text), DISK_TEXT_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type_comes_back_as_it_was),
		cmocka_unit_test(test_unused_fields_are_encoded_as_zero),
		cmocka_unit_test(test_every_flipped_bit_is_refused),
		cmocka_unit_test(test_every_field_is_checked),
		cmocka_unit_test(test_hello_comes_back_as_it_was_and_no_shorter_or_longer_one_does),
		cmocka_unit_test(test_every_field_of_a_hello_is_checked),
		cmocka_unit_test(test_a_sum_is_possible_or_refused),
		cmocka_unit_test(test_the_digest_of_an_epoch_covers_order_epoch_and_payloads),
		cmocka_unit_test(test_digests_of_blocks_depend_on_the_seed_and_holes_are_zeroes),
		cmocka_unit_test(test_a_peers_sentence_cannot_forge_a_log),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
