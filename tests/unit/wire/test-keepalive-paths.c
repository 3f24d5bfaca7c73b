/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two paths to a peer, and which of them counts: a slot that the test writes as RDMA would, TCP
 * beats that it notes as the serving thread would, and times that it makes up. */
#include "common/clock.h"
#include "mcd/wire/keepalive-private.h"
#include "common/le.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

#define INTERVAL (20 * MC_MSEC)
#define LIMIT    (5 * INTERVAL)
#define INSTANCE 77u
#define START    (1000 * MC_SEC)

struct world {
	struct keepalive *k;
	struct ka_peer *p;
	uint64_t now;
	_Alignas(8) uint8_t mem[SLOT_SIZE];
	uint64_t seq, tcp_last;
	int leave;
	unsigned suspects, alives;
	uint64_t last_heard; /* as the last suspicion said */
};

static void on_suspect(void *ctx, const char *peer, uint64_t last_heard)
{
	struct world *w = ctx;
	w->suspects++;
	w->last_heard = last_heard;
}

static void on_alive(void *ctx, const char *peer)
{
	((struct world *)ctx)->alives++;
}

static void setup(struct world *w, enum rd_mode mode)
{
	memset(w, 0, sizeof *w);
	w->k = calloc(1, sizeof *w->k + sizeof *w->p);
	w->p = &w->k->peers[0];
	w->k->cfg = (struct keepalive_config){
		.interval = INTERVAL,
		.misses = 5,
		.mode = mode,
		.suspect = on_suspect,
		.alive = on_alive,
		.ctx = w,
	};
	w->k->n_peers = 1;
	w->k->poke = eventfd(0, EFD_NONBLOCK);
	w->k->started = w->now = START;
	w->leave = eventfd(0, EFD_NONBLOCK);
	pthread_mutex_init(&w->k->lock, NULL);
	w->p->k = w->k;
	strcpy(w->p->cfg.name, "b");
	pthread_mutex_init(&w->p->slot_lock, NULL);
	w->p->instance = INSTANCE;
}

static void teardown(struct world *w)
{
	close(w->leave);
	close(w->k->poke);
	free(w->k);
}

static void tcp(struct world *w)
{
	keepalive_hear(w->p, KA_TCP, w->now, w->tcp_last, INTERVAL, 0);
	w->tcp_last = w->now;
}

static void rdma(struct world *w)
{
	slot_encode(w->mem, &(struct beat){++w->seq, w->now, INTERVAL}, w->p->slot.instance);
}

/* What the beat thread does when it wakes. */
static void look(struct world *w)
{
	keepalive_look(w->p, w->now);
	keepalive_judge(w->p, w->now, 0);
	keepalive_tell(w->p);
}

/* n intervals, of which each begins with the beats asked for. */
static void intervals(struct world *w, unsigned n, bool by_tcp, bool by_rdma)
{
	for (unsigned i = 0; i < n * LOOKS; i++) {
		if (i % LOOKS == 0 && by_tcp)
			tcp(w);
		if (i % LOOKS == 0 && by_rdma)
			rdma(w);
		look(w);
		w->now += INTERVAL / LOOKS;
	}
}

static void show(struct world *w, uint64_t instance)
{
	memset(w->mem, 0, sizeof w->mem);
	w->seq = 0;
	keepalive_slot_show(w->p, w->mem, instance, w->leave);
}

/* Heard by both, RDMA counts. */
static void begin(struct world *w, enum rd_mode mode)
{
	setup(w, mode);
	intervals(w, 3, true, false);
	assert_int_equal(w->p->path, KA_TCP);
	assert_int_equal(w->alives, 1);
	show(w, INSTANCE);
	intervals(w, 3, true, false);
	assert_int_equal(w->p->path, KA_TCP); /* an empty slot is no beat */
	intervals(w, 3, true, true);
	assert_int_equal(w->p->path, KA_RDMA);
	assert_int_equal(w->alives, 1);
	assert_int_equal(w->suspects, 0);
}

static bool told_to_leave(struct world *w)
{
	uint64_t count;
	return eventfd_read(w->leave, &count) == 0;
}

