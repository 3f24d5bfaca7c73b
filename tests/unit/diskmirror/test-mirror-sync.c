/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is sent of a synchronisation when the standby has been one before. */
#include "mirror-fixture.h"

#include "common/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS (BIG_SIZE / DISK_BLOCK)

static struct mc_error err;

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
}

struct sync {
	struct fixture *x;
	struct nbd_handle *big, *small;
	uint8_t *mine; /* the primary's content of "big": at first the standby's */
};

/* A standby with random content, and clients. The table is not sent yet. */
static struct sync start(void)
{
	struct sync s = {.x = fixture_open(64u << 20, 10 * MC_SEC), .mine = malloc(BIG_SIZE)};
	fill(s.mine, BIG_SIZE, 42);
	memcpy(fake_image(s.x->f, 0), s.mine, BIG_SIZE);
	s.big = fixture_client(s.x, "big");
	s.small = fixture_client(s.x, "small");
	return s;
}

/* The answer to a READ comes after the tables, and is taken after them. */
static void send_table(struct sync *s, uint16_t disk, uint64_t first, size_t n)
{
	fake_send_table(s->x->f, disk, first, n);
	fixture_settle(s->x, s->big);
}

static void end(struct sync *s)
{
	fixture_client_done(s->big);
	fixture_client_done(s->small);
	fixture_close(s->x);
	free(s->mine);
}

/* How many blocks of 64 KiB were touched by messages since message number `from`, which moves
 * on. */
static size_t blocks_sent(struct sync *s, size_t *from)
{
	fixture_settle(s->x, s->big);
	size_t n, blocks = 0;
	struct fake_message *l = fake_log(s->x->f, &n);
	for (size_t i = *from; i < n; i++)
		if (l[i].h.type == DISK_WRITE || l[i].h.type == DISK_ZERO ||
			l[i].h.type == DISK_TRIM)
			blocks += (l[i].h.offset + l[i].h.length - 1) / DISK_BLOCK -
				  l[i].h.offset / DISK_BLOCK + 1;
	free(l);
	*from = n;
	return blocks;
}

static void write_all(struct sync *s)
{
	for (size_t at = 0; at < BIG_SIZE; at += 1u << 20)
		assert_int_equal(nbd_pwrite(s->big, s->mine + at, 1u << 20, at, 0), 0);
}

static void assert_same(struct sync *s)
{
	fixture_settle(s->x, s->big);
	assert_memory_equal(fake_image(s->x->f, 0), s->mine, BIG_SIZE);
}

static uint64_t skipped(struct sync *s)
{
	struct mirror_stats st;
	mirror_get_stats(s->x->m, &st);
	return st.skipped_bytes;
}

static void test_only_blocks_that_differ_are_sent(void **state)
{
	struct sync s = start();
	size_t from = 0;
	send_table(&s, 0, 0, BLOCKS);
	s.mine[0] ^= 1;
	s.mine[5 * DISK_BLOCK - 1] ^= 1;
	s.mine[5 * DISK_BLOCK] ^= 1;
	s.mine[BIG_SIZE - 1] ^= 1;
	write_all(&s);
	assert_int_equal(blocks_sent(&s, &from), 4);
	assert_int_equal(skipped(&s), BIG_SIZE - 4 * DISK_BLOCK);
	assert_same(&s);
	end(&s);
}

static void test_what_the_standby_has_not_described_is_sent(void **state)
{
	struct sync s = start();
	size_t from = 0;
	send_table(&s, 0, 16, 32);
	write_all(&s);
	assert_int_equal(blocks_sent(&s, &from), BLOCKS - 32);
	assert_same(&s);
	end(&s);
}

static void test_parts_of_blocks_are_sent(void **state)
{
	struct sync s = start();
	size_t from = 0;
	send_table(&s, 0, 0, BLOCKS);
	/* The two blocks in the middle are whole. */
	assert_int_equal(nbd_pwrite(s.big, s.mine + 512, 4 * DISK_BLOCK - 1024, 512, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), 2);
	assert_int_equal(skipped(&s), 2 * DISK_BLOCK);
	end(&s);
}

static void test_a_block_that_was_sent_is_sent_again_even_if_it_is_back_to_what_it_was(void **state)
{
	struct sync s = start();
	size_t from = 0;
	send_table(&s, 0, 0, BLOCKS);
	uint8_t other[1] = {(uint8_t)(s.mine[3 * DISK_BLOCK + 77] + 1)};
	assert_int_equal(nbd_pwrite(s.big, other, 1, 3 * DISK_BLOCK + 77, 0), 0);
	assert_int_equal(nbd_zero(s.big, DISK_BLOCK, 9 * DISK_BLOCK, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), 2);
	write_all(&s);
	assert_int_equal(blocks_sent(&s, &from), 2);
	assert_same(&s);
	end(&s);
}

