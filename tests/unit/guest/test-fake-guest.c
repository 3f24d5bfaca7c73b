/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fake guest is a guest: what its users rely on, without a QEMU (tests/fakes/fake-guest.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mcd/guest/dirty/private.h"
#include "tests/fakes/fake-guest.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAM_SIZE (64u << 10)

static int ram_fd = -1;
static struct mc_error err;

static struct guest *launch(const char *name, bool incoming)
{
	struct config_vm vm = {0};
	struct cmdline_plan plan = {.n_ram = 1, .ram = {{.id = "ram0", .size = RAM_SIZE}}};
	struct guest *g = NULL;
	strcpy(vm.name, name);
	struct guest_launch l = {
		.vm = &vm, .plan = &plan, .ram_fds = &ram_fd, .incoming = incoming};
	assert_int_equal(fake_guests_source()->launch(&l, &g, &err), 0);
	assert_ptr_equal(g, fake_guest_find(name));
	return g;
}

static int set_up(void **state)
{
	err = MC_ERROR_INIT;
	ram_fd = memfd_create("fake-ram", MFD_CLOEXEC);
	return ftruncate(ram_fd, RAM_SIZE);
}

static int clean_up(void **state)
{
	fake_guests_clear();
	return close(ram_fd);
}

static void it_runs_and_knows_who_stopped_it(void **state)
{
	struct guest *g = launch("vm1", false);
	enum guest_event why;
	assert_true(fake_guest_runs(g));
	assert_true(guest_alive(g));
	assert_int_equal(guest_pause(g, 0, &err), 0);
	assert_true(guest_paused_by_us(g));
	assert_false(fake_guest_runs(g));
	assert_int_equal(guest_resume(g, 0, &err), 0);
	assert_true(fake_guest_runs(g));
	fake_guest_happens(g, GUEST_EVENT_STOPPED);
	assert_int_equal(guest_pause(g, 0, &err), 0);
	assert_int_equal(guest_resume(g, 0, &err), 0);
	assert_false(fake_guest_runs(g)); /* its administrator stopped it */
	assert_int_equal(guest_why_stopped(g, 0, &why, &err), 0);
	assert_int_equal(why, GUEST_EVENT_STOPPED);
	assert_int_equal(guest_next_event(g), GUEST_EVENT_STOPPED);
	assert_int_equal(guest_next_event(g), GUEST_EVENT_NONE); /* ours are no events */
	assert_string_equal(fake_guest_log(g), "pause cont pause why-stopped");
	guest_free(g);
}

static void what_it_writes_is_collected_once(void **state)
{
	struct guest *g = launch("vm1", false);
	struct ramblocks ram = {0};
	struct dirty *d = NULL;
	struct dirty_list list = {0};
	uint64_t bytes;
	assert_int_equal(guest_open_memory(g, &ram, &err), 0);
	assert_int_equal(ram.n, 1);
	assert_string_equal(ram.v[0].id, "ram0");
	assert_int_equal(guest_track(g, &ram, DIRTY_AUTO, &d, &err), 0);
	assert_int_equal(dirty_collect(d, &list, &err), 0);
	assert_int_equal(list.bytes, RAM_SIZE); /* everything, first */
	uint64_t before = fake_guest_digest(g);
	fake_guest_write(g, 0, 4090, "across pages", 12);
	fake_guest_write(g, 0, 3 * 4096, "x", 1);
	assert_int_equal(dirty_peek(d, &bytes, &err), 0);
	assert_int_equal(bytes, 3 * 4096);
	assert_int_equal(dirty_collect(d, &list, &err), 0);
	assert_int_equal(list.n, 2);
	assert_int_equal(list.v[0].len, 2 * 4096);
	assert_int_equal(list.v[1].off, 3 * 4096);
	assert_memory_equal(ram.v[0].map + 4090, "across pages", 12);
	assert_true(before != fake_guest_digest(g));
	assert_int_equal(dirty_collect(d, &list, &err), 0);
	assert_int_equal(list.n, 0);
	guest_free(g);
	dirty_close(d); /* fine after its guest */
	dirty_list_free(&list);
	ramblocks_close(&ram);
}

static void a_standby_gets_the_state_that_was_saved(void **state)
{
	struct guest *g = launch("vm1", false), *s = launch("vm2", true);
	_Static_assert(RAM_SIZE % 4096 == 0, "whole pages");
	uint8_t *buf = NULL;
	size_t cap = 0, len = 0, got = 0;
	uint64_t at = 0;
	fake_guest_set_devices(g, "state", 5);
	assert_int_equal(guest_save_devices(g, 0, &buf, &cap, &len, &err), 0);
	assert_null(fake_guest_activated(s, &got));
	assert_false(fake_guest_runs(s));
	assert_int_equal(guest_activate(s, buf, len, 0, &at, &err), 0);
	assert_memory_equal(fake_guest_activated(s, &got), "state", 5);
	assert_int_equal(got, 5);
	assert_true(at > 0);
	assert_true(fake_guest_runs(s));
	assert_true(fake_guest_digest(g) == fake_guest_digest(s));
	free(buf);
	guest_free(g);
	guest_free(s);
}

/* A broken rule ends the process, before it does harm. */
static void assert_dies(void (*fn)(struct guest *g), struct guest *g)
{
	pid_t pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0});
		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		signal(SIGABRT, SIG_DFL); /* not cmocka's */
		fn(g);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void activate(struct guest *g)
{
	guest_activate(g, (const uint8_t *)"x", 1, 0, NULL, &err);
}

