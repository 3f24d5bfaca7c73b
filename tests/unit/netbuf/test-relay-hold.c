/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may leave the host, and when. */
#include "testnet.h"

#include "common/clock.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Counters follow the frames: the last one may be seen before it is counted. */
#define WAIT_STAT(t, member, value)                                                                \
	do {                                                                                       \
		uint64_t deadline_ = mc_now() + 2 * MC_SEC;                                        \
		while (tn_stats(t).member < (value) && mc_now() < deadline_)                       \
			usleep(200);                                                               \
		assert_int_equal(tn_stats(t).member, value);                                       \
	} while (0)

static void test_starts_closed(void **state)
{
	struct tn *t = tn_open(1, "", 16 * MIB, NULL);
	static struct tn_frame f;
	uint8_t in[60];
	tn_build(in, sizeof in, tn_mac, 0x0800, 9);
	for (unsigned i = 0; i < 10; i++) {
		tn_send(t, 0, i);
		tn_inject(t->ifname[0], NULL, in, sizeof in);
	}
	WAIT_STAT(t, dropped_frames, 20);
	tn_expect_none(t);
	assert_false(tn_guest_read(netbuf_guest_fd(t->nb, 0), &f, 0));
	tn_close(t);
}

static void test_pass_lets_everything_through(void **state)
{
	struct tn *t = tn_open(2, "", 16 * MIB, NULL);
	OK(netbuf_pass(t->nb, &err_));
	for (unsigned i = 0; i < 200; i++) {
		tn_send(t, i % 2, i);
		tn_expect(t, i % 2, i);
	}
	WAIT_STAT(t, released_frames, 200);
	WAIT_STAT(t, released_bytes, 200 * 60);
	assert_int_equal(tn_stats(t).held_frames, 0);
	tn_close(t);
}

static void test_output_waits_for_release(void **state)
{
	struct tn *t = tn_open(2, "", 16 * MIB, NULL);
	OK(netbuf_hold(t->nb, 7, &err_));
	/* Nobody waits for the relay's thread before the barrier: that itself must collect. */
	for (unsigned i = 0; i < 100; i++)
		tn_send(t, 0, i);
	for (unsigned i = 100; i < 200; i++)
		tn_send(t, 1, i);
	OK(netbuf_barrier(t->nb, 7, &err_));
	assert_int_equal(tn_stats(t).held_frames, 200);
	for (unsigned i = 0; i < 50; i++) {
		tn_send(t, 1, 1000 + i);
		tn_send(t, 0, 2000 + i);
	}
	OK(netbuf_barrier(t->nb, 8, &err_));
	tn_send(t, 0, 3000);
	tn_wait_held(t, 301);
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 7, &err_));
	/* All NICs' frames of an epoch come before any of the next; within a NIC order is kept. */
	unsigned next[2] = {0, 100};
	static struct tn_frame f;
	for (unsigned i = 0; i < 200; i++) {
		assert_true(tn_read(t, &f, 1000));
		assert_int_equal(tn_number(&f), next[f.nic]++);
	}
	tn_expect_none(t);
	assert_int_equal(tn_stats(t).held_frames, 101);
	OK(netbuf_barrier(t->nb, 9, &err_));
	OK(netbuf_release(t->nb, 9, &err_));
	next[0] = 2000;
	next[1] = 1000;
	for (unsigned i = 0; i < 100; i++) {
		assert_true(tn_read(t, &f, 1000));
		assert_int_equal(tn_number(&f), next[f.nic]++);
	}
	tn_expect(t, 0, 3000);
	tn_expect_none(t);
	assert_int_equal(tn_stats(t).held_bytes, 0);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	tn_close(t);
}

