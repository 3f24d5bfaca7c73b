/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/queue.h"
#include "tests/unit/dies.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t buf[QUEUE_FRAME_MAX + 1];

static int push(struct queue *q, uint64_t epoch, size_t nic, uint32_t number, size_t len)
{
	memcpy(buf, &number, sizeof number);
	struct iovec iov[2] = {{buf, 4}, {buf + 4, len - 4}};
	return queue_push(q, epoch, nic, iov, 2);
}

static uint32_t number_of(const struct queue_frame *f)
{
	uint32_t n;
	memcpy(&n, f->data, sizeof n);
	return n;
}

static void test_first_in_first_out(void **state)
{
	struct queue q = {0};
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(push(&q, 1 + i / 1000, i % 3, i, 60 + i), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		struct queue_frame *f = queue_head(&q);
		assert_int_equal(number_of(f), i);
		assert_int_equal(f->len, 60 + i);
		assert_int_equal(f->nic, i % 3);
		assert_int_equal(f->epoch, 1 + i / 1000);
		queue_pop(&q);
	}
	assert_null(queue_head(&q));
	assert_int_equal(q.bytes, 0);
	queue_destroy(&q);
}

static void test_too_large_a_frame_changes_nothing(void **state)
{
	struct queue q = {0};
	assert_int_equal(push(&q, 1, 0, 1, QUEUE_FRAME_MAX + 1), -EMSGSIZE);
	assert_int_equal(q.frames, 0);
	assert_int_equal(push(&q, 1, 0, 1, QUEUE_FRAME_MAX), 0);
	assert_int_equal(q.bytes, queue_cost(QUEUE_FRAME_MAX));
	queue_destroy(&q);
}

static void push_an_earlier_epoch(void *q)
{
	push(q, 6, 0, 2, 60);
}
static void pop_nothing(void *q)
{
	queue_pop(q);
}

/* Or a release would let it out, or hold it back, with the wrong ones. */
static void test_an_earlier_epoch_behind_a_later_one_is_refused(void **state)
{
	struct queue q = {0};
	assert_int_equal(push(&q, 7, 0, 1, 60), 0);
	assert_true(dies(push_an_earlier_epoch, &q));
	queue_pop(&q);
	assert_false(dies(push_an_earlier_epoch, &q)); /* of another hold */
	assert_true(dies(pop_nothing, &q));
	queue_destroy(&q);
}

/* Against a plain array, with chunks filled, cut in the middle and emptied in all ways. */
static void test_agrees_with_a_model(void **state)
{
	enum { MAX = 4000 };
	static struct {
		uint32_t number;
		uint64_t epoch;
		size_t len;
	} model[MAX];
	size_t head = 0, tail = 0; /* model[head..tail) */
	uint64_t epoch = 1;
	uint32_t number = 0;
	struct queue q = {0};
	srandom(1);
	for (int step = 0; step < 60000; step++) {
		switch (random() % 40) {
		default:
			if (tail == MAX)
				break;
			model[tail].number = number++;
			model[tail].epoch = epoch;
			model[tail].len = random() % 20 ? 20 + (size_t)random() % 1500
							: 4 + (size_t)random() % 70000;
			assert_int_equal(
				push(&q, epoch, 0, model[tail].number, model[tail].len), 0);
			tail++;
			break;
		case 0 ... 13:
			if (head == tail)
				break;
			queue_pop(&q);
			head++;
			break;
		case 14:
			epoch++;
			break;
		case 16:
			if (random() % 200)
				break;
			assert_int_equal(queue_clear(&q), tail - head);
			head = tail;
			break;
		}
		if (head == tail || tail == MAX) {
			memmove(model, model + head, (tail - head) * sizeof *model);
			tail -= head;
			head = 0;
		}
		uint64_t bytes = 0;
		if (step % 100 == 0) {
			for (size_t i = head; i < tail; i++)
				bytes += queue_cost(model[i].len);
			assert_int_equal(q.bytes, bytes);
		}
		assert_int_equal(q.frames, tail - head);
		struct queue_frame *f = queue_head(&q);
		assert_int_equal(!f, head == tail);
		if (f) {
			assert_int_equal(number_of(f), model[head].number);
			assert_int_equal(f->len, model[head].len);
			assert_int_equal(f->epoch, model[head].epoch);
		}
	}
	queue_destroy(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_in_first_out),
		cmocka_unit_test(test_too_large_a_frame_changes_nothing),
		cmocka_unit_test(test_an_earlier_epoch_behind_a_later_one_is_refused),
		cmocka_unit_test(test_agrees_with_a_model),
	};
	return cmocka_run_group_tests_name("netbuf queue", tests, NULL, NULL);
}
