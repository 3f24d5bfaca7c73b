/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose offer a standby takes, and the comparison that a primary asks for. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/range-digest.h"

#define PAGE 4096u

/* --- the greeting ----------------------------------------------------------------------------- */

static void expect_refused(struct rig *r, const char *class)
{
	struct mc_error theirs = MC_ERROR_INIT;
	struct wire_header h = far_expect(r, WIRE_ERROR);
	assert_int_equal(wire_get_error(r->got, h.length, &theirs, NULL), 0);
	assert_string_equal(theirs.cls, class);
	expect_gone(r);
}

static void rule_4_a_protection_is_of_the_generation_after_its_primarys_record(void **state)
{
	struct rig *r = *state;
	struct wire_hello hello;
	rig_begin(r);
	far_describe(r, &hello);
	hello.generation = RIG_GENERATION - 2;
	far_send_hello(r, &hello);
	expect_refused(r, MC_ECLASS_PROTOCOL);
}

static void is_owned(void **state, const struct own_record *rec)
{
	struct rig *r = *state;
	struct wire_hello hello;
	world_decide(r->w, rec);
	world_know(r->w, rec);
	rig_begin(r);
	far_describe(r, &hello);
	far_send_hello(r, &hello);
	expect_refused(r, MC_ECLASS_NOT_OWNER);
	assert_int_equal(fake_guests_launched(), 0);
}

static void the_offer_of_a_host_that_owns_nothing_is_refused(void **state)
{
	struct own_record rec = world_record(RIG_GENERATION - 1, "hostC", "");
	is_owned(state, &rec);
}

static void the_offer_of_an_owner_with_another_standby_is_refused(void **state)
{
	struct own_record rec = world_record(RIG_GENERATION - 1, "hostA", "hostC");
	is_owned(state, &rec);
}

static void the_offer_under_an_old_record_is_refused(void **state)
{
	struct own_record rec = world_record(RIG_GENERATION, "hostA", "");
	is_owned(state, &rec);
}

static void a_machine_that_is_another_is_refused(void **state)
{
	struct rig *r = *state;
	struct wire_hello hello;
	rig_begin(r);
	far_describe(r, &hello);
	hello.machine[0] = hello.machine[0] == '0' ? '1' : '0';
	far_send_hello(r, &hello);
	expect_refused(r, MC_ECLASS_CONFIG);
}

static void a_machine_with_other_memory_is_refused(void **state)
{
	struct rig *r = *state;
	struct wire_hello hello;
	rig_begin(r);
	far_describe(r, &hello);
	hello.blocks[0].size += PAGE;
	far_send_hello(r, &hello);
	expect_refused(r, MC_ECLASS_CONFIG);
}

/* Named by no record that the voters know: its word alone makes no standby. */
static void rule_7_the_primarys_word_alone_does_not_name_the_standby(void **state)
{
	struct rig *r = *state;
	struct own_record other = world_record(RIG_GENERATION, "hostA", "hostC");
	rig_begin(r);
	far_hello(r);
	far_sync(r);
	far_epoch(r);
	world_decide(r->w, &other);
	far_post(r, WIRE_PROTECTED, NULL, 0);
	far_expect(r, WIRE_ERROR);
	expect_gone(r);
	assert_int_equal(r->n_votes, 0);
}

/* --- the comparison --------------------------------------------------------------------------- */

static struct wire_verify_range range_of(struct rig *r, uint64_t off)
{
	struct wire_verify_range v = {.kind = WIRE_VERIFY_MEMORY, .off = off, .len = PAGE};
	assert_int_equal(range_digest_memory(-1, r->now.ram, off, PAGE, &v.digest, NULL), 0);
	return v;
}

static void send_verify(struct rig *r, const struct wire_verify_range *v, size_t n)
{
	uint8_t buf[1024];
	far_post(r, WIRE_VERIFY, buf, wire_put_verify(buf, sizeof buf, v, n));
}

static void a_comparison_is_answered_once_its_epoch_is_applied(void **state)
{
	struct rig *r = *state;
	uint32_t differ[4];
	size_t n;
	rig_protect(r);
	far_slab(r);
	struct wire_verify_range v[] = {range_of(r, 0), range_of(r, PAGE), range_of(r, 8 * PAGE)};
	v[1].digest ^= 1;
	send_verify(r, v, 3);
	far_devices(r);
	far_commit(r);
	far_acked(r);
	struct wire_header h = far_expect(r, WIRE_VERIFIED);
	assert_int_equal(h.epoch, r->image.epoch);
	assert_int_equal(wire_get_verified(r->got, h.length, 3, differ, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(differ[0], 1);
	far_epoch(r); /* it is asked for once */
}

static void refused(struct rig *r)
{
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

static void a_comparison_of_what_this_machine_does_not_have_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	struct wire_verify_range v = range_of(r, 0);
	v.off = RIG_RAM;
	send_verify(r, &v, 1);
	refused(r);
}

static void a_comparison_of_a_disk_that_is_not_there_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	struct wire_verify_range v = range_of(r, 0);
	v.kind = WIRE_VERIFY_DISK;
	send_verify(r, &v, 1);
	refused(r);
}

static void a_second_comparison_within_an_epoch_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	struct wire_verify_range v = range_of(r, 0);
	send_verify(r, &v, 1);
	send_verify(r, &v, 1);
	refused(r);
}

static void a_comparison_of_another_epoch_is_refused(void **state)
{
	struct rig *r = *state;
	rig_protect(r);
	struct wire_verify_range v = range_of(r, 0);
	r->now.epoch++;
	send_verify(r, &v, 1);
	refused(r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(rule_4_a_protection_is_of_the_generation_after_its_primarys_record),
		RIG_TEST(the_offer_of_a_host_that_owns_nothing_is_refused),
		RIG_TEST(the_offer_of_an_owner_with_another_standby_is_refused),
		RIG_TEST(the_offer_under_an_old_record_is_refused),
		RIG_TEST(a_machine_that_is_another_is_refused),
		RIG_TEST(a_machine_with_other_memory_is_refused),
		RIG_TEST(rule_7_the_primarys_word_alone_does_not_name_the_standby),
		RIG_TEST(a_comparison_is_answered_once_its_epoch_is_applied),
		RIG_TEST(a_comparison_of_what_this_machine_does_not_have_is_refused),
		RIG_TEST(a_comparison_of_a_disk_that_is_not_there_is_refused),
		RIG_TEST(a_second_comparison_within_an_epoch_is_refused),
		RIG_TEST(a_comparison_of_another_epoch_is_refused),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
