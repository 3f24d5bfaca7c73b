/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the primary's side of the mirror promises about epochs, waiting and breaking. */
#include "mirror-fixture.h"
#include "diskmirror/nbd.h"
#include "tests/unit/diskmirror/link-pair.h"

#include "common/clock.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define BUDGET (4u << 20)
#define STALL  (10 * MC_SEC)

static struct mc_error err;

static void sleep_ms(unsigned ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
	nanosleep(&t, NULL);
}

/* ---- epochs ---- */

#define WRITERS 4
#define EPOCHS  25
#define SERIALS 100000

/* The guest: writes while it may, and remembers in which epoch each write was completed. */
struct guest {
	struct fixture *x;
	/* held for reading by whoever writes: `stop` takes it for writing */
	pthread_rwlock_t running;
	uint64_t epoch;
	atomic_bool over;
	atomic_ulong next;
	uint64_t completed_in[SERIALS];
};

static void *write_on(void *arg)
{
	struct guest *g = arg;
	unsigned seed = (unsigned)(uintptr_t)pthread_self();
	struct nbd_handle *h = fixture_client(g->x, "big");
	uint8_t buf[8192] = {0};
	while (!g->over) {
		pthread_rwlock_rdlock(&g->running);
		uint64_t serial = ++g->next;
		if (serial < SERIALS) {
			memcpy(buf, &serial, sizeof serial);
			size_t len = 8 + (unsigned)rand_r(&seed) % (sizeof buf - 8);
			uint64_t at = (unsigned)rand_r(&seed) % (BIG_SIZE - sizeof buf);
			if (nbd_pwrite(h, buf, len, at, 0) == 0)
				g->completed_in[serial] = g->epoch;
		}
		pthread_rwlock_unlock(&g->running);
	}
	fixture_client_done(h);
	return NULL;
}

static void check_log(struct fixture *x, const struct guest *g)
{
	size_t n, writes = 0;
	struct fake_message *log = fake_log(x->f, &n);
	for (size_t i = 0; i < n; i++) {
		if (log[i].h.type != DISK_WRITE)
			continue;
		assert_in_range(log[i].first, 1, SERIALS - 1);
		assert_int_equal(log[i].h.epoch, g->completed_in[log[i].first]);
		writes++;
	}
	size_t completed = 0;
	for (size_t i = 0; i < SERIALS; i++)
		completed += g->completed_in[i] != 0;
	assert_int_equal(writes, completed);
	assert_true(writes > EPOCHS);
	free(log);
}

static void test_each_completed_write_is_in_the_epoch_it_was_completed_in(void **state)
{
	struct guest *g = calloc(1, sizeof *g);
	struct disk_epoch_sum sums[EPOCHS + 1], got;
	pthread_t t[WRITERS];
	pthread_rwlockattr_t a;
	uint32_t flags;
	pthread_rwlockattr_init(&a);
	pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&g->running, &a);
	g->x = fixture_open(BUDGET, STALL);
	g->epoch = 1;
	mirror_begin(g->x->m, 1);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&t[i], NULL, write_on, g);
	for (uint64_t n = 1; n <= EPOCHS; n++) {
		sleep_ms(10);
		pthread_rwlock_wrlock(&g->running);
		mirror_barrier(g->x->m, n, &sums[n]);
		g->epoch = n + 1;
		pthread_rwlock_unlock(&g->running);
		sleep_ms(n % 3);
		assert_int_equal(mirror_end(g->x->m, n, n % 2, &err), 0);
	}
	g->over = true;
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	mirror_barrier(g->x->m, EPOCHS + 1, &got);
	mirror_end(g->x->m, EPOCHS + 1, false, &err);
	assert_true(fake_wait_end(g->x->f, EPOCHS + 1, &got, &flags));
	for (uint64_t n = 1; n <= EPOCHS; n++) {
		assert_true(fake_wait_end(g->x->f, n, &got, &flags));
		assert_memory_equal(&got, &sums[n], sizeof got);
		assert_int_equal(flags, n % 2 ? DISK_FLUSHED : 0);
	}
	check_log(g->x, g);
	fixture_close(g->x);
	free(g);
}

