/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose the VM is: what is learned, what is acted under, and one word to the voters. */
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "tests/unit/vm/vm-fixture.h"

static const struct own_record first = {.generation = 7, .owner = "hostB", .standby = "hostA"};

static void a_vm_begins_with_what_its_voter_knows(void **state)
{
	struct vm *vm = vm_make(*state, NULL, &first);
	assert_int_equal(vm->rec.generation, 7);
	assert_string_equal(vm->rec.owner, "hostB");
	assert_int_equal(vm_newest_record(vm).generation, 7);
}

static void a_newer_record_is_learned_and_rings(void **state)
{
	struct vm *vm = vm_make(*state, NULL, &first);
	struct own_record newer = world_record(8, "hostA", "");
	vm_learned(vm, &newer);
	assert_string_equal(vm_newest_record(vm).owner, "hostA");
	assert_int_equal(vm_take_pending(vm), WAKE_RECORD);
	assert_int_equal(vm->rec.generation, 7); /* what it acts under is its own affair */
}

static void an_older_record_is_no_news(void **state)
{
	struct vm *vm = vm_make(*state, NULL, &first);
	struct own_record older = world_record(6, "hostA", ""), same = world_record(7, "hostA", "");
	vm_learned(vm, &older);
	vm_learned(vm, &same);
	assert_string_equal(vm_newest_record(vm).owner, "hostB");
	assert_int_equal(vm_take_pending(vm), 0);
}

static void what_it_acts_under_is_known_to_be_newest(void **state)
{
	struct vm *vm = vm_make(*state, NULL, &first);
	struct own_record rec = world_record(9, "hostB", "");
	vm_set_record(vm, &rec);
	assert_int_equal(vm_newest_record(vm).generation, 9);
	assert_int_equal(vm->rec.generation, 9);
}

static void a_vote_that_is_won_is_acted_under(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	assert_int_equal(vm_propose(vm, "hostB", "", MC_SEC, NULL), 0);
	assert_int_equal(vm->rec.generation, 8);
	assert_string_equal(vm->rec.standby, "");
	assert_int_equal(world_emitted(f->w, "VOTE_STARTED"), 1);
	assert_int_equal(world_emitted(f->w, "VOTE_WON"), 1);
}

static void a_vote_that_is_lost_is_learned_and_not_acted_under(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	struct own_record theirs = world_record(8, "hostA", "");
	world_decide(f->w, &theirs);
	assert_int_equal(vm_propose(vm, "hostB", "", MC_SEC, NULL), -ESTALE);
	assert_int_equal(vm->rec.generation, 7);
	assert_string_equal(vm_newest_record(vm).owner, "hostA");
	assert_int_equal(world_emitted(f->w, "VOTE_LOST"), 1);
}

static void failover_15_a_vote_that_is_stuck_changes_nothing(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	struct own_record asked[2];
	world_votes(f->w, WORLD_STUCK, 1);
	assert_int_equal(vm_propose(vm, "hostB", "", MC_SEC, NULL), -ENOLINK);
	assert_int_equal(vm->rec.generation, 7);
	assert_int_equal(vm_newest_record(vm).generation, 7);
	assert_int_equal(world_emitted(f->w, "VOTE_STUCK"), 1);
	assert_int_equal(vm_propose(vm, "hostB", "", MC_SEC, NULL), 0);
	assert_int_equal(world_proposals(f->w, asked, 2), 2);
	assert_int_equal(asked[0].generation, asked[1].generation);
}

static void a_look_is_learned(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	struct own_record theirs = world_record(8, "hostA", ""), rec;
	world_decide(f->w, &theirs);
	assert_int_equal(vm_look(vm, MC_SEC, &rec, NULL), 0);
	assert_string_equal(rec.owner, "hostA");
	assert_string_equal(vm_newest_record(vm).owner, "hostA");
	world_set_reachable(f->w, 1);
	assert_int_equal(vm_look(vm, MC_SEC, &rec, NULL), -ENOLINK);
}

static void the_operators_word_makes_this_host_the_owner(void **state)
{
	struct vm_fixture *f = *state;
	struct vm *vm = vm_make(f, NULL, &first);
	assert_int_equal(vm_force(vm, NULL), 0);
	assert_int_equal(vm->rec.generation, 8);
	assert_string_equal(vm->rec.owner, "hostB");
	assert_string_equal(vm->rec.standby, "");
	assert_int_equal(world_emitted(f->w, "FORCED"), 1);
}

static void a_vm_is_lost_by_a_newer_record_only(void **state)
{
	static const struct {
		const char *owner, *standby;
		bool lost;
	} rows[] = {
		{"hostB", "hostA", false}, /* as it was */
		{"hostB", "", false},
		{"hostB", "hostC", false},
		{"hostA", "hostB", false}, /* its standby */
		{"hostA", "", true},
		{"hostA", "hostC", true},
		{"", "", true},
	};
	struct vm *vm = vm_make(*state, NULL, &first);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct own_record rec = world_record(7 + i, rows[i].owner, rows[i].standby);
		vm_learned(vm, &rec);
		if (vm_lost(vm) != rows[i].lost)
			fail_msg("row %zu", i);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(a_vm_begins_with_what_its_voter_knows),
		VM_TEST(a_newer_record_is_learned_and_rings),
		VM_TEST(an_older_record_is_no_news),
		VM_TEST(what_it_acts_under_is_known_to_be_newest),
		VM_TEST(a_vote_that_is_won_is_acted_under),
		VM_TEST(a_vote_that_is_lost_is_learned_and_not_acted_under),
		VM_TEST(failover_15_a_vote_that_is_stuck_changes_nothing),
		VM_TEST(a_look_is_learned),
		VM_TEST(the_operators_word_makes_this_host_the_owner),
		VM_TEST(a_vm_is_lost_by_a_newer_record_only),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
