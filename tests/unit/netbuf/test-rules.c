/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules that all backends share, on the fake one, and the fake itself. */
#include "tests/fakes/netbuf-fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int presses;

static void on_pressure(void *ctx)
{
	presses++;
}

static struct netbuf *open_fake(uint64_t limit)
{
	static const struct netbuf_nic nics[2] = {{.id = "net0"}, {.id = "net1"}};
	struct netbuf_config cfg = {.vm = "vm1",
		.backend = "fake",
		.nics = nics,
		.n_nics = 2,
		.limit = limit,
		.pressure = on_pressure};
	struct netbuf *nb = NULL;
	presses = 0;
	assert_int_equal(netbuf_open(&cfg, &nb, NULL), 0);
	return nb;
}

static void expect(struct netbuf *nb, size_t nic, uint64_t epoch, const char *text)
{
	char buf[100];
	size_t from = 99;
	uint64_t e = 99;
	ssize_t n = netbuf_fake_take(nb, buf, sizeof buf, &from, &e);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, (size_t)n);
	assert_int_equal(from, nic);
	assert_int_equal(e, epoch);
}

static void expect_none(struct netbuf *nb)
{
	char buf[100];
	assert_int_equal(netbuf_fake_take(nb, buf, sizeof buf, NULL, NULL), -EAGAIN);
}

#define SEND(nb, nic, text) assert_int_equal(netbuf_fake_send(nb, nic, text, strlen(text)), 0)

static void refuse(int r, const struct mc_error *err, const char *cls)
{
	assert_true(r < 0);
	assert_string_equal(err->cls, cls);
	assert_true(strlen(err->msg) > 10);
}

static void test_epochs_end_in_order(void **state)
{
	struct netbuf *nb = open_fake(1 << 20);
	struct mc_error err = MC_ERROR_INIT;
	refuse(netbuf_barrier(nb, 1, &err), &err, MC_ECLASS_STATE);
	assert_int_equal(netbuf_hold(nb, 5, NULL), 0);
	refuse(netbuf_barrier(nb, 4, &err), &err, MC_ECLASS_STATE);
	refuse(netbuf_barrier(nb, 6, &err), &err, MC_ECLASS_STATE);
	assert_int_equal(netbuf_barrier(nb, 5, NULL), 0);
	refuse(netbuf_barrier(nb, 5, &err), &err, MC_ECLASS_STATE);
	netbuf_close(nb);
}

static void test_a_running_epoch_is_not_released(void **state)
{
	struct netbuf *nb = open_fake(1 << 20);
	struct mc_error err = MC_ERROR_INIT;
	refuse(netbuf_release(nb, 1, &err), &err, MC_ECLASS_STATE);
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	SEND(nb, 0, "a");
	refuse(netbuf_release(nb, 1, &err), &err, MC_ECLASS_STATE);
	expect_none(nb);
	assert_int_equal(netbuf_barrier(nb, 1, NULL), 0);
	SEND(nb, 1, "b");
	assert_int_equal(netbuf_release(nb, 1, NULL), 0);
	assert_int_equal(netbuf_release(nb, 1, NULL), 0);
	expect(nb, 0, 1, "a");
	expect_none(nb);
	netbuf_close(nb);
}

static void test_holding_again_changes_nothing(void **state)
{
	struct netbuf *nb = open_fake(1 << 20);
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	SEND(nb, 0, "a");
	assert_int_equal(netbuf_barrier(nb, 1, NULL), 0);
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	SEND(nb, 0, "b");
	assert_int_equal(netbuf_barrier(nb, 2, NULL), 0);
	expect_none(nb);
	assert_int_equal(netbuf_release(nb, 2, NULL), 0);
	expect(nb, 0, 1, "a");
	expect(nb, 0, 2, "b");
	netbuf_close(nb);
}

