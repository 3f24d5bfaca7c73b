/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random calls on the relay and on a model of it: after every call exactly those frames have come
 * out that the model lets out, per NIC in the guest's order, epochs one after the other.
 * MCD_TEST_SEED chooses another run.
 */
#include "testnet.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CLOSED, OPEN, HOLDING };

struct item {
	uint32_t number;
	uint64_t epoch;
};

struct model {
	int state;
	uint64_t first, running, released; /* epochs <= released are out (in [first, running)) */
	struct item held[2][20000];
	size_t n[2];
};

static struct model m;
static struct tn_frame got;

/* The model lets out the frames of epochs <= epoch: the relay must have done the same. */
static void check_out(struct tn *t, uint64_t epoch)
{
	size_t pos[2] = {0, 0}, todo = 0;
	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < m.n[i] && m.held[i][k].epoch <= epoch; k++)
			todo++;
	uint64_t last = 0;
	for (size_t k = 0; k < todo; k++) {
		if (!tn_read(t, &got, 2000))
			fail_msg("%zu frames are missing", todo - k);
		assert_true(got.nic < 2);
		assert_true(pos[got.nic] < m.n[got.nic]);
		struct item *it = &m.held[got.nic][pos[got.nic]++];
		assert_int_equal(tn_number(&got), it->number);
		assert_true(it->epoch >= last && it->epoch <= epoch);
		last = it->epoch;
	}
	for (int i = 0; i < 2; i++) {
		memmove(m.held[i], m.held[i] + pos[i], (m.n[i] - pos[i]) * sizeof **m.held);
		m.n[i] -= pos[i];
	}
	tn_expect_none(t);
}

static void send_some(struct tn *t, uint32_t *number)
{
	for (long n = random() % 60; n > 0; n--) {
		size_t nic = (size_t)random() % 2;
		uint8_t f[3000];
		size_t len = random() % 8 ? 60 : 18 + (size_t)random() % 2900;
		tn_build(f, len, tn_peer, TN_LOCAL, *number);
		tn_guest_raw(netbuf_guest_fd(t->nb, nic), NULL, 10, f, len);
		if (m.state != CLOSED) {
			assert_true(m.n[nic] < 20000);
			m.held[nic][m.n[nic]++] =
				(struct item){*number, m.state == OPEN ? 0 : m.running};
		}
		++*number;
	}
}

static void step(struct tn *t, uint32_t *number)
{
	struct mc_error err = MC_ERROR_INIT;
	uint64_t e;
	switch (random() % 24) {
	default:
		send_some(t, number);
		if (m.state == OPEN)
			check_out(t, 0);
		break;
	case 0 ... 4:
		if (m.state != HOLDING) {
			assert_true(netbuf_barrier(t->nb, m.running, &err) < 0);
			break;
		}
		send_some(t, number); /* just before the end: nobody waits for the relay's thread */
		OK(netbuf_barrier(t->nb, m.running++, &err_));
		assert_int_equal(tn_stats(t).held_frames, m.n[0] + m.n[1]);
		break;
	case 5 ... 9:
		e = m.first + (uint64_t)random() % (m.running - m.first + 2);
		if (m.state != HOLDING || e >= m.running) {
			assert_true(netbuf_release(t->nb, e, &err) < 0);
			break;
		}
		OK(netbuf_release(t->nb, e, &err_));
		check_out(t, e);
		break;
	case 11:
		if (random() % 3)
			break;
		OK(netbuf_pass(t->nb, &err_));
		m.state = OPEN;
		check_out(t, UINT64_MAX);
		break;
	case 12:
		if (random() % 3)
			break;
		OK(netbuf_shut(t->nb, &err_));
		m.state = CLOSED;
		m.n[0] = m.n[1] = 0;
		break;
	case 13 ... 15:
		e = 1 + (uint64_t)random() % 1000;
		OK(netbuf_hold(t->nb, e, &err_));
		if (m.state != HOLDING)
			m.first = m.running = e;
		m.state = HOLDING;
		break;
	}
	if (m.state != OPEN)
		tn_expect_none(t);
}

static void run(const char *bridge, unsigned seed, int steps)
{
	struct tn *t = tn_open(2, bridge, 64 << 20, NULL);
	uint32_t number = 0;
	memset(&m, 0, sizeof m);
	m.first = m.running = 1;
	srandom(seed);
	for (int i = 0; i < steps; i++)
		step(t, &number);
	OK(netbuf_pass(t->nb, &err_));
	check_out(t, UINT64_MAX);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	tn_close(t);
}

static void test_relay_agrees_with_the_model(void **state)
{
	const char *s = getenv("MCD_TEST_SEED");
	unsigned seed = s ? (unsigned)strtoul(s, NULL, 10) : 20240607;
	for (unsigned i = 0; i < 5; i++) {
		print_message("seed %u\n", seed + i);
		run("", seed + i, 600);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_relay_agrees_with_the_model)};
	return cmocka_run_group_tests_name("netbuf relay: model", tests, tn_enter, NULL);
}