/* The historic hole: a filter for IPv4 only let ARP and IPv6 escape the hold. */
static void test_no_kind_of_frame_leaks(void **state)
{
	static const struct {
		const char *what;
		uint16_t type;
		uint8_t dst[6];
	} kinds[] = {
		{"ARP", 0x0806, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"IPv4", 0x0800, {0x52, 0x54, 0, 0, 1, 1}},
		{"IPv6", 0x86dd, {0x52, 0x54, 0, 0, 1, 1}},
		{"IPv6 multicast", 0x86dd, {0x33, 0x33, 0, 0, 0, 1}},
		{"IPv4 multicast", 0x0800, {1, 0, 0x5e, 0, 0, 5}},
		{"broadcast", 0x0800, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"LLDP", 0x88cc, {1, 0x80, 0xc2, 0, 0, 0x0e}},
		{"STP", 0x0026, {1, 0x80, 0xc2, 0, 0, 0}},
		{"pause", 0x8808, {1, 0x80, 0xc2, 0, 0, 1}},
		{"RARP", 0x8035, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{"VLAN", 0x8100, {0x52, 0x54, 0, 0, 1, 1}},
		{"QinQ", 0x88a8, {0x52, 0x54, 0, 0, 1, 1}},
		{"unknown", 0xabcd, {0x52, 0x54, 0, 0, 1, 1}},
		{"to itself", 0x0800, {0x52, 0x54, 0, 0, 0, 1}},
	};
	size_t n = sizeof kinds / sizeof *kinds;
	struct tn *t = tn_open(1, "", 16 * MIB, NULL);
	static struct tn_frame f;
	uint8_t sent[sizeof kinds / sizeof *kinds][100];
	OK(netbuf_hold(t->nb, 1, &err_));
	for (size_t i = 0; i < n; i++) {
		tn_build(sent[i], 100, kinds[i].dst, kinds[i].type, (uint32_t)i);
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, sent[i], 100);
	}
	tn_wait_held(t, n);
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 1, &err_));
	for (size_t i = 0; i < n; i++) {
		if (!tn_read(t, &f, 1000))
			fail_msg("%s did not come out", kinds[i].what);
		if (f.len != 100 || memcmp(f.data, sent[i], 100))
			fail_msg("%s was changed", kinds[i].what);
	}
	tn_expect_none(t);
	tn_close(t);
}

static void test_shut_drops_what_is_held(void **state)
{
	struct tn *t = tn_open(1, "", 16 * MIB, NULL);
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 1);
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_send(t, 0, 2);
	OK(netbuf_shut(t->nb, &err_));
	tn_send(t, 0, 3);
	uint8_t in[60];
	static struct tn_frame f;
	tn_build(in, sizeof in, tn_mac, TN_LOCAL, 5);
	tn_inject(t->ifname[0], NULL, in, sizeof in);
	WAIT_STAT(t, dropped_frames, 4);
	assert_false(tn_guest_read(netbuf_guest_fd(t->nb, 0), &f, 0));
	struct mc_error err = MC_ERROR_INIT;
	assert_true(netbuf_release(t->nb, 1, &err) < 0);
	OK(netbuf_pass(t->nb, &err_));
	tn_send(t, 0, 4);
	tn_expect(t, 0, 4);
	tn_expect_none(t);
	assert_int_equal(tn_stats(t).dropped_frames, 4);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	tn_close(t);
}

static void test_pass_lets_held_output_out_first(void **state)
{
	struct tn *t = tn_open(1, "", 64 * MIB, NULL);
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned i = 0; i < 3000; i++) {
		tn_send(t, 0, i);
		if (i == 1000)
			OK(netbuf_barrier(t->nb, 1, &err_));
	}
	OK(netbuf_pass(t->nb, &err_));
	tn_send(t, 0, 3000);
	for (unsigned i = 0; i <= 3000; i++)
		tn_expect(t, 0, i);
	OK(netbuf_hold(t->nb, 100, &err_));
	tn_send(t, 0, 1);
	OK(netbuf_barrier(t->nb, 100, &err_));
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 100, &err_));
	tn_expect(t, 0, 1);
	tn_close(t);
}

static void test_input_passes_while_holding(void **state)
{
	struct tn *t = tn_open(1, "", 16 * MIB, NULL);
	static struct tn_frame f;
	uint8_t in[60];
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned i = 0; i < 100; i++) {
		tn_build(in, sizeof in, tn_mac, 0x0800, i);
		tn_inject(t->ifname[0], NULL, in, sizeof in);
		assert_true(tn_guest_read(netbuf_guest_fd(t->nb, 0), &f, 1000));
		assert_int_equal(f.len, 60);
		assert_memory_equal(f.data, in, 60);
	}
	/* What the guest receives is not its output. */
	OK(netbuf_barrier(t->nb, 1, &err_));
	assert_int_equal(tn_stats(t).held_frames, 0);
	WAIT_STAT(t, input_frames, 100);
	WAIT_STAT(t, input_bytes, 6000);
	tn_close(t);
}

