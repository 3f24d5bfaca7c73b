/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that sends as fast as it can while epochs come and go, and a network that is slow. */
#include "testnet.h"

#include "common/clock.h"
#include "netbuf/relay-internal.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct mc_error err_ = MC_ERROR_INIT;                                              \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err_.msg);                                       \
	} while (0)

struct vcpu {
	struct tn *t;
	pthread_mutex_t
		runs; /* held while the guest executes: whoever else takes it has stopped it */
	bool end;
	uint32_t sent;
};

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	for (bool end = false; !end;) {
		pthread_mutex_lock(&v->runs);
		for (int i = 0; i < 8; i++)
			tn_send(v->t, 0, v->sent++);
		end = v->end;
		pthread_mutex_unlock(&v->runs);
		if (v->sent % 64 == 0)
			usleep(50); /* or a fair chance for the stop never comes */
	}
	return NULL;
}

static struct tn_frame got;

/* Every frame before the stop belongs to the epoch, none after it; two epochs in flight. */
static void test_boundaries_are_exact_under_load(void **state)
{
	enum { EPOCHS = 150 };
	static uint32_t end_of[EPOCHS + 1];
	struct tn *t = tn_open(1, "", 2 << 20, NULL);
	struct vcpu v = { .t = t, .runs = PTHREAD_MUTEX_INITIALIZER };
	uint32_t seen = 0;
	pthread_t thread;
	OK(netbuf_hold(t->nb, 1, &err_));
	assert_int_equal(pthread_create(&thread, NULL, vcpu_main, &v), 0);
	for (unsigned e = 1; e <= EPOCHS; e++) {
		/* As mcd does: pressure ends the epoch early, else it lasts 3 ms. */
		int pressed = tn_pressed(t);
		for (int i = 0; i < 30 && tn_pressed(t) == pressed; i++)
			usleep(100);
		pthread_mutex_lock(&v.runs);
		OK(netbuf_barrier(t->nb, e, &err_));
		end_of[e] = v.sent;
		if (e == EPOCHS)
			v.end = true;
		bool wait = tn_stats(t).held_bytes > (2 << 20) / 4 * 3;
		if (!wait)
			pthread_mutex_unlock(&v.runs);
		unsigned acked =
			wait ? e : e - 1; /* too much is held: the guest waits for the ACK */
		if (acked) {
			OK(netbuf_release(t->nb, acked, &err_));
			for (; seen < end_of[acked]; seen++) {
				if (!tn_read(t, &got, 2000))
					fail_msg("frame %u is missing", seen);
				assert_int_equal(tn_number(&got), seen);
			}
		}
		tn_expect_none(t);
		if (wait)
			pthread_mutex_unlock(&v.runs);
	}
	pthread_join(thread, NULL);
	assert_true(seen > 1000);
	assert_int_equal(tn_stats(t).lost_frames, 0);
	assert_true(tn_stats(t).held_bytes_max < (40 << 20));
	tn_close(t);
}

/* With a socket in the place of a tap, because a tap seldom says EAGAIN. */
static void test_a_blocked_tap_keeps_the_order(void **state)
{
	enum { N = 2000 };
	int tap[2], guest[2];
	struct relay *r = calloc(1, sizeof *r);
	assert_non_null(r);
	assert_return_code(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tap), errno);
	assert_return_code(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, guest), errno);
	pthread_mutex_init(&r->out_lock, NULL);
	pthread_mutex_init(&r->in_lock, NULL);
	r->limit = 64 << 20;
	r->blocked = -1;
	r->n_nics = 1;
	r->nics[0].tap = tap[0];
	r->nics[0].sock = guest[0];
	r->out_epoll = epoll_create1(EPOLL_CLOEXEC);
	r->out_wake = eventfd(0, EFD_NONBLOCK);
	r->out = relay_batch_new();
	relay_watch(r->out_epoll, r->out_wake, EPOLLIN, RELAY_TAG_WAKE);
	assert_int_equal(pthread_create(&r->out_thread, NULL, relay_out_main, r), 0);

	relay_lock(r);
	r->state = NETBUF_HOLDING;
	for (uint32_t i = 0; i < N; i++) {
		uint32_t frame[16] = { [15] = i };
		struct iovec iov = { frame, sizeof frame };
		assert_int_equal(queue_push(&r->q, 1 + i / (N / 2), 0, &iov, 1), 0);
	}
	r->mark = 2; /* epoch 1 is released */
	relay_flush(r);
	assert_int_equal(r->blocked, 0);
	assert_true(r->q.frames > N / 2);
	relay_unlock(r);
	/* As the network takes them, the thread sends the rest of epoch 1, nothing of epoch 2. */
	for (uint32_t i = 0; i < N / 2; i++) {
		uint32_t frame[16];
		uint64_t deadline = mc_now() + 2 * MC_SEC;
		while (read(tap[1], frame, sizeof frame) < 0)
			assert_true(mc_now() < deadline);
		assert_int_equal(frame[15], i);
	}
	relay_lock(r);
	assert_int_equal(r->q.frames, N / 2);
	/* What is let out may block again; then the guest's new frames must not overtake it. */
	queue_set_free(&r->q);
	r->state = NETBUF_OPEN;
	r->mark = UINT64_MAX;
	relay_flush(r);
	assert_int_equal(r->blocked, 0);
	relay_unlock(r);
	uint32_t late[16] = { [15] = N }, frame[16];
	relay_lock(r);
	assert_int_equal(read(tap[1], frame, sizeof frame), sizeof frame); /* makes room */
	assert_int_equal(frame[15], N / 2);
	assert_int_equal(write(guest[1], late, sizeof late), sizeof late);
	relay_capture_round(r);
	relay_unlock(r);
	for (uint32_t i = N / 2 + 1; i <= N; i++) {
		uint64_t deadline = mc_now() + 2 * MC_SEC;
		while (read(tap[1], frame, sizeof frame) < 0)
			assert_true(mc_now() < deadline);
		assert_int_equal(frame[15], i);
	}
	r->stop = true;
	relay_wake(r->out_wake);
	pthread_join(r->out_thread, NULL);
	queue_destroy(&r->q);
	free(r->out);
	close(r->out_epoll);
	close(r->out_wake);
	for (int i = 0; i < 2; i++) {
		close(tap[i]);
		close(guest[i]);
	}
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boundaries_are_exact_under_load),
		cmocka_unit_test(test_a_blocked_tap_keeps_the_order),
	};
	return cmocka_run_group_tests_name("netbuf relay: load", tests, tn_enter, NULL);
}
