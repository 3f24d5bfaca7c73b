/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VM's doors: the mailbox and its bell, and what is published. */
#include "mcd/vm/calls.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/published.h"
#include "mcd/vm/status.h"
#include "tests/unit/vm/vm-fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- the bell --------------------------------------------------------------------------------- */

static bool rings(struct vm *vm)
{
	struct pollfd p = {.fd = vm->wake, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

static void the_bell_rings_until_it_is_taken(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	assert_false(rings(vm));
	vm_ring(vm, WAKE_SUSPECT);
	vm_ring(vm, WAKE_DISK);
	assert_true(rings(vm));
	vm_wait(vm, mc_now() + 10 * MC_SEC); /* does not take it */
	assert_true(rings(vm));
	assert_int_equal(vm_take_pending(vm), WAKE_SUSPECT | WAKE_DISK);
	assert_false(rings(vm));
	assert_int_equal(vm_take_pending(vm), 0);
	assert_false(vm->quit);
}

static void quitting_is_not_forgotten(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	vm_ring(vm, WAKE_QUIT);
	vm_take_pending(vm);
	assert_true(vm->quit);
	vm_take_pending(vm);
	assert_true(vm->quit);
}

static void a_wait_ends_at_its_deadline(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	uint64_t until = mc_now() + 3 * MC_MSEC;
	vm_wait(vm, until);
	assert_true(mc_now() + MC_MSEC >= until);
}

/* --- calls and offers ------------------------------------------------------------------------- */

static void send_call(struct vm *vm, enum vm_verb verb)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert_non_null(c);
	c->verb = verb;
	vm_call(vm, c);
}

static void calls_are_served_in_order(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	send_call(vm, VM_START);
	send_call(vm, VM_STOP);
	send_call(vm, VM_SET);
	assert_int_equal(vm_take_pending(vm), WAKE_CALL);
	struct vm_call *c = vm_next_call(vm);
	assert_int_equal(c->verb, VM_START);
	vm_keep_call(vm, c); /* for whoever comes next */
	assert_int_equal(vm_take_pending(vm), WAKE_CALL);
	static const enum vm_verb order[] = {VM_START, VM_STOP, VM_SET};
	for (size_t i = 0; i < 3; i++) {
		c = vm_next_call(vm);
		assert_int_equal(c->verb, order[i]);
		vm_call_ok(c, NULL);
	}
	assert_null(vm_next_call(vm));
}

static void a_call_that_nobody_served_ends_with_the_vm(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	send_call(vm, VM_START); /* a leak is what would be seen */
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void a_newer_offer_replaces_the_one_before(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	struct link_peer a = {.name = "hostA"}, c = {.name = "hostC"}, from;
	int first = eventfd(0, EFD_CLOEXEC), second = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(vm_take_offer(vm, &from), -1);
	vm_offer_peer(vm, first, &a);
	assert_true(vm_offered_by(vm, "hostA"));
	vm_offer_peer(vm, second, &c);
	assert_false(is_open(first));
	assert_false(vm_offered_by(vm, "hostA"));
	assert_true(vm_offered_by(vm, "hostC"));
	assert_int_equal(vm_take_pending(vm), WAKE_PEER);
	assert_int_equal(vm_take_offer(vm, &from), second);
	assert_string_equal(from.name, "hostC");
	assert_int_equal(vm_take_offer(vm, &from), -1);
	assert_false(vm_offered_by(vm, "hostC"));
	assert_true(is_open(second)); /* ours now */
	close(second);
}

static void the_disks_have_a_door_of_their_own(void **state)
{
	struct vm *vm = vm_make(*state, NULL, NULL);
	struct link_peer a = {.name = "hostA"}, from;
	int fd = eventfd(0, EFD_CLOEXEC);
	vm_offer_disk(vm, fd, &a);
	assert_int_equal(vm_take_pending(vm), WAKE_DISK);
	assert_int_equal(vm_take_offer(vm, &from), -1);
	assert_int_equal(vm_take_disk_offer(vm, &from), fd);
	close(fd);
}

/* --- what is published ------------------------------------------------------------------------ */

static void each_state_has_a_name_of_its_own(void **state)
{
	for (int i = 0; i <= VM_FAILED; i++)
		assert_int_equal(vm_state_parse(vm_state_name((enum vm_state)i)), i);
	assert_int_equal(vm_state_parse("protecte"), -1);
}

static void a_state_is_told_when_it_changes(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, NULL);
	char text[200], peer[LINK_NAME_MAX + 1];
	vm_set_peer(vm, "hostA");
	vm_set_state(vm, VM_ROLE_STANDBY, VM_STANDBY_SYNCING, "%s copies", "hostA");
	vm_set_state(vm, VM_ROLE_STANDBY, VM_STANDBY_SYNCING, "%s still copies", "hostA");
	assert_int_equal(world_emitted(f->w, "STATE_CHANGED"), 1);
	assert_string_equal(
		world_event(f->w, "STATE_CHANGED", "from", text, sizeof text), "stopped");
	assert_string_equal(
		world_event(f->w, "STATE_CHANGED", "to", text, sizeof text), "standby-syncing");
	assert_string_equal(
		world_event(f->w, "STATE_CHANGED", "reason", text, sizeof text), "hostA copies");
	assert_string_equal(world_event(f->w, "STATE_CHANGED", "vm", text, sizeof text), "vm1");
	assert_int_equal(vm_get_state(vm), VM_STANDBY_SYNCING);
	assert_string_equal(vm_get_peer(vm, peer), "hostA");
	vm_set_state(vm, VM_ROLE_PRIMARY, VM_UNPROTECTED, "alone");
	assert_string_equal(vm_get_peer(vm, peer), "");
}

static void an_alarm_is_told_once(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, NULL);
	vm_set_alarm(vm, "no %s", "majority");
	vm_set_alarm(vm, "no majority");
	assert_int_equal(world_emitted(f->w, "ALARM"), 1);
	vm_clear_alarm(vm);
	vm_set_alarm(vm, "no majority");
	assert_int_equal(world_emitted(f->w, "ALARM"), 2);
}

static void no_good_news_ends_the_alarm_of_a_panicked_guest(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, NULL);
	char text[300];
	vm->panicked = true;
	vm_set_alarm(vm, "something else");
	vm_clear_alarm(vm);
	assert_non_null(
		strstr(world_event(f->w, "ALARM", "reason", text, sizeof text), "panicked"));
	vm_clear_alarm(vm);
	assert_int_equal(world_emitted(f->w, "ALARM"), 2);
	vm->panicked = false;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(the_bell_rings_until_it_is_taken),
		VM_TEST(quitting_is_not_forgotten),
		VM_TEST(a_wait_ends_at_its_deadline),
		VM_TEST(calls_are_served_in_order),
		VM_TEST(a_call_that_nobody_served_ends_with_the_vm),
		VM_TEST(a_newer_offer_replaces_the_one_before),
		VM_TEST(the_disks_have_a_door_of_their_own),
		VM_TEST(each_state_has_a_name_of_its_own),
		VM_TEST(a_state_is_told_when_it_changes),
		VM_TEST(an_alarm_is_told_once),
		VM_TEST(no_good_news_ends_the_alarm_of_a_panicked_guest),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