static void test_pressure_once_per_epoch(void **state)
{
	struct tn *t = tn_open(1, "", 88 * 100, NULL); /* 100 frames of 60 bytes */
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned i = 0; i < 74; i++)
		tn_send(t, 0, i);
	tn_wait_held(t, 74);
	assert_int_equal(tn_pressed(t), 0);
	for (unsigned i = 74; i < 80; i++)
		tn_send(t, 0, i);
	tn_wait_held(t, 80);
	OK(netbuf_barrier(t->nb, 1, &err_));
	/* Once for epoch 1, and for epoch 2 at once because it starts above the mark. */
	assert_int_equal(tn_pressed(t), 2);
	OK(netbuf_release(t->nb, 1, &err_));
	OK(netbuf_barrier(t->nb, 2, &err_));
	assert_int_equal(tn_pressed(t), 2);
	tn_close(t);
}

static void test_limit_delays_but_loses_nothing(void **state)
{
	struct tn *t = tn_open(2, "", 100 * 88, NULL);
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned i = 0; i < 1000; i++)
		tn_send(t, i % 2, i);
	tn_wait_held(t, 100);
	/* The rest waits in the kernel; the barrier must count it to epoch 1 all the same. */
	OK(netbuf_barrier(t->nb, 1, &err_));
	assert_int_equal(tn_stats(t).held_frames, 1000);
	tn_send(t, 0, 1000);
	OK(netbuf_release(t->nb, 1, &err_));
	unsigned next[2] = {0, 1};
	static struct tn_frame f;
	for (unsigned i = 0; i < 1000; i++) {
		assert_true(tn_read(t, &f, 1000));
		assert_int_equal(tn_number(&f), next[f.nic]);
		next[f.nic] += 2;
	}
	tn_expect_none(t);
	/* Reading goes on by itself after the release. */
	tn_wait_held(t, 1);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	tn_close(t);
}

static void test_overrun_is_counted_as_lost(void **state)
{
	struct tn *t = tn_open(1, "", 88, NULL);
	static uint8_t f[60000];
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_build(f, sizeof f, tn_peer, 0x0800, 0);
	for (unsigned i = 0; i < 1000; i++)
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, f, sizeof f);
	struct netbuf_stats st = tn_stats(t);
	assert_true(st.lost_frames > 100 && st.lost_frames < 1000);
	OK(netbuf_barrier(t->nb, 1, &err_));
	assert_int_equal(tn_stats(t).held_frames + st.lost_frames, 1000);
	tn_close(t);
}

static void test_announce_sends_rarp_for_every_mac(void **state)
{
	struct tn *t = tn_open(2, "", MIB, NULL);
	struct mc_error err = MC_ERROR_INIT;
	static struct tn_frame f;
	assert_true(netbuf_announce(t->nb, &err) < 0);
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 1); /* still held */
	OK(netbuf_announce(t->nb, &err_));
	unsigned seen[2] = {0};
	for (unsigned i = 0; i < 10; i++) {
		if (!tn_read(t, &f, i < 2 ? 0 : 1000))
			fail_msg("only %u announcements", i);
		assert_int_equal(f.len, 60);
		assert_memory_equal(f.data, tn_broadcast, 6);
		assert_memory_equal(f.data + 6, t->nics[f.nic].mac, 6);
		assert_memory_equal(f.data + 12, "\x80\x35\0\1\x08\0\6\4\0\3", 10);
		assert_memory_equal(f.data + 22, t->nics[f.nic].mac, 6);
		assert_memory_equal(f.data + 32, t->nics[f.nic].mac, 6);
		seen[f.nic]++;
	}
	assert_int_equal(seen[0], 5);
	assert_int_equal(seen[1], 5);
	OK(netbuf_announce(t->nb, &err_));
	OK(netbuf_shut(t->nb, &err_));
	assert_true(tn_read(t, &f, 0) && tn_read(t, &f, 0));
	assert_false(tn_read(t, &f, 200)); /* a closed one has stopped announcing */
	tn_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_starts_closed),
		cmocka_unit_test(test_pass_lets_everything_through),
		cmocka_unit_test(test_output_waits_for_release),
		cmocka_unit_test(test_no_kind_of_frame_leaks),
		cmocka_unit_test(test_shut_drops_what_is_held),
		cmocka_unit_test(test_pass_lets_held_output_out_first),
		cmocka_unit_test(test_input_passes_while_holding),
		cmocka_unit_test(test_pressure_once_per_epoch),
		cmocka_unit_test(test_limit_delays_but_loses_nothing),
		cmocka_unit_test(test_overrun_is_counted_as_lost),
		cmocka_unit_test(test_announce_sends_rarp_for_every_mac),
	};
	return cmocka_run_group_tests_name("netbuf relay: hold", tests, tn_enter, NULL);
}