static void test_nothing_of_the_next_epoch_passes_an_end_that_is_not_said(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct nbd_handle *h = fixture_client(x, "big");
	struct disk_epoch_sum s;
	mirror_begin(x->m, 1);
	assert_int_equal(nbd_pwrite(h, "before", 6, 0, 0), 0);
	mirror_barrier(x->m, 1, &s);
	assert_int_equal(s.writes, 1);
	assert_int_equal(s.bytes, 6);
	assert_int_equal(nbd_pwrite(h, "after", 5, 0, 0), 0); /* answered all the same */
	assert_true(fake_wait_messages(x->f, 1));
	sleep_ms(50);
	size_t n;
	free(fake_log(x->f, &n));
	assert_int_equal(n, 1);
	assert_int_equal(mirror_end(x->m, 1, true, &err), 0);
	assert_true(fake_wait_messages(x->f, 3));
	struct fake_message *l = fake_log(x->f, &n);
	assert_int_equal(l[1].h.type, DISK_END);
	assert_int_equal(l[1].h.flags, DISK_FLUSHED);
	assert_int_equal(l[2].h.epoch, 2);
	free(l);
	fixture_client_done(h);
	fixture_close(x);
}

static void test_empty_epochs_have_their_ends_too(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct disk_epoch_sum s;
	mirror_begin(x->m, 1);
	for (uint64_t n = 1; n < 50; n++) {
		mirror_barrier(x->m, n, &s);
		assert_int_equal(s.writes, 0);
		assert_int_equal(mirror_end(x->m, n, false, &err), 0);
	}
	assert_true(fake_wait_end(x->f, 49, NULL, NULL));
	fixture_close(x);
}

/* ---- requests ---- */

static void test_the_standby_gets_every_kind_of_write(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct nbd_handle *h = fixture_client(x, "big"), *s = fixture_client(x, "small");
	uint8_t *w = malloc(BIG_SIZE);
	memset(w, 0xa5, BIG_SIZE);
	size_t pieces = BIG_SIZE / NBD_MAX_REQUEST;
	for (size_t i = 0; i < pieces; i++)
		assert_int_equal(nbd_pwrite(h, w, NBD_MAX_REQUEST, i * NBD_MAX_REQUEST, 0), 0);
	assert_int_equal(nbd_pwrite(s, w, SMALL_SIZE, 0, LIBNBD_CMD_FLAG_FUA), 0);
	assert_int_equal(nbd_zero(h, 4096, 100000, LIBNBD_CMD_FLAG_NO_HOLE), 0);
	assert_int_equal(nbd_trim(s, SMALL_SIZE - 512, 512, 0), 0);
	assert_int_equal(nbd_flush(h, 0), 0);
	memset(w + 100000, 0, 4096);
	fixture_settle(x, h);
	fixture_settle(x, s);
	assert_memory_equal(fake_image(x->f, 0), w, BIG_SIZE);
	assert_int_equal(fake_image(x->f, 1)[511], 0xa5);
	assert_int_equal(fake_image(x->f, 1)[512], 0);
	assert_int_equal(fake_image(x->f, 1)[SMALL_SIZE - 1], 0);
	size_t n;
	struct fake_message *l = fake_log(x->f, &n);
	assert_int_equal(l[pieces + 1].h.type, DISK_ZERO);
	assert_int_equal(l[pieces + 2].h.type, DISK_TRIM);
	free(l);
	free(w);
	fixture_client_done(h);
	fixture_client_done(s);
	fixture_close(x);
}

static void test_a_read_is_answered_with_what_the_standby_has_and_was_sent(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	memset(fake_image(x->f, 0), 0x11, BIG_SIZE);
	struct nbd_handle *h = fixture_client(x, "big"), *s = fixture_client(x, "small");
	uint8_t buf[3000];
	for (int i = 0; i < 200; i++) {
		assert_int_equal(nbd_pwrite(h, "mine", 4, 100, 0), 0);
		assert_int_equal(nbd_pread(h, buf, 3000, 99, 0), 0);
		assert_int_equal(buf[0], 0x11);
		assert_memory_equal(buf + 1, "mine", 4);
		assert_int_equal(buf[5], 0x11);
		assert_int_equal(nbd_pread(s, buf, 1, SMALL_SIZE - 1, 0), 0);
		assert_int_equal(buf[0], 0);
	}
	fixture_client_done(h);
	fixture_client_done(s);
	fixture_close(x);
}

/* ---- waiting ---- */

struct flood {
	struct fixture *x;
	unsigned todo;
	atomic_uint completed, failed;
};

