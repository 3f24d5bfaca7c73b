/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fake transport keeps the promises of a real one, and its plan of faults. */
#include "common/clock.h"
#include "tests/fakes/transport-fake.h"
#include "tests/unit/wire/transport-fixture.h"

#include <errno.h>

static void fake_plan(
	const struct transport_fake_plan *plan, struct transport **a, struct transport **b)
{
	assert_int_equal(transport_fake_pair(plan, a, b, NULL), 0);
}

static void fake_cuts_after_the_planned_message(void **state)
{
	struct transport *a, *b;
	struct wire_header h = {.type = WIRE_SYNC_OK};
	fake_plan(&(struct transport_fake_plan){.cut_after = 2}, &a, &b);
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	post(b, WIRE_SYNC_OK, 1, NULL, 0); /* b's messages do not count */
	post(a, WIRE_SYNC_OK, 2, NULL, 0);
	assert_int_equal(transport_post(a, &h, NULL, NULL), -ECONNRESET);
	assert_int_equal(transport_post(b, &h, NULL, NULL), -ECONNRESET);
	expect(b, WIRE_SYNC_OK);
	assert_int_equal(expect(b, WIRE_SYNC_OK).epoch, 2);
	assert_int_equal(transport_recv(b, &h, in_ms(1000), -1, NULL), -ENODATA);
	transport_close(a);
	transport_close(b);
}

static void fake_corrupts_the_planned_message(void **state)
{
	struct transport *a, *b;
	char buf[100] = {0};
	struct mc_error err = MC_ERROR_INIT;
	fake_plan(&(struct transport_fake_plan){.corrupt_at = 2}, &a, &b);
	post(a, WIRE_COMMIT, 1, buf, sizeof buf);
	post(a, WIRE_COMMIT, 2, buf, sizeof buf);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), NULL), 0);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), &err), -EBADMSG);
	transport_close(a);
	transport_close(b);

	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){.corrupt_at = 1}, &a, &b);
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	assert_int_equal(transport_recv(b, &h, in_ms(1000), -1, &err), -EBADMSG);
	transport_close(a);
	transport_close(b);
}

static void fake_truncates_the_planned_message(void **state)
{
	struct transport *a, *b;
	char buf[100] = {0};
	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){.truncate_at = 1}, &a, &b);
	post(a, WIRE_COMMIT, 1, buf, sizeof buf);
	expect(b, WIRE_COMMIT);
	assert_int_equal(transport_recv_payload(b, buf, in_ms(1000), NULL), -ECONNRESET);
	assert_true(transport_recv(b, &h, in_ms(1000), -1, NULL) < 0);
	transport_close(a);
	transport_close(b);
}

static void fake_delays_every_message(void **state)
{
	struct transport *a, *b;
	struct wire_header h;
	fake_plan(&(struct transport_fake_plan){.delay_ns = 40 * MC_MSEC}, &a, &b);
	uint64_t before = mc_now();
	post(a, WIRE_SYNC_OK, 1, NULL, 0);
	assert_int_equal(transport_recv(b, &h, before + 10 * MC_MSEC, -1, NULL), -ETIMEDOUT);
	expect(b, WIRE_SYNC_OK);
	assert_true(mc_now() - before >= 40 * MC_MSEC);
	transport_close(a);
	transport_close(b);
}

int main(void)
{
	struct fixture f = {.kind = FAKE, .raw = -1};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fake_cuts_after_the_planned_message),
		cmocka_unit_test(fake_corrupts_the_planned_message),
		cmocka_unit_test(fake_truncates_the_planned_message),
		cmocka_unit_test(fake_delays_every_message),
	};
	return run_promises(&f, "fake") +
	       cmocka_run_group_tests_name("its plan", tests, NULL, NULL);
}
