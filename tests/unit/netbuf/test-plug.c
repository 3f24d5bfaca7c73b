/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is the plug's own: strict alternation, its limit, what others do to its interfaces. */
#include "testnet.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct tn_frame got;

/* The watch sees what the bridge sends on; where it came in it cannot see. */
static struct tn *start(size_t nics, uint64_t limit)
{
	return tn_open(nics, "br0", limit, "v1");
}

static void expect(struct tn *t, uint32_t number)
{
	if (!tn_read(t, &got, 2000))
		fail_msg("frame %u did not come out", number);
	assert_int_equal(tn_number(&got), number);
}

static void ifb_of(char ret[IF_NAMESIZE])
{
	struct netbuf_interface all[8];
	size_t n;
	OK(netbuf_find_interfaces(all, 8, &n, &err_));
	for (size_t i = 0; i < n; i++)
		if (!strncmp(all[i].ifname, "mq-", 3)) {
			assert_string_equal(all[i].vm, "vm1");
			memcpy(ret, all[i].ifname, IF_NAMESIZE);
			return;
		}
	fail_msg("there is no ifb");
}

static void test_barriers_and_releases_alternate(void **state)
{
	struct tn *t = start(1, MIB);
	struct mc_error err = MC_ERROR_INIT;
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 1);
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_send(t, 0, 2);
	assert_int_equal(netbuf_barrier(t->nb, 2, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "only one"));
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 1, &err_));
	expect(t, 1);
	OK(netbuf_release(t->nb, 1, &err_));
	usleep(5000);
	tn_expect_none(t);
	OK(netbuf_barrier(t->nb, 2, &err_));
	OK(netbuf_release(t->nb, 2, &err_));
	expect(t, 2);
	/* Epochs without output, and a refused one in between, do not spoil the counts. */
	for (unsigned n = 3; n < 20; n++) {
		if (n % 3 == 0)
			tn_send(t, 0, n);
		OK(netbuf_barrier(t->nb, n, &err_));
		assert_int_equal(netbuf_barrier(t->nb, n + 1, &err), -EBUSY);
		OK(netbuf_release(t->nb, n, &err_));
		if (n % 3 == 0)
			expect(t, n);
		tn_expect_none(t);
	}
	assert_int_equal(tn_stats(t).held_frames, 0);
	tn_close(t);
}

static void test_all_nics_share_one_barrier(void **state)
{
	struct tn *t = start(2, MIB);
	OK(netbuf_hold(t->nb, 7, &err_));
	for (unsigned i = 1; i <= 10; i++)
		tn_send(t, i % 2, i);
	OK(netbuf_barrier(t->nb, 7, &err_));
	for (unsigned i = 11; i <= 20; i++)
		tn_send(t, i % 2, i);
	assert_int_equal(tn_stats(t).held_frames, 20);
	OK(netbuf_release(t->nb, 7, &err_));
	for (unsigned i = 1; i <= 10; i++)
		expect(t, i);
	usleep(5000);
	tn_expect_none(t);
	OK(netbuf_pass(t->nb, &err_));
	for (unsigned i = 11; i <= 20; i++)
		expect(t, i);
	tn_send(t, 1, 21);
	expect(t, 21);
	tn_close(t);
}

static bool guest_hears(struct tn *t, uint32_t number)
{
	uint8_t in[60];
	tn_build(in, sizeof in, tn_mac, TN_LOCAL, number);
	memcpy(in + 6, tn_peer, 6);
	tn_inject("v1", NULL, in, sizeof in);
	while (tn_guest_read(netbuf_guest_fd(t->nb, 0), &got, 200))
		if (tn_number(&got) == number)
			return true;
	return false;
}

static void try_to_send(struct tn *t, uint32_t number)
{
	uint8_t f[70] = {0};
	tn_build(f + 10, 60, tn_peer, TN_LOCAL, number);
	ssize_t n = write(netbuf_guest_fd(t->nb, 0), f, sizeof f);
	assert_true(n == sizeof f || errno == EIO);
}

static void test_closed_lets_nothing_through_in_either_direction(void **state)
{
	struct tn *t = start(1, MIB);
	struct mc_error err = MC_ERROR_INIT;
	try_to_send(t, 1);
	assert_false(guest_hears(t, 100));
	OK(netbuf_hold(t->nb, 1, &err_)); /* what was sent while closed is gone */
	assert_int_equal(tn_stats(t).held_frames, 0);
	assert_true(guest_hears(t, 101));
	tn_send(t, 0, 2);
	assert_int_equal(tn_stats(t).held_frames, 1);
	OK(netbuf_shut(t->nb, &err_));
	assert_int_equal(tn_stats(t).held_frames, 0);
	assert_int_equal(tn_stats(t).dropped_frames, 1);
	try_to_send(t, 3);
	assert_false(guest_hears(t, 102));
	assert_true(netbuf_announce(t->nb, &err) < 0);
	OK(netbuf_pass(t->nb, &err_));
	tn_expect_none(t);
	assert_true(guest_hears(t, 103));
	tn_send(t, 0, 4);
	expect(t, 4);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	tn_close(t);
}