static void silence_by_rdma_is_suspected_though_tcp_goes_on(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	rdma(&w);
	look(&w);
	uint64_t last = w.now;
	intervals(&w, 5, true, false);
	assert_int_equal(w.suspects, 0);
	assert_int_equal(w.now, last + LIMIT);
	look(&w);
	assert_int_equal(w.suspects, 1);
	assert_int_equal(w.last_heard, last);
	assert_true(w.p->suspected);
	teardown(&w);
}

static void then_tcp_counts_but_not_before_the_suspicion_lasted(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	intervals(&w, 6, true, false);
	assert_int_equal(w.suspects, 1);
	assert_int_equal(w.p->path, KA_TCP);
	uint64_t end = w.p->trust_after;
	while (w.now < end) {
		intervals(&w, 1, true, false);
		if (w.now < end)
			assert_true(w.p->suspected);
	}
	intervals(&w, 2, true, false);
	assert_false(w.p->suspected);
	assert_int_equal(w.alives, 2);
	intervals(&w, 100, true, false);
	assert_int_equal(w.suspects, 1);
	teardown(&w);
}

static void dead_host_stays_suspected_when_its_tcp_is_silent_too(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	intervals(&w, 200, false, false);
	assert_int_equal(w.suspects, 1);
	assert_int_equal(w.alives, 1);
	assert_true(w.p->suspected);
	teardown(&w);
}

static void beat_by_rdma_ends_a_suspicion_at_once(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	intervals(&w, 6, true, false);
	assert_true(w.p->suspected);
	rdma(&w);
	look(&w);
	assert_false(w.p->suspected);
	assert_int_equal(w.p->path, KA_RDMA);
	assert_int_equal(w.alives, 2);
	teardown(&w);
}

static void with_rdma_only_nothing_else_ends_a_suspicion(void **state)
{
	struct world w;
	begin(&w, RD_RDMA);
	intervals(&w, 300, true, false);
	assert_int_equal(w.suspects, 1);
	assert_true(w.p->suspected);
	rdma(&w);
	look(&w);
	assert_false(w.p->suspected);
	teardown(&w);
}

static void new_process_of_a_peer_is_heard_by_tcp_first(void **state)
{
	struct world w;
	begin(&w, RD_RDMA);
	w.p->instance = INSTANCE + 1; /* its TCP connection is here */
	intervals(&w, 20, true, false);
	assert_int_equal(w.suspects, 0);
	assert_int_equal(w.p->path, KA_TCP);
	show(&w, INSTANCE + 1);
	assert_true(told_to_leave(&w));
	intervals(&w, 3, true, true);
	assert_int_equal(w.p->path, KA_RDMA);
	assert_int_equal(w.suspects, 0);
	teardown(&w);
}

static void leftover_of_a_dead_process_is_not_heard(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	uint64_t before = w.p->ear[KA_RDMA].beats;
	w.p->instance = INSTANCE + 1;
	intervals(&w, 3, true, true);
	assert_int_equal(w.p->path, KA_TCP);
	assert_int_equal(w.p->ear[KA_RDMA].beats, before);
	intervals(&w, 6, false, true);
	assert_int_equal(w.suspects, 1);
	teardown(&w);
}

static void sign_of_life_on_any_path_tells_the_age(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	intervals(&w, 7, true, false);
	/* Made-up times are in the past or the future of the clock that keepalive_age reads. */
	uint64_t shift = mc_now() - w.now;
	w.p->ear[KA_TCP].heard += shift;
	w.p->ear[KA_RDMA].heard += shift;
	assert_true(keepalive_age(w.k, "b") < MC_SEC);
	assert_true(w.p->suspected);
	w.p->ear[KA_TCP].heard = 0;
	assert_true(keepalive_age(w.k, "b") >= LIMIT);
	teardown(&w);
}

