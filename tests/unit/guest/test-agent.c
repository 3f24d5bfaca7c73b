/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The conversation with a guest's agent, against one that does what it should, and others that do
 * not.  The agent's clock is this host's and an offset, which guest-set-time changes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "mcd/guest/agent.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum kind {
	GOOD,
	LEFTOVERS, /* of another client: half a line, and an answer to his sync */
	DEAF_ONCE, /* a guest that boots: the first sync is lost */
	DEAF,
	NO_HWCLOCK, /* sets the time, and says that it failed */
	WILL_NOT,
	NO_TIME,      /* guest-get-time is not allowed */
	ONLY_SAYS_SO, /* answers that it was set, and has not */
	FLOOD,
	WRONG_ID,
	LONG_LINE,
	HANGS_UP,
	NONSENSE,
	BEFORE_1970,
	HUGE_NUMBER,
};

struct fake {
	enum kind kind;
	int64_t offset; /* of its clock */
	char path[64];
	int listener, fd;
	pthread_t thread;
	unsigned syncs, sets;
	volatile bool end;
};

static int64_t wall(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void say(struct fake *f, const char *text)
{
	size_t len = strlen(text);
	for (ssize_t n; len && (n = send(f->fd, text, len, MSG_NOSIGNAL)) > 0; len -= (size_t)n)
		text += n;
}

static void flood(struct fake *f)
{
	char junk[4096];
	memset(junk, 'j', sizeof junk);
	while (!f->end && send(f->fd, junk, sizeof junk, MSG_NOSIGNAL) > 0)
		;
}

static void sync_answer(struct fake *f, const char *line)
{
	char text[100];
	unsigned long id = strtoul(strstr(line, "\"id\":") + 5, NULL, 10);
	f->syncs++;
	if (f->kind == DEAF || (f->kind == DEAF_ONCE && f->syncs == 1))
		return;
	if (f->kind == LEFTOVERS)
		say(f, "\": {}}\n\xff{\"return\": 77}\n{\"return\": 1");
	if (f->kind == FLOOD)
		flood(f);
	snprintf(text, sizeof text, "\xff{\"return\": %lu}\n", f->kind == WRONG_ID ? id ^ 1 : id);
	say(f, text);
}

static void time_answer(struct fake *f)
{
	char text[100];
	switch (f->kind) {
	case NO_TIME:
		say(f, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"not \\u0001 "
		       "allowed\"}}\n");
		return;
	case LONG_LINE:
		flood(f);
		return;
	case HANGS_UP:
		shutdown(f->fd, SHUT_RDWR);
		return;
	case NONSENSE:
		say(f, "{\"return\": \"five to twelve\"}\n");
		return;
	case BEFORE_1970:
		say(f, "{\"return\": -5}\n");
		return;
	case HUGE_NUMBER:
		say(f, "{\"return\": 92233720368547758070}\n");
		return;
	default:
		snprintf(text, sizeof text, "{\"return\": %" PRId64 "}\n", wall() + f->offset);
		say(f, text);
	}
}

static void set_answer(struct fake *f, const char *line)
{
	int64_t to = strtoll(strstr(line, "\"time\":") + 7, NULL, 10);
	f->sets++;
	if (f->kind != WILL_NOT && f->kind != ONLY_SAYS_SO)
		f->offset = to - wall();
	say(f, f->kind == NO_HWCLOCK || f->kind == WILL_NOT
			? "{\"error\": {\"class\": \"GenericError\", \"desc\": \"hwclock "
			  "failed\"}}\n"
			: "{\"return\": {}}\n");
}

static void *serve(void *arg)
{
	struct fake *f = arg;
	char line[512];
	size_t n = 0;
	f->fd = accept(f->listener, NULL, NULL);
	while (f->fd >= 0 && !f->end && recv(f->fd, line + n, 1, 0) == 1) {
		if ((uint8_t)line[n] == 0xff) {
			n = 0;
			continue;
		}
		if (line[n] != '\n' && n < sizeof line - 2) {
			n++;
			continue;
		}
		line[n] = 0;
		n = 0;
		if (strstr(line, "\"guest-sync-delimited\""))
			sync_answer(f, line);
		else if (strstr(line, "\"guest-get-time\""))
			time_answer(f);
		else if (strstr(line, "\"guest-set-time\""))
			set_answer(f, line);
	}
	return NULL;
}

static void fake_start(struct fake *f, enum kind kind, double behind)
{
	static unsigned count;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	*f = (struct fake){.kind = kind, .offset = (int64_t)(-behind * 1e9), .fd = -1};
	snprintf(f->path, sizeof f->path, "/tmp/test-agent-%d-%u.sock", (int)getpid(), count++);
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, sizeof sa), 0);
	assert_int_equal(listen(f->listener, 4), 0);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
}

static void fake_end(struct fake *f)
{
	f->end = true;
	shutdown(f->listener, SHUT_RDWR);
	if (f->fd >= 0)
		shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	if (f->fd >= 0)
		close(f->fd);
	close(f->listener);
	unlink(f->path);
}

/* --- the other side --------------------------------------------------------------------------- */

struct outcome {
	struct guest_time t;
	int pipe[2];
	unsigned calls;
};

static void done(void *ctx, const struct guest_time *t)
{
	struct outcome *o = ctx;
	o->t = *t;
	o->calls++;
	assert_int_equal(write(o->pipe[1], "", 1), 1);
}