static void a_guest_is_never_activated_twice(void **state)
{
	struct guest *s = launch("vm1", true);
	activate(s);
	assert_true(fake_guest_runs(s));
	assert_dies(activate, s);
	guest_free(s);
}

static void add_backwards(struct guest *g)
{
	struct dirty_list list = {0};
	dirty_list_add(&list, 0, 8192, 4096, NULL);
	dirty_list_add(&list, 0, 0, 4096, NULL);
}

static void add_half_a_page(struct guest *g)
{
	struct dirty_list list = {0};
	dirty_list_add(&list, 0, 0, 2048, NULL);
}

static void a_list_of_dirty_pages_is_in_order_and_of_pages(void **state)
{
	assert_dies(add_backwards, NULL);
	assert_dies(add_half_a_page, NULL);
}

static void a_standby_may_be_told_to_stand(void **state)
{
	struct guest *s = launch("vm1", true);
	assert_int_equal(guest_stay_stopped(s, 0, &err), 0);
	assert_int_equal(guest_activate(s, (const uint8_t *)"x", 1, 0, NULL, &err), 0);
	assert_false(fake_guest_runs(s));
	guest_free(s);
}

static void only_the_call_that_is_to_fail_fails(void **state)
{
	struct guest *g = launch("vm1", false);
	fake_guest_fail(g, FAKE_GUEST_PAUSE, 1, EIO);
	assert_int_equal(guest_pause(g, 0, &err), 0);
	assert_int_equal(guest_resume(g, 0, &err), 0);
	assert_int_equal(guest_pause(g, 0, &err), -EIO);
	assert_true(fake_guest_runs(g));
	assert_true(guest_paused_by_us(g)); /* perhaps */
	assert_int_equal(guest_pause(g, 0, &err), 0);
	assert_int_equal(guest_resume(g, 0, &err), 0);
	fake_guest_fail(g, FAKE_GUEST_PAUSE, 0, ETIMEDOUT);
	assert_int_equal(guest_pause(g, 0, &err), -ETIMEDOUT);
	assert_false(fake_guest_runs(g)); /* the answer came too late */
	assert_int_equal(fake_guest_calls(g, FAKE_GUEST_PAUSE), 4);
	guest_free(g);
	struct guest *none = NULL;
	fake_guest_fail(NULL, FAKE_GUEST_LAUNCH, 0, EPIPE);
	assert_int_equal(fake_guests_source()->launch(NULL, &none, &err), -EPIPE);
	assert_int_equal(fake_guests_launched(), 1);
}

static void one_that_ran_in_our_pause_did_not_stand_still(void **state)
{
	struct guest *g = launch("vm1", false);
	static const enum guest_event by_others[] = {GUEST_EVENT_RESUMED, GUEST_EVENT_RESET};
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(guest_pause(g, 0, &err), 0);
		fake_guest_happens(g, by_others[i]);
		assert_int_equal(guest_resume(g, 0, &err), 0);
		assert_int_equal(guest_stood_still(g, 0, &err), -EIO);
		assert_int_equal(guest_pause(g, 0, &err), 0);
		assert_int_equal(guest_resume(g, 0, &err), 0);
		assert_int_equal(guest_stood_still(g, 0, &err), 0);
	}
	guest_free(g);
}

static void one_that_died_is_gone_and_answers_no_more(void **state)
{
	struct guest *g = launch("vm1", false);
	fake_guest_happens(g, GUEST_EVENT_RESET);
	fake_guest_die(g);
	assert_false(guest_alive(g));
	assert_true(guest_gone_within(g, 0));
	assert_int_equal(guest_ping(g, 0, &err), -EPIPE);
	assert_int_equal(guest_next_event(g), GUEST_EVENT_RESET); /* GONE comes last */
	assert_int_equal(guest_next_event(g), GUEST_EVENT_GONE);
	assert_int_equal(guest_next_event(g), GUEST_EVENT_GONE);
	guest_kill(g);
	guest_free(g);
	assert_true(fake_guest_is_free(g));
}