static void *flood(void *arg)
{
	struct flood *f = arg;
	struct nbd_handle *h = fixture_client(f->x, "big");
	static const uint8_t block[DISK_BLOCK] = {1};
	for (unsigned i = 0; i < f->todo && !f->failed; i++)
		if (nbd_pwrite(h, block, sizeof block, (i % 128) * DISK_BLOCK, 0) == 0)
			f->completed++;
		else
			f->failed++;
	if (f->failed)
		nbd_close(h);
	else
		fixture_client_done(h);
	return NULL;
}

static struct mirror_stats stats(struct fixture *x)
{
	struct mirror_stats s;
	mirror_get_stats(x->m, &s);
	return s;
}

static void test_answers_wait_beyond_the_budget_and_go_on_when_there_is_room(void **state)
{
	const uint64_t budget = 1u << 20;
	struct fixture *x = fixture_open(budget, STALL);
	struct flood f = {.x = x, .todo = 200};
	pthread_t t[3];
	fake_freeze(x->f, true);
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, flood, &f);
	for (int i = 0; i < 10000 && stats(x).queued_bytes <= budget; i++)
		sleep_ms(1);
	/* What is between us and the standby fills up first, on a slow machine slowly. */
	unsigned completed;
	do {
		completed = f.completed;
		sleep_ms(200);
	} while (f.completed != completed);
	struct mirror_stats s = stats(x);
	assert_true(s.queued_bytes > budget);
	/* One request of each connection, with what it costs to keep it, is all it may exceed. */
	assert_true(s.queued_bytes <= budget + 3 * (DISK_BLOCK + 512));
	assert_true(completed < 50);
	sleep_ms(100);
	assert_int_equal(f.completed, completed);
	fake_freeze(x->f, false);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(f.completed, 600);
	assert_true(stats(x).queued_peak <= budget + 3 * (DISK_BLOCK + 512));
	assert_int_equal(x->broken, 0);
	fixture_close(x);
}

static void test_a_request_larger_than_the_budget_passes(void **state)
{
	struct fixture *x = fixture_open(65536, STALL);
	struct nbd_handle *h = fixture_client(x, "big");
	uint8_t *w = malloc(NBD_MAX_REQUEST);
	memset(w, 3, NBD_MAX_REQUEST);
	assert_int_equal(nbd_pwrite(h, w, NBD_MAX_REQUEST, 0, 0), 0);
	fixture_settle(x, h);
	assert_memory_equal(fake_image(x->f, 0), w, NBD_MAX_REQUEST);
	free(w);
	fixture_client_done(h);
	fixture_close(x);
}

static void test_pressure_is_told_once_an_epoch(void **state)
{
	struct fixture *x = fixture_open(1u << 20, STALL);
	struct nbd_handle *h = fixture_client(x, "big");
	struct disk_epoch_sum s;
	static const uint8_t block[DISK_BLOCK];
	for (int i = 0; i < 20; i++)
		assert_int_equal(nbd_pwrite(h, block, sizeof block, i * DISK_BLOCK, 0), 0);
	assert_int_equal(x->pressed, 0); /* a synchronisation has no epoch to end */
	mirror_begin(x->m, 1);
	for (unsigned n = 1; n < 4; n++) {
		for (int i = 0; i < 6; i++)
			assert_int_equal(nbd_pwrite(h, block, sizeof block, i * DISK_BLOCK, 0), 0);
		assert_int_equal(x->pressed, n - 1);
		for (int i = 0; i < 10; i++)
			assert_int_equal(nbd_pwrite(h, block, sizeof block, i * DISK_BLOCK, 0), 0);
		assert_int_equal(x->pressed, n);
		assert_true(stats(x).epoch_bytes > 1u << 20);
		mirror_barrier(x->m, n, &s);
		assert_int_equal(stats(x).epoch_bytes, 0);
		assert_int_equal(mirror_end(x->m, n, false, &err), 0);
	}
	fixture_client_done(h);
	fixture_close(x);
}

/* ---- breaking ---- */

static void assert_broken(struct fixture *x, int code)
{
	fixture_wait_broken(x);
	err = MC_ERROR_INIT;
	assert_int_equal(mirror_error(x->m, &err), code);
	assert_true(strlen(err.msg) > 20);
	assert_int_equal(mirror_end(x->m, 1, false, NULL), code);
	/* Threads on their way out may still hold their places. */
	for (int i = 0; i < 10000 && stats(x).connections; i++)
		sleep_ms(1);
	assert_int_equal(stats(x).connections, 0);
	assert_null(fixture_client(x, "big"));
	sleep_ms(20);
	assert_int_equal(x->broken, 1);
}

