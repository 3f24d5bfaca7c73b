/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 5 on a standby: the memory that epochs take is bounded. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/private.h"

#include <dirent.h>

#define POOL      2u                              /* slabs that the smallest max-buffer allows */
#define SLABS_MAX (2 * (RIG_RAM / SLAB_SIZE) + 4) /* of an epoch: mcd/standby/epoch.c */

static unsigned files_in(const char *dir)
{
	unsigned n = 0;
	DIR *d = opendir(dir);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void protect_with_little(struct rig *r)
{
	r->max_buffer = POOL * SLAB_SIZE;
	rig_protect(r);
}

static void rule_5_an_epoch_larger_than_max_buffer_is_taken_whole(void **state)
{
	struct rig *r = *state;
	protect_with_little(r);
	for (unsigned i = 0; i < POOL + 3; i++)
		far_slab(r);
	far_devices(r);
	far_commit(r);
	far_acked(r);
	far_epoch(r); /* its ACK says that the figures of the one before are out */
	vm_lock(r->vm);
	uint64_t peak = r->vm->shared->shown.buffer_peak;
	vm_unlock(r->vm);
	assert_true(peak <= POOL * SLAB_SIZE);
	assert_int_equal(files_in(r->env.cfg->state_dir), 0); /* nobody has to clean up */
	far_dies(r);
	expect_runs(r, &r->image);
}

static void no_room(void **state, unsigned slabs)
{
	struct rig *r = *state;
	protect_with_little(r);
	snprintf(world_config(r->w)->state_dir, sizeof r->env.cfg->state_dir, "/nonexistent");
	for (unsigned i = 0; i < slabs; i++)
		far_slab(r);
	far_devices(r);
	far_commit(r);
}

/* What is within max-buffer needs no disk, what is beyond it is on the disk or nowhere. */
static void rule_5_what_is_beyond_max_buffer_is_not_in_memory(void **state)
{
	struct rig *r = *state;
	no_room(state, POOL + 1);
	far_expect_nothing(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

static void rule_5_max_buffer_is_there_for_an_epoch(void **state)
{
	struct rig *r = *state;
	no_room(state, POOL);
	far_acked(r);
	far_dies(r);
	expect_runs(r, &r->image);
}

static void rule_5_slabs_that_were_dropped_are_free_again(void **state)
{
	struct rig *r = *state;
	no_room(state, POOL);
	far_acked(r);
	for (unsigned i = 0; i < 3; i++) {
		far_slab(r);
		far_slab(r);
		far_devices(r);
		far_commit(r);
		far_acked(r);
	}
	far_dies(r);
	expect_runs(r, &r->image);
}

static void rule_5_an_epoch_of_as_many_slabs_as_it_can_need_is_taken(void **state)
{
	struct rig *r = *state;
	protect_with_little(r);
	for (unsigned i = 0; i < SLABS_MAX; i++)
		far_slab(r);
	far_devices(r);
	far_commit(r);
	far_acked(r);
}

static void rule_5_an_epoch_without_end_is_ended(void **state)
{
	struct rig *r = *state;
	protect_with_little(r);
	for (unsigned i = 0; i < SLABS_MAX + 1; i++)
		far_slab(r);
	struct wire_header h = far_expect(r, WIRE_ERROR);
	struct mc_error theirs = MC_ERROR_INIT;
	assert_int_equal(wire_get_error(r->got, h.length, &theirs, NULL), 0);
	assert_string_equal(theirs.cls, MC_ECLASS_PROTOCOL);
	far_dies(r);
	expect_runs(r, &r->image);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(rule_5_an_epoch_larger_than_max_buffer_is_taken_whole),
		RIG_TEST(rule_5_what_is_beyond_max_buffer_is_not_in_memory),
		RIG_TEST(rule_5_max_buffer_is_there_for_an_epoch),
		RIG_TEST(rule_5_slabs_that_were_dropped_are_free_again),
		RIG_TEST(rule_5_an_epoch_of_as_many_slabs_as_it_can_need_is_taken),
		RIG_TEST(rule_5_an_epoch_without_end_is_ended),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
