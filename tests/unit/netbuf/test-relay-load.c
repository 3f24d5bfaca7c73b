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

/* A guest on one vCPU, which stops by itself under pressure and runs on when told. */
struct vcpu {
	struct tn *t;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stop, parked, end;
	int pressed; /* this much of tn_pressed() is dealt with */
	uint32_t sent;
};

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;
	pthread_mutex_lock(&v->lock);
	while (!v->end) {
		if (v->stop || tn_pressed(v->t) != v->pressed) {
			v->parked = true;
			pthread_cond_broadcast(&v->changed);
			pthread_cond_wait(&v->changed, &v->lock);
			continue;
		}
		v->parked = false;
		pthread_mutex_unlock(&v->lock);
		for (int i = 0; i < 16; i++)
			tn_send(v->t, 0, v->sent++);
		usleep(20);
		pthread_mutex_lock(&v->lock);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void vcpu_stop(struct vcpu *v)
{
	pthread_mutex_lock(&v->lock);
	v->stop = true;
	while (!v->parked)
		pthread_cond_wait(&v->changed, &v->lock);
	pthread_mutex_unlock(&v->lock);
}

static void vcpu_run(struct vcpu *v, bool end)
{
	pthread_mutex_lock(&v->lock);
	v->stop = v->parked = false;
	v->end = end;
	v->pressed = tn_pressed(v->t);
	pthread_cond_broadcast(&v->changed);
	pthread_mutex_unlock(&v->lock);
}

static struct tn_frame got;

/* Every frame before the stop belongs to the epoch, none after it; two epochs in flight. */
static void test_boundaries_are_exact_under_load(void **state)
{
	enum { EPOCHS = 60, LIMIT = 16 * 1024 };
	static uint32_t end_of[EPOCHS + 1];
	struct tn *t = tn_open(1, "", LIMIT, NULL);
	struct vcpu v = {
		.t = t, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	uint32_t seen = 0;
	pthread_t thread;
	OK(netbuf_hold(t->nb, 1, &err_));
	assert_int_equal(pthread_create(&thread, NULL, vcpu_main, &v), 0);
	for (unsigned e = 1; e <= EPOCHS; e++) {
		/* As mcd does: pressure ends the epoch early, else it lasts 3 ms (or 1 ms). */
		int before = tn_pressed(t);
		for (int i = 0; i < (e % 2 ? 30 : 10) && tn_pressed(t) == before; i++)
			usleep(100);
		vcpu_stop(&v);
		OK(netbuf_barrier(t->nb, e, &err_));
		end_of[e] = v.sent;
		/* While too much is held the guest waits for this very epoch's ACK. */
		bool wait = tn_stats(t).held_bytes > LIMIT / 2 || e == EPOCHS;
		if (!wait)
			vcpu_run(&v, false);
		unsigned acked = wait ? e : e - 1;
		if (acked)
			OK(netbuf_release(t->nb, acked, &err_));
		for (; seen < end_of[acked]; seen++) {
			if (!tn_read(t, &got, 2000))
				fail_msg("frame %u is missing, %llu were lost", seen,
					(unsigned long long)tn_stats(t).lost_frames);
			assert_int_equal(tn_number(&got), seen);
		}
		tn_expect_none(t);
		if (wait)
			vcpu_run(&v, e == EPOCHS);
	}
	pthread_join(thread, NULL);
	assert_true(tn_pressed(t) > 0);
	assert_int_equal(seen, v.sent);
	assert_int_equal(tn_stats(t).lost_frames, 0);
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
		uint32_t frame[16] = {[15] = i};
		struct iovec iov = {frame, sizeof frame};
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
	uint32_t late[16] = {[15] = N}, frame[16];
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