static void test_closed_and_open(void **state)
{
	struct netbuf *nb = open_fake(1 << 20);
	struct mc_error err = MC_ERROR_INIT;
	SEND(nb, 0, "lost");
	assert_false(netbuf_fake_input(nb, 0, "in", 2));
	refuse(netbuf_announce(nb, &err), &err, MC_ECLASS_STATE);
	assert_int_equal(netbuf_pass(nb, NULL), 0);
	SEND(nb, 1, "a");
	expect(nb, 1, 0, "a");
	assert_true(netbuf_fake_input(nb, 0, "in", 2));
	assert_int_equal(netbuf_announce(nb, NULL), 0);
	assert_int_equal(netbuf_fake_calls(nb, NETBUF_FAKE_ANNOUNCE), 1);
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	SEND(nb, 0, "b");
	assert_int_equal(netbuf_shut(nb, NULL), 0);
	assert_int_equal(netbuf_pass(nb, NULL), 0);
	expect_none(nb);
	struct netbuf_stats st;
	netbuf_get_stats(nb, &st);
	assert_int_equal(st.dropped_frames, 3); /* "lost", "in", "b" */
	assert_int_equal(st.released_frames, 1);
	netbuf_close(nb);
}

static void test_limit_and_pressure(void **state)
{
	struct netbuf *nb = open_fake(1000);
	char big[200] = {0};
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	while (netbuf_fake_send(nb, 0, big, sizeof big) == 0)
		;
	assert_int_equal(netbuf_fake_send(nb, 0, big, sizeof big), -EAGAIN);
	assert_int_equal(presses, 1);
	assert_int_equal(netbuf_barrier(nb, 1, NULL), 0);
	assert_int_equal(presses, 2);
	assert_int_equal(netbuf_release(nb, 1, NULL), 0);
	assert_int_equal(netbuf_fake_send(nb, 0, big, sizeof big), 0);
	netbuf_close(nb);
}

static void test_injected_failures_happen_once_and_change_nothing(void **state)
{
	struct netbuf *nb = open_fake(1 << 20);
	struct mc_error err = MC_ERROR_INIT;
	assert_ptr_equal(netbuf_fake_find("vm1"), nb);
	assert_null(netbuf_fake_find("vm2"));
	assert_int_equal(netbuf_hold(nb, 1, NULL), 0);
	SEND(nb, 0, "a");
	netbuf_fake_fail(nb, NETBUF_FAKE_BARRIER, 1, EIO);
	assert_int_equal(netbuf_barrier(nb, 1, NULL), 0);
	assert_int_equal(netbuf_barrier(nb, 2, &err), -EIO);
	assert_int_equal(netbuf_barrier(nb, 2, NULL), 0);
	netbuf_fake_fail(nb, NETBUF_FAKE_PASS, 0, EPERM);
	assert_int_equal(netbuf_pass(nb, &err), -EPERM);
	expect_none(nb);
	assert_int_equal(netbuf_release(nb, 2, NULL), 0); /* so it is still holding */
	expect(nb, 0, 1, "a");
	netbuf_close(nb);
	assert_null(netbuf_fake_find("vm1"));
}

static void test_bad_configurations_are_refused(void **state)
{
	struct netbuf_nic nics[17] = {{.id = "net0"}, {.id = "net0"}};
	struct netbuf_config cfg = {
		.vm = "vm1", .backend = "fake", .nics = nics, .n_nics = 2, .limit = 1};
	struct netbuf *nb = NULL;
	struct mc_error err = MC_ERROR_INIT;
	refuse(netbuf_open(&cfg, &nb, &err), &err, MC_ECLASS_CONFIG); /* two of one name */
	cfg.n_nics = 17;
	refuse(netbuf_open(&cfg, &nb, &err), &err, MC_ECLASS_CONFIG);
	cfg.n_nics = 1;
	cfg.limit = 0;
	refuse(netbuf_open(&cfg, &nb, &err), &err, MC_ECLASS_CONFIG);
	cfg.limit = 1;
	cfg.backend = "magic";
	refuse(netbuf_open(&cfg, &nb, &err), &err, MC_ECLASS_CONFIG);
	refuse(netbuf_probe("magic", NULL, &err), &err, MC_ECLASS_CONFIG);
	assert_null(nb);
	netbuf_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_epochs_end_in_order),
		cmocka_unit_test(test_a_running_epoch_is_not_released),
		cmocka_unit_test(test_holding_again_changes_nothing),
		cmocka_unit_test(test_closed_and_open),
		cmocka_unit_test(test_limit_and_pressure),
		cmocka_unit_test(test_injected_failures_happen_once_and_change_nothing),
		cmocka_unit_test(test_bad_configurations_are_refused),
	};
	return cmocka_run_group_tests_name("netbuf rules", tests, NULL, NULL);
}