static void test_a_standby_that_stalls_lets_the_guest_go_on_within_the_bound(void **state)
{
	const uint64_t stall = 300 * MC_MSEC;
	struct fixture *x = fixture_open(1u << 20, stall);
	struct nbd_handle *idle = fixture_client(x, "small");
	struct flood f = {.x = x, .todo = 200};
	pthread_t t[2];
	fake_freeze(x->f, true);
	uint64_t start = mc_now();
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, flood, &f);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	uint64_t took = mc_now() - start;
	assert_true(f.failed);
	/* loaded machines; without the bound: forever */
	assert_in_range(took / MC_MSEC, 290, 3000);
	assert_broken(x, -ETIMEDOUT);
	assert_int_equal(nbd_pwrite(idle, "x", 1, 0, 0), -1);
	nbd_close(idle);
	fixture_close(x);
}

static void test_a_link_without_progress_is_noticed_though_no_write_waits(void **state)
{
	struct fixture *x = fixture_open(64u << 20, 300 * MC_MSEC);
	struct flood f = {.x = x, .todo = 64};
	pthread_t t;
	fake_freeze(x->f, true);
	pthread_create(&t, NULL, flood, &f);
	pthread_join(t, NULL);
	assert_broken(x, -ETIMEDOUT);
	fixture_close(x);
}

static void test_an_end_that_is_never_said_does_not_hang_the_guest(void **state)
{
	struct fixture *x = fixture_open(1u << 20, 300 * MC_MSEC);
	struct flood f = {.x = x, .todo = 200};
	struct disk_epoch_sum s;
	pthread_t t;
	mirror_begin(x->m, 1);
	mirror_barrier(x->m, 1, &s);
	pthread_create(&t, NULL, flood, &f);
	pthread_join(t, NULL);
	assert_true(f.failed);
	assert_broken(x, -ETIMEDOUT);
	fixture_close(x);
}

static void test_a_read_of_a_standby_that_stalls_ends(void **state)
{
	struct fixture *x = fixture_open(BUDGET, 300 * MC_MSEC);
	struct nbd_handle *h = fixture_client(x, "big");
	char one;
	fake_freeze(x->f, true);
	/* It may be reading a message already when it is told to stop: that one is answered. */
	int r = 0;
	for (int i = 0; i < 3 && r == 0; i++)
		r = nbd_pread(h, &one, 1, 0, 0);
	assert_int_equal(r, -1);
	assert_broken(x, -ETIMEDOUT);
	nbd_close(h);
	fixture_close(x);
}

static void test_a_link_that_ends_is_told_once_and_closes_nbd(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct nbd_handle *h = fixture_client(x, "big");
	assert_int_equal(nbd_pwrite(h, "x", 1, 0, 0), 0);
	fake_hang_up(x->f);
	fixture_wait_broken(x);
	assert_int_equal(nbd_pwrite(h, "x", 1, 0, 0), -1);
	nbd_close(h);
	err = MC_ERROR_INIT;
	assert_true(mirror_error(x->m, &err) < 0);
	assert_string_equal(err.cls, MC_ECLASS_UNREACHABLE);
	assert_broken(x, err.code);
	fixture_close(x);
}

static void test_a_barrier_after_it_broke_does_no_harm(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct disk_epoch_sum s;
	mirror_begin(x->m, 1);
	fake_hang_up(x->f);
	fixture_wait_broken(x);
	for (uint64_t n = 1; n < 4; n++) {
		mirror_barrier(x->m, n, &s);
		assert_true(mirror_end(x->m, n, false, &err) < 0);
	}
	fixture_close(x);
}

static void test_a_client_that_goes_without_a_goodbye_after_a_write_breaks_the_mirror(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct nbd_handle *h = fixture_client(x, "big"), *only_reads = fixture_client(x, "big");
	char one;
	assert_int_equal(nbd_pread(only_reads, &one, 1, 0, 0), 0);
	nbd_close(only_reads);
	assert_int_equal(nbd_pwrite(h, "x", 1, 0, 0), 0);
	fixture_client_done(h); /* says goodbye */
	h = fixture_client(x, "big");
	assert_int_equal(nbd_pwrite(h, "x", 1, 0, 0), 0);
	assert_int_equal(x->broken, 0);
	shutdown(nbd_aio_get_fd(h), SHUT_RDWR);
	assert_broken(x, -ECONNRESET);
	nbd_close(h);
	fixture_close(x);
}