static void test_a_description_that_comes_after_a_write_does_not_count(void **state)
{
	struct sync s = start();
	size_t from = 0;
	/* Made of the content before the write, as a standby that reads its disk slowly may. */
	uint8_t *before = malloc(DISK_BLOCK);
	memcpy(before, s.mine + 7 * DISK_BLOCK, DISK_BLOCK);
	uint8_t *other = malloc(DISK_BLOCK);
	fill(other, DISK_BLOCK, 1);
	assert_int_equal(nbd_pwrite(s.big, other, DISK_BLOCK, 7 * DISK_BLOCK, 0), 0);
	fixture_settle(s.x, s.big);
	memcpy(fake_image(s.x->f, 0) + 7 * DISK_BLOCK, before, DISK_BLOCK);
	send_table(&s, 0, 0, BLOCKS);
	memcpy(fake_image(s.x->f, 0) + 7 * DISK_BLOCK, other, DISK_BLOCK);
	from = 0;
	blocks_sent(&s, &from);
	write_all(&s);
	assert_int_equal(blocks_sent(&s, &from), 1);
	assert_same(&s);
	free(before);
	free(other);
	end(&s);
}

static void test_zeroes_that_the_standby_has_are_not_sent(void **state)
{
	struct sync s = start();
	size_t from = 0;
	memset(fake_image(s.x->f, 0) + 8 * DISK_BLOCK, 0, 100 * DISK_BLOCK);
	send_table(&s, 0, 0, BLOCKS);
	assert_int_equal(nbd_zero(s.big, BIG_SIZE, 0, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), BLOCKS - 100);
	assert_int_equal(skipped(&s), 100 * DISK_BLOCK);
	memset(s.mine, 0, BIG_SIZE);
	assert_same(&s);
	end(&s);
}

static void test_the_short_block_at_the_end_is_compared_too(void **state)
{
	struct sync s = start();
	size_t from = 0;
	uint8_t *content = malloc(SMALL_SIZE);
	fill(content, SMALL_SIZE, 9);
	memcpy(fake_image(s.x->f, 1), content, SMALL_SIZE);
	send_table(&s, 1, 0, 4);
	assert_int_equal(nbd_pwrite(s.small, content, SMALL_SIZE, 0, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), 0);
	assert_int_equal(nbd_zero(s.small, SMALL_SIZE, 0, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), 4);
	free(content);
	end(&s);

	s = start();
	from = 0;
	send_table(&s, 1, 0, 4);
	assert_int_equal(nbd_zero(s.small, SMALL_SIZE, 0, 0), 0);
	assert_int_equal(blocks_sent(&s, &from), 0);
	end(&s);
}

static void test_in_an_epoch_everything_is_sent(void **state)
{
	struct sync s = start();
	struct disk_epoch_sum sum;
	size_t from = 0;
	send_table(&s, 0, 0, BLOCKS);
	mirror_begin(s.x->m, 1);
	write_all(&s);
	mirror_barrier(s.x->m, 1, &sum);
	assert_int_equal(sum.bytes, BIG_SIZE);
	assert_int_equal(mirror_end(s.x->m, 1, false, &err), 0);
	assert_int_equal(blocks_sent(&s, &from), BLOCKS);
	assert_int_equal(skipped(&s), 0);
	send_table(&s, 0, 0, BLOCKS); /* late: harmless */
	write_all(&s);
	assert_int_equal(blocks_sent(&s, &from), BLOCKS);
	end(&s);
}

/* The race of a skip against another connection's write to the same block. */
struct racer {
	struct sync *s;
	const uint8_t *content;
	bool original; /* writes what the standby's table says */
};

static void *race(void *arg)
{
	struct racer *r = arg;
	struct nbd_handle *h = fixture_client(r->s->x, "big");
	unsigned seed = r->original;
	for (int i = 0; i < 300; i++) {
		size_t b = (unsigned)rand_r(&seed) % BLOCKS;
		assert_int_equal(
			nbd_pwrite(h, r->content + b * DISK_BLOCK, DISK_BLOCK, b * DISK_BLOCK, 0),
			0);
	}
	fixture_client_done(h);
	return NULL;
}

static void test_connections_that_race_for_a_block_leave_one_of_their_contents_whole(void **state)
{
	struct sync s = start();
	uint8_t *other = malloc(BIG_SIZE);
	pthread_t t[2];
	fill(other, BIG_SIZE, 4711);
	struct racer a = {&s, s.mine, true}, b = {&s, other, false};
	send_table(&s, 0, 0, BLOCKS);
	pthread_create(&t[0], NULL, race, &a);
	pthread_create(&t[1], NULL, race, &b);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	/* The guest's last word on each block, said while nobody else speaks. */
	write_all(&s);
	assert_same(&s);
	free(other);
	end(&s);
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(only_blocks_that_differ_are_sent),
		T(what_the_standby_has_not_described_is_sent),
		T(parts_of_blocks_are_sent),
		T(a_block_that_was_sent_is_sent_again_even_if_it_is_back_to_what_it_was),
		T(a_description_that_comes_after_a_write_does_not_count),
		T(zeroes_that_the_standby_has_are_not_sent),
		T(the_short_block_at_the_end_is_compared_too),
		T(in_an_epoch_everything_is_sent),
		T(connections_that_race_for_a_block_leave_one_of_their_contents_whole),
	};
	return cmocka_run_group_tests_name("mirror-sync", tests, NULL, NULL);
}