/* Seconds that it took. */
static double converse(const char *path, pid_t pid, struct outcome *o)
{
	struct mc_error err = MC_ERROR_INIT;
	struct guest_agent *a;
	uint64_t began = mc_now();
	*o = (struct outcome){.calls = 0};
	assert_int_equal(pipe(o->pipe), 0);
	assert_int_equal(guest_agent_set_time(path, pid, 20000000, done, o, &a, &err), 0);
	assert_true(mc_now() - began < MC_SEC); /* nobody waits for it: it takes longer */
	struct pollfd p = {.fd = o->pipe[0], .events = POLLIN};
	assert_int_equal(poll(&p, 1, 20000), 1);
	double took = (double)(mc_now() - began) / 1e9;
	guest_agent_free(a);
	assert_int_equal(o->calls, 1);
	close(o->pipe[0]);
	close(o->pipe[1]);
	return took;
}

static double talk_to(enum kind kind, double behind, struct fake *f, struct outcome *o)
{
	fake_start(f, kind, behind);
	double took = converse(f->path, getpid(), o);
	fake_end(f);
	return took;
}

static void assert_near(int64_t ns, double seconds)
{
	if ((double)ns < seconds * 1e9 - 2e8 || (double)ns > seconds * 1e9 + 2e8)
		fail_msg("%.3f s instead of %.3f", (double)ns / 1e9, seconds);
}

static void a_late_clock_is_set(void **state)
{
	static const enum kind kinds[] = {GOOD, LEFTOVERS, NO_HWCLOCK, DEAF_ONCE};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct fake f;
		struct outcome o;
		talk_to(kinds[i], 3.5, &f, &o);
		assert_true(o.t.set);
		assert_int_equal(f.sets, 1);
		assert_near(o.t.behind, 3.5);
		assert_near(o.t.left, 0);
		assert_near(f.offset, 0);
		assert_int_equal(o.t.err.code != 0, kinds[i] == NO_HWCLOCK);
	}
}

static void a_clock_that_is_right_or_ahead_is_left_alone(void **state)
{
	struct fake f;
	struct outcome o;
	talk_to(GOOD, 0.001, &f, &o);
	assert_int_equal(f.sets + (unsigned)o.t.set, 0);
	assert_int_equal(o.t.err.code, 0);
	talk_to(GOOD, -60, &f, &o);
	assert_int_equal(f.sets + (unsigned)o.t.set, 0);
	assert_near(o.t.behind, -60);
	assert_non_null(strstr(o.t.err.msg, "ahead"));
}

static void a_clock_that_was_not_set_is_not_said_to_be(void **state)
{
	static const struct {
		enum kind kind;
		const char *says;
		unsigned sets;
	} rows[] = {
		{WILL_NOT, "hwclock failed", 1},
		{ONLY_SAYS_SO, "still", 1},
		{NO_TIME, "not ? allowed", 0},
		{HANGS_UP, "broke", 0},
		{NONSENSE, "not asked", 0},
		{BEFORE_1970, "1970", 0},
		{HUGE_NUMBER, "not asked", 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct fake f;
		struct outcome o;
		double took = talk_to(rows[i].kind, 3.5, &f, &o);
		assert_false(o.t.set);
		assert_int_equal(f.sets, rows[i].sets);
		if (!strstr(o.t.err.msg, rows[i].says))
			fail_msg("\"%s\" is not in \"%s\"", rows[i].says, o.t.err.msg);
		assert_true(took < 1);
	}
}

static void an_agent_that_does_not_answer_or_talks_without_end_is_given_up(void **state)
{
	static const struct {
		enum kind kind;
		const char *says;
	} rows[] = {{DEAF, "does not answer"}, {WRONG_ID, "does not answer"},
		{FLOOD, "without end"}, {LONG_LINE, "without end"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct fake f;
		struct outcome o;
		double took = talk_to(rows[i].kind, 3.5, &f, &o);
		assert_false(o.t.set);
		assert_int_equal(f.sets, 0);
		if (!strstr(o.t.err.msg, rows[i].says))
			fail_msg("\"%s\" is not in \"%s\"", rows[i].says, o.t.err.msg);
		assert_true(took < (double)GUEST_AGENT_WAIT / 1e9);
	}
}

static void only_this_vms_qemu_is_listened_to(void **state)
{
	struct fake f;
	struct outcome o;
	fake_start(&f, GOOD, 3.5);
	converse(f.path, getppid(), &o);
	fake_end(&f);
	assert_int_equal(f.syncs, 0);
	assert_non_null(strstr(o.t.err.msg, "not a socket of this VM's QEMU"));
	converse("/nonexistent/agent.sock", getpid(), &o);
	assert_non_null(strstr(o.t.err.msg, "No such file"));
}

static void it_is_ended_at_once_and_says_nothing_then(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct fake f;
	struct outcome o = {.calls = 0};
	struct guest_agent *a;
	fake_start(&f, DEAF, 3.5);
	assert_int_equal(guest_agent_set_time(f.path, getpid(), 0, done, &o, &a, &err), 0);
	while (!f.syncs)
		poll(NULL, 0, 1);
	uint64_t began = mc_now();
	guest_agent_free(a);
	assert_true(mc_now() - began < MC_SEC / 2);
	assert_int_equal(o.calls, 0);
	fake_end(&f);
	guest_agent_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_late_clock_is_set),
		cmocka_unit_test(a_clock_that_is_right_or_ahead_is_left_alone),
		cmocka_unit_test(a_clock_that_was_not_set_is_not_said_to_be),
		cmocka_unit_test(an_agent_that_does_not_answer_or_talks_without_end_is_given_up),
		cmocka_unit_test(only_this_vms_qemu_is_listened_to),
		cmocka_unit_test(it_is_ended_at_once_and_says_nothing_then),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