static void test_the_limit_presses_then_loses_and_says_so(void **state)
{
	struct tn *t = start(1, MIB);
	uint8_t f[1400];
	OK(netbuf_hold(t->nb, 1, &err_));
	/* By memory: 1.4 kB and as much again for each. */
	for (unsigned i = 0; i < 100; i++) {
		tn_build(f, sizeof f, tn_peer, TN_LOCAL, i);
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, f, sizeof f);
	}
	usleep(100000);
	assert_int_equal(tn_pressed(t), 0);
	for (unsigned i = 0; i < 300; i++)
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, f, sizeof f);
	for (unsigned i = 0; i < 2000 && !tn_pressed(t); i++)
		usleep(1000);
	assert_int_equal(tn_pressed(t), 1);
	OK(netbuf_barrier(t->nb, 1, &err_));
	assert_int_equal(tn_pressed(t), 2); /* the new epoch begins above the mark */
	assert_int_equal(tn_stats(t).lost_frames, 0);
	/* By what the kernel counts: bytes on the wire. */
	for (unsigned i = 0; i < 500; i++)
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, f, sizeof f);
	struct netbuf_stats st = tn_stats(t);
	assert_in_range(st.held_frames, MIB / sizeof f - 1, MIB / sizeof f);
	assert_int_equal(st.lost_frames, 900 - st.held_frames);
	assert_true(st.held_bytes_max >= st.held_bytes);
	OK(netbuf_release(t->nb, 1, &err_));
	OK(netbuf_pass(t->nb, &err_));
	assert_int_equal(tn_stats(t).lost_frames, st.lost_frames);
	tn_close(t);
}

static void test_large_epochs_leave_whole_and_not_early(void **state)
{
	enum { EPOCHS = 5, FRAMES = 4000 };
	struct tn *t = start(1, 64 * MIB);
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned n = 1; n <= EPOCHS; n++) {
		/* The one before may still be leaving. */
		for (unsigned i = 0; i < FRAMES; i++)
			tn_send(t, 0, n);
		OK(netbuf_barrier(t->nb, n, &err_));
		assert_in_range(tn_stats(t).released_frames, 0, (n - 1) * FRAMES);
		OK(netbuf_release(t->nb, n, &err_));
	}
	uint64_t deadline = mc_now() + 5 * MC_SEC;
	while (tn_stats(t).released_frames < EPOCHS * FRAMES && mc_now() < deadline)
		usleep(1000);
	struct netbuf_stats st = tn_stats(t);
	assert_int_equal(st.released_frames, EPOCHS * FRAMES);
	assert_int_equal(st.released_bytes, EPOCHS * FRAMES * 60);
	assert_int_equal(st.held_frames + st.lost_frames + st.dropped_frames, 0);
	tn_close(t);
}

static void test_large_segments_and_tags_arrive_as_they_were_sent(void **state)
{
	struct tn *t = start(1, 64 * MIB);
	static uint8_t buf[TN_FRAME_MAX];
	OK(netbuf_hold(t->nb, 1, &err_));
	for (unsigned i = 0; i < 2; i++) {
		struct virtio_net_hdr h;
		size_t len = tn_build_tso(buf, 20000, 1400, i, &h);
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), &h, 10, buf, len);
		assert_int_equal(tn_stats(t).held_frames, i + 1);
	}
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 1, &err_));
	size_t payload = 0;
	for (unsigned i = 0; i < 2; i++) {
		assert_true(tn_read(t, &got, 2000));
		assert_int_equal(got.tagged, i == 1);
		assert_int_equal(got.vnet.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
		assert_int_equal(got.vnet.gso_size, 1400);
		payload += got.len - 54 - 4 * i;
	}
	assert_int_equal(payload, 40000);
	assert_int_equal(tn_stats(t).released_frames, 2);
	tn_close(t);
}