static void one_that_was_let_go_of_is_adopted(void **state)
{
	struct config_vm vm = {.name = "vm1"};
	enum guest_adopted how;
	struct guest *g = launch("vm1", false), *found = NULL;
	const struct guest_source *source = fake_guests_source();
	assert_int_equal(
		source->adopt(&vm, "", 0, &found, NULL, &how, &err), -ENOENT); /* somebody has it */
	assert_int_equal(guest_pause(g, 0, &err), 0);
	guest_detach(g);
	assert_int_equal(source->adopt(&vm, "", 0, &found, NULL, &how, &err), 0);
	assert_ptr_equal(found, g);
	assert_int_equal(how, GUEST_ADOPTED_STOPPED);
	assert_true(guest_paused_by_us(g));
	fake_guest_happens(g, GUEST_EVENT_SHUTDOWN);
	guest_detach(g);
	assert_int_equal(source->adopt(&vm, "", 0, &found, NULL, &how, &err), 0);
	assert_int_equal(
		how, GUEST_ADOPTED_RUNNING); /* it stands, but not because it was stopped */
	assert_int_equal(guest_next_event(g), GUEST_EVENT_SHUTDOWN);
	guest_kill(g);
	guest_free(g);
	assert_int_equal(source->adopt(&vm, "", 0, &found, NULL, &how, &err), -ENOENT);
	assert_int_equal(err.code, 0);
}

static void disks_are_mirrored_as_scripted(void **state)
{
	struct guest *g = launch("vm1", false);
	struct guest_mirror m;
	uint64_t n;
	assert_int_equal(guest_mirror_look(g, "d0", 0, &m, &err), -ENOENT);
	assert_int_equal(guest_mirror_begin(g, "d0", "", 0, &err), 0);
	assert_int_equal(guest_mirror_look(g, "d0", 0, &m, &err), 0);
	assert_true(m.ready);
	fake_guest_set_disk(g, 4096, 3, &(struct guest_mirror){.done = 1, .total = 2});
	assert_int_equal(guest_mirror_look(g, "d0", 0, &m, &err), 0);
	assert_false(m.ready);
	assert_int_equal(guest_disk_flushes(g, 0, &n, &err), 0);
	assert_int_equal(n, 3);
	assert_true(fake_guest_mirrors(g, "d0"));
	assert_int_equal(guest_mirror_end(g, "d0", 0, &err), 0);
	assert_false(fake_guest_mirrors(g, "d0"));
	guest_free(g);
}

static void write_while_it_is_saved(void *ctx, struct guest *g, enum fake_guest_op op)
{
	if (op == FAKE_GUEST_SAVE)
		fake_guest_write(g, 0, 0, "hook", 4);
}

static void a_hook_comes_in_the_middle(void **state)
{
	struct guest *g = launch("vm1", false);
	uint8_t *buf = NULL;
	size_t cap = 0, len;
	fake_guest_hook(g, write_while_it_is_saved, NULL);
	assert_int_equal(guest_pause(g, 0, &err), 0);
	assert_memory_equal(fake_guest_ram(g, 0, NULL), "\0\0\0\0", 4);
	assert_int_equal(guest_save_devices(g, 0, &buf, &cap, &len, &err), 0);
	assert_memory_equal(fake_guest_ram(g, 0, NULL), "hook", 4);
	free(buf);
	guest_free(g);
}

static void firmware_goes_from_one_to_the_other(void **state)
{
	struct guest *g = launch("vm1", false), *s = launch("vm2", true);
	struct roms roms = {0};
	fake_guest_add_rom(g, "pc.bios", "bios", 4);
	assert_int_equal(guest_read_roms(g, &roms, &err), 0);
	assert_int_equal(guest_write_roms(s, &roms, &err), 0);
	assert_int_equal(fake_guest_roms(s)->n, 1);
	assert_memory_equal(fake_guest_roms(s)->v[0].data, "bios", 4);
	roms_clear(&roms);
	guest_free(g);
	guest_free(s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, clean_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_runs_and_knows_who_stopped_it),
		TEST(what_it_writes_is_collected_once),
		TEST(a_standby_gets_the_state_that_was_saved),
		TEST(a_guest_is_never_activated_twice),
		TEST(a_list_of_dirty_pages_is_in_order_and_of_pages),
		TEST(a_standby_may_be_told_to_stand),
		TEST(only_the_call_that_is_to_fail_fails),
		TEST(one_that_ran_in_our_pause_did_not_stand_still),
		TEST(one_that_died_is_gone_and_answers_no_more),
		TEST(one_that_was_let_go_of_is_adopted),
		TEST(disks_are_mirrored_as_scripted),
		TEST(a_hook_comes_in_the_middle),
		TEST(firmware_goes_from_one_to_the_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