static void test_a_refused_write_breaks_the_mirror_after_its_answer(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	struct nbd_handle *h = fixture_client(x, "small");
	assert_int_equal(nbd_pwrite(h, "xx", 2, SMALL_SIZE - 1, 0), -1);
	assert_int_equal(nbd_get_errno(), EINVAL);
	assert_broken(x, -ECONNRESET);
	nbd_close(h);
	fixture_close(x);
}

static void test_what_a_standby_may_not_say_breaks_the_mirror(void **state)
{
	static const struct disk_header bad[] = {
		{.type = DISK_TABLE, .disk = 2, .length = 16},
		{.type = DISK_TABLE, .disk = 1, .length = 5 * 16},
		{.type = DISK_TABLE, .disk = 1, .offset = 4 * DISK_BLOCK, .length = 16},
		{.type = DISK_TABLE, .disk = 0, .length = 16, .digest = 1},
		{.type = DISK_DATA, .disk = 0, .length = 16},
		{.type = DISK_HELLO_OK},
		{.type = DISK_READ, .length = 16},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct fixture *x = fixture_open(BUDGET, STALL);
		uint8_t payload[80] = {0};
		fake_send(x->f, &bad[i], disk_has_payload(bad[i].type) ? payload : NULL);
		assert_broken(x, -EBADMSG);
		assert_string_equal(err.cls, MC_ECLASS_PROTOCOL);
		fixture_close(x);
	}
}

static void test_the_standbys_reason_is_passed_on(void **state)
{
	struct fixture *x = fixture_open(BUDGET, STALL);
	const char *text = "the file system is full";
	struct disk_header h = {.type = DISK_ERROR, .length = strlen(text)};
	fake_send(x->f, &h, text);
	assert_broken(x, -EREMOTEIO);
	assert_non_null(strstr(err.msg, text));
	fixture_close(x);
}

static void test_a_standby_that_does_not_answer_hello_fails_the_open(void **state)
{
	struct fixture x = {.hello = {.generation = 1, .n_disks = 1, .disks = {{"d", 512}}}};
	for (int mode = 0; mode < 2; mode++) {
		struct mirror_config c = {.socket_path = "/nonexistent/s",
			.hello = &x.hello,
			.budget = 1,
			.stall_after = MC_SEC};
		struct mirror *m = NULL;
		struct disklink *l;
		int fd[2];
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		l = test_disklink(fd[0]);
		if (mode)
			close(fd[1]);
		uint64_t start = mc_now();
		int r = mirror_open(&c, l, start + 100 * MC_MSEC, &m, &err);
		assert_true(mode ? r < 0 && r != -ETIMEDOUT : r == -ETIMEDOUT);
		assert_true(mc_now() - start < 5 * MC_SEC);
		assert_null(m);
		if (!mode)
			close(fd[1]);
	}
}

#define T(name) cmocka_unit_test(test_##name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_completed_write_is_in_the_epoch_it_was_completed_in),
		T(nothing_of_the_next_epoch_passes_an_end_that_is_not_said),
		T(empty_epochs_have_their_ends_too),
		T(the_standby_gets_every_kind_of_write),
		T(a_read_is_answered_with_what_the_standby_has_and_was_sent),
		T(answers_wait_beyond_the_budget_and_go_on_when_there_is_room),
		T(a_request_larger_than_the_budget_passes),
		T(pressure_is_told_once_an_epoch),
		T(a_standby_that_stalls_lets_the_guest_go_on_within_the_bound),
		T(a_link_without_progress_is_noticed_though_no_write_waits),
		T(an_end_that_is_never_said_does_not_hang_the_guest),
		T(a_read_of_a_standby_that_stalls_ends),
		T(a_link_that_ends_is_told_once_and_closes_nbd),
		T(a_barrier_after_it_broke_does_no_harm),
		T(a_client_that_goes_without_a_goodbye_after_a_write_breaks_the_mirror),
		T(a_refused_write_breaks_the_mirror_after_its_answer),
		T(what_a_standby_may_not_say_breaks_the_mirror),
		T(the_standbys_reason_is_passed_on),
		T(a_standby_that_does_not_answer_hello_fails_the_open),
	};
	return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