static void test_announcements_reach_the_network(void **state)
{
	struct tn *t = start(2, MIB);
	OK(netbuf_pass(t->nb, &err_));
	OK(netbuf_announce(t->nb, &err_));
	unsigned heard = 0;
	while (heard < 10 && tn_read(t, &got, 1000)) {
		assert_memory_equal(got.data + 12, "\x80\x35", 2);
		assert_memory_equal(got.data + 6, tn_mac, 5);
		heard++;
	}
	assert_int_equal(heard, 10);
	/* The network finds the guest there from now on. */
	tn_run("bridge fdb show br br0 | grep -q '52:54:00:00:00:01 dev %s '", t->ifname[0]);
	/* While held, none may get among the guest's frames. */
	OK(netbuf_announce(t->nb, &err_));
	OK(netbuf_hold(t->nb, 1, &err_));
	while (tn_read(t, &got, 100))
		;
	usleep(600000);
	assert_int_equal(tn_stats(t).held_frames, 0);
	tn_close(t);
}

/* For each % in the command. */
static void put_name(char *out, size_t cap, const char *command, const char *name)
{
	size_t n = 0;
	for (; *command && n + 1 < cap; command++)
		n += (size_t)snprintf(out + n, cap - n, *command == '%' ? "%s" : "%.1s",
			*command == '%' ? name : command);
}

static void test_what_others_took_away_ends_the_hold_and_is_mended(void **state)
{
	static const char *const deeds[] = {"tc qdisc del dev % ingress",
		"tc filter del dev % ingress", "ip link del %", "ip link set % down",
		"tc qdisc replace dev % root pfifo limit 10",
		"tc qdisc replace dev % root handle 9: plug limit 100"};
	for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++) {
		struct tn *t = start(1, MIB);
		struct mc_error err = MC_ERROR_INIT;
		char ifb[IF_NAMESIZE], deed[100];
		ifb_of(ifb);
		OK(netbuf_hold(t->nb, 1, &err_));
		tn_send(t, 0, 1);
		OK(netbuf_barrier(t->nb, 1, &err_));
		put_name(deed, sizeof deed, deeds[i], i < 2 ? t->ifname[0] : ifb);
		tn_run("%s", deed);
		/* Told at once, so that the epoch ends. */
		for (unsigned k = 0; i < 4 && !tn_pressed(t) && k < 2000; k++)
			usleep(1000);
		assert_true(i >= 4 || tn_pressed(t) >= 1);
		int r = netbuf_release(t->nb, 1, &err);
		if (r == 0)
			r = netbuf_barrier(t->nb, 2, &err);
		if (r >= 0)
			fail_msg("nobody noticed: %s", deed);
		assert_true(i >= 4 || strstr(err.msg, "somebody"));
		/* A sole owner goes on, and can be protected again. */
		OK(netbuf_pass(t->nb, &err_));
		while (tn_read(t, &got, 50))
			;
		tn_send(t, 0, 2);
		expect(t, 2);
		OK(netbuf_hold(t->nb, 1, &err_));
		tn_send(t, 0, 3);
		assert_int_equal(tn_stats(t).held_frames, 1);
		OK(netbuf_barrier(t->nb, 1, &err_));
		tn_expect_none(t);
		OK(netbuf_release(t->nb, 1, &err_));
		expect(t, 3);
		tn_close(t);
	}
}

static void test_foreign_filters_are_refused(void **state)
{
	static const char *const deeds[] = {"tc filter add dev % ingress pref 7 matchall action ok",
		"tc qdisc del dev % ingress; tc qdisc add dev % clsact"};
	for (size_t i = 0; i < 2; i++) {
		struct tn *t = start(1, MIB);
		struct mc_error err = MC_ERROR_INIT;
		OK(netbuf_pass(t->nb, &err_));
		char deed[200];
		put_name(deed, sizeof deed, deeds[i], t->ifname[0]);
		tn_run("%s", deed);
		assert_int_equal(netbuf_hold(t->nb, 1, &err), -EBUSY);
		assert_non_null(strstr(err.msg, "tc filter show"));
		/* It was open, and what follows a hold that failed opens it again. */
		OK(netbuf_pass(t->nb, &err_));
		if (i == 0) {
			tn_send(t, 0, 2);
			expect(t, 2);
		}
		tn_run("tc %s del dev %s %s", i ? "qdisc" : "filter", t->ifname[0],
			i ? "clsact" : "ingress pref 7");
		OK(netbuf_hold(t->nb, 1, &err_));
		tn_send(t, 0, 1);
		assert_int_equal(tn_stats(t).held_frames, 1);
		tn_close(t);
	}
}