static void half_written_beat_waits_for_the_rest(void **state)
{
	struct world w;
	begin(&w, RD_AUTO);
	uint64_t before = w.p->ear[KA_RDMA].beats;
	uint8_t old[SLOT_SIZE];
	memcpy(old, w.mem, sizeof old);
	rdma(&w);
	memcpy(w.mem + 24, old + 24, SLOT_SIZE - 24);
	w.mem[8] ^= 0x40;
	look(&w);
	assert_int_equal(w.p->ear[KA_RDMA].beats, before);
	assert_false(told_to_leave(&w));
	rdma(&w);
	look(&w);
	assert_int_equal(w.p->ear[KA_RDMA].beats, before + 1);
	teardown(&w);
}

static void every_impossible_field_closes_the_queue_pair(void **state)
{
	static const struct {
		unsigned at, size;
		uint64_t value;
	} bad[] = {
		{0, 4, 0x12345678},
		{4, 2, 2},
		{6, 2, 1},
		{8, 8, 0},
		{16, 8, 0}, /* a time before the last beat's */
		{24, 8, MC_MSEC - 1},
		{24, 8, 61 * MC_SEC},
		{32, 8, INSTANCE + 1},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct world w;
		begin(&w, RD_AUTO);
		uint64_t before = w.p->ear[KA_RDMA].beats, v = htole64(bad[i].value);
		rdma(&w);
		memcpy(w.mem + bad[i].at, &v, bad[i].size);
		put_le64(w.mem + 40, XXH3_64bits(w.mem, 40));
		look(&w);
		if (!told_to_leave(&w))
			fail_msg("case %zu was taken", i);
		/* And nothing that it writes after that is heard. */
		intervals(&w, 7, true, true);
		assert_int_equal(w.p->ear[KA_RDMA].beats, before);
		assert_int_equal(w.suspects, 1);
		teardown(&w);
	}
}

static void hidden_slot_is_not_looked_at(void **state)
{
	struct world w;
	_Alignas(8) uint8_t other[SLOT_SIZE];
	begin(&w, RD_AUTO);
	keepalive_slot_hide(w.p, other); /* of an older connection: not its to hide */
	uint64_t before = w.p->ear[KA_RDMA].beats;
	intervals(&w, 1, false, true);
	assert_int_equal(w.p->ear[KA_RDMA].beats, before + 1);
	keepalive_slot_hide(w.p, w.mem);
	assert_false(w.p->slot_shown);
	intervals(&w, 1, false, true);
	assert_int_equal(w.p->ear[KA_RDMA].beats, before + 1);
	teardown(&w);
}

static void jitter_is_that_of_the_path_that_counts(void **state)
{
	struct world w;
	struct keepalive_stats s;
	begin(&w, RD_AUTO);
	intervals(&w, 10, true, true);
	assert_int_equal(keepalive_get_stats(w.k, "b", &s), 0);
	assert_int_equal(s.path, KA_RDMA);
	assert_int_equal(s.jitter_max, 0);
	intervals(&w, 2, true,
		false); /* two are missing, and the look may have been as late as one */
	rdma(&w);
	look(&w);
	keepalive_get_stats(w.k, "b", &s);
	assert_int_equal(s.jitter_max, 2 * INTERVAL - INTERVAL / LOOKS);
	teardown(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_by_rdma_is_suspected_though_tcp_goes_on),
		cmocka_unit_test(then_tcp_counts_but_not_before_the_suspicion_lasted),
		cmocka_unit_test(dead_host_stays_suspected_when_its_tcp_is_silent_too),
		cmocka_unit_test(beat_by_rdma_ends_a_suspicion_at_once),
		cmocka_unit_test(with_rdma_only_nothing_else_ends_a_suspicion),
		cmocka_unit_test(new_process_of_a_peer_is_heard_by_tcp_first),
		cmocka_unit_test(leftover_of_a_dead_process_is_not_heard),
		cmocka_unit_test(sign_of_life_on_any_path_tells_the_age),
		cmocka_unit_test(half_written_beat_waits_for_the_rest),
		cmocka_unit_test(every_impossible_field_closes_the_queue_pair),
		cmocka_unit_test(hidden_slot_is_not_looked_at),
		cmocka_unit_test(jitter_is_that_of_the_path_that_counts),
	};
	return cmocka_run_group_tests_name("keepalive-paths", tests, NULL, NULL);
}