static void test_taken_names_are_refused(void **state)
{
	struct tn *t = start(1, MIB);
	char ifb[IF_NAMESIZE];
	ifb_of(ifb);
	struct netbuf *nb = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(netbuf_open(&t->cfg, &nb, &err), -EBUSY); /* it runs already */
	assert_true(if_nametoindex(ifb) > 0);
	netbuf_close(mc_steal_ptr(t->nb));
	assert_int_equal(if_nametoindex(ifb), 0);
	assert_int_equal(if_nametoindex(t->ifname[0]), 0);
	tn_run("ip link add %s type dummy", ifb);
	assert_int_equal(netbuf_open(&t->cfg, &nb, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "rename"));
	tn_run("ip link del %s", ifb);
	/* A former mcd's, whose QEMU is gone as well: its held output with it. */
	OK(netbuf_open(&t->cfg, &t->nb, &err_));
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 1);
	netbuf_leave(mc_steal_ptr(t->nb));
	assert_true(if_nametoindex(ifb) > 0);
	OK(netbuf_open(&t->cfg, &t->nb, &err_));
	OK(netbuf_pass(t->nb, &err_));
	tn_expect_none(t);
	tn_send(t, 0, 2);
	expect(t, 2);
	tn_close(t);
}

static struct netbuf *adopt(struct tn *t, int guest)
{
	struct netbuf *nb = NULL;
	t->cfg.backend = "relay"; /* what is configured does not matter */
	OK(netbuf_adopt(&t->cfg, &guest, &nb, &err_));
	t->cfg.backend = tn_backend;
	struct netbuf_stats st;
	netbuf_get_stats(nb, &st);
	assert_string_equal(st.backend, "plug");
	return nb;
}

static void test_an_adopted_plug_keeps_what_it_holds(void **state)
{
	struct tn *t = start(1, MIB);
	OK(netbuf_hold(t->nb, 1, &err_));
	_cleanup_close_ int guest = dup(netbuf_guest_fd(t->nb, 0));
	tn_send(t, 0, 1);
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_send(t, 0, 2);
	netbuf_leave(t->nb);
	t->nb = adopt(t, guest);
	assert_int_equal(tn_stats(t).held_frames, 2);
	tn_send(t, 0, 3);
	OK(netbuf_pass(t->nb, &err_));
	for (unsigned i = 1; i <= 3; i++)
		expect(t, i);
	/* An open one is held from the adoption on. */
	netbuf_leave(t->nb);
	uint8_t f[60];
	tn_build(f, sizeof f, tn_peer, TN_LOCAL, 4);
	tn_guest_raw(guest, NULL, 10, f, sizeof f);
	expect(t, 4);
	t->nb = adopt(t, guest);
	tn_send(t, 0, 5);
	usleep(5000);
	tn_expect_none(t);
	assert_int_equal(tn_stats(t).held_frames, 1);
	/* A hold begins with nothing of before. */
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 6);
	OK(netbuf_barrier(t->nb, 1, &err_));
	OK(netbuf_release(t->nb, 1, &err_));
	expect(t, 6);
	/* Without its ifb, which somebody removed, nothing comes out until it is adopted. */
	char ifb[IF_NAMESIZE];
	ifb_of(ifb);
	netbuf_leave(t->nb);
	tn_run("ip link del %s", ifb);
	tn_guest_raw(guest, NULL, 10, f, sizeof f);
	t->nb = adopt(t, guest);
	tn_send(t, 0, 7);
	usleep(5000);
	tn_expect_none(t);
	OK(netbuf_pass(t->nb, &err_));
	tn_send(t, 0, 8);
	while (tn_read(t, &got, 1000) && tn_number(&got) != 8)
		assert_int_equal(tn_number(&got), 7);
	assert_int_equal(tn_number(&got), 8);
	tn_close(t);
}

static int enter(void **state)
{
	tn_backend = "plug";
	return tn_enter_bridge(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_barriers_and_releases_alternate),
		cmocka_unit_test(test_all_nics_share_one_barrier),
		cmocka_unit_test(test_closed_lets_nothing_through_in_either_direction),
		cmocka_unit_test(test_the_limit_presses_then_loses_and_says_so),
		cmocka_unit_test(test_large_epochs_leave_whole_and_not_early),
		cmocka_unit_test(test_large_segments_and_tags_arrive_as_they_were_sent),
		cmocka_unit_test(test_announcements_reach_the_network),
		cmocka_unit_test(test_what_others_took_away_ends_the_hold_and_is_mended),
		cmocka_unit_test(test_foreign_filters_are_refused),
		cmocka_unit_test(test_taken_names_are_refused),
		cmocka_unit_test(test_an_adopted_plug_keeps_what_it_holds),
	};
	return cmocka_run_group_tests_name("netbuf plug", tests, enter, NULL);
}
