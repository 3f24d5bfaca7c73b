/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd/README.md 10: a stale disk is never started by itself. */
#include "diskmirror/replica-state.h"
#include "mcd/life/life.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/machine.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/published.h"
#include "tests/unit/vm/vm-fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static char sections[700];

static void make_file(struct vm_fixture *f, const char *name, char *path, size_t cap)
{
	world_path(f->w, name, path, cap);
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 65536), 0);
	close(fd);
}

/* A VM with a disk of its own, and a replica beside it. */
static struct vm *with_disk(void **state, const struct own_record *known)
{
	struct vm_fixture *f = *state;
	char image[300], replica[300];
	make_file(f, "image", image, sizeof image);
	make_file(f, "replica", replica, sizeof replica);
	snprintf(sections, sizeof sections, "[disk disk0]\nimage = %s\nreplica = %s\n", image,
		replica);
	return vm_make(f, sections, known);
}

static void mark(struct vm *vm, enum replica_trust trust, const char *boot)
{
	struct disks_paths p;
	struct mc_error err = MC_ERROR_INIT;
	struct replica_state st = {.trust = trust, .generation = 7, .primary = "hostA"};
	snprintf(st.boot, sizeof st.boot, "%s", boot);
	if (disks_paths(vm, &p, &err) < 0 || replica_state_save(p.state, &st, &err) < 0)
		fail_msg("%s", err.msg);
}

static enum replica_trust trust(struct vm *vm)
{
	struct disks_paths p;
	struct replica_state st = {0};
	assert_int_equal(disks_paths(vm, &p, NULL), 0);
	assert_int_equal(replica_state_load(p.state, &st, NULL), 0);
	return st.trust;
}

#define OTHER_BOOT "00000000-0000-4000-8000-000000000000"

struct row {
	enum replica_trust trust;
	const char *boot;
	bool may[2][2]; /* [known][force] */
};

static void expect_row(void **state, const struct row *w)
{
	struct vm *vm = with_disk(state, NULL);
	assert_int_equal(vm_configure(vm, NULL), 0);
	if (w->trust != REPLICA_NONE)
		mark(vm, w->trust, w->boot);
	for (int known = 0; known < 2; known++)
		for (int force = 0; force < 2; force++)
			if ((disks_may_start(vm, known, force, NULL) == 0) != w->may[known][force])
				fail_msg("known %d, force %d", known, force);
}

static void rule_10_disks_that_never_were_a_copy_may_be_started(void **state)
{
	expect_row(state, &(struct row){REPLICA_NONE, "", {{true, true}, {true, true}}});
}

static void rule_10_disks_that_the_vm_ran_on_here_may_be_started(void **state)
{
	expect_row(state, &(struct row){REPLICA_ACTIVE, "", {{true, true}, {true, true}}});
}

static void rule_10_a_half_synchronised_copy_is_started_by_nobody(void **state)
{
	expect_row(state, &(struct row){REPLICA_SYNCING, "", {{false, false}, {false, false}}});
}

static void rule_10_a_standbys_copy_takes_force_or_the_record(void **state)
{
	expect_row(state, &(struct row){REPLICA_WHOLE, "", {{false, true}, {true, true}}});
}

/* disk-durability = none: what was whole may be torn since the host started anew, whoever owns
 * the VM. */
static void rule_10_a_copy_without_durability_takes_force_after_a_reboot(void **state)
{
	expect_row(state, &(struct row){REPLICA_WHOLE, OTHER_BOOT, {{false, true}, {false, true}}});
}

static void rule_10_a_copy_without_durability_is_whole_until_then(void **state)
{
	char boot[40];
	assert_int_equal(replica_state_boot(boot, NULL), 0);
	expect_row(state, &(struct row){REPLICA_WHOLE, boot, {{false, true}, {true, true}}});
}

/* --- as mcctl start and stop see it ----------------------------------------------------------- */

static void rule_10_a_start_that_is_refused_asks_the_voters_for_nothing(void **state)
{
	struct vm_fixture *f = *state;
	struct own_record nobody = world_record(7, "", ""), asked[1];
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = with_disk(state, &nobody);
	mark(vm, REPLICA_WHOLE, "");
	assert_true(life_start(vm, false, &err) < 0);
	assert_string_equal(err.cls, MC_ECLASS_STATE);
	assert_int_equal(world_proposals(f->w, asked, 1), 0);
	assert_int_equal(fake_guests_launched(), 0);
	assert_int_equal(trust(vm), REPLICA_WHOLE);
	/* With force it is the VM's from here on. */
	assert_int_equal(life_start(vm, true, &err), 0);
	assert_int_equal(trust(vm), REPLICA_ACTIVE);
	assert_int_equal(fake_guests_launched(), 1);
}

static void stop(struct vm *vm)
{
	struct vm_call *c = calloc(1, sizeof *c);
	assert_non_null(c);
	c->verb = VM_STOP;
	life_stop(vm, c);
	assert_int_equal(vm_get_state(vm), VM_STOPPED);
}

static void rule_10_a_vm_with_disks_keeps_its_owner_when_it_is_stopped(void **state)
{
	struct vm_fixture *f = *state;
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = with_disk(state, NULL);
	if (life_start(vm, false, &err) < 0)
		fail_msg("%s", err.msg);
	stop(vm);
	assert_string_equal(world_decided(f->w).owner, "hostB");
	assert_int_equal(life_start(vm, false, &err), 0); /* the newest disks are here */
}

static void a_vm_without_disks_is_nobodys_when_it_is_stopped(void **state)
{
	struct vm_fixture *f = *state;
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = vm_make(f, NULL, NULL);
	if (life_start(vm, false, &err) < 0)
		fail_msg("%s", err.msg);
	stop(vm);
	assert_string_equal(world_decided(f->w).owner, "");
}

static void rule_10_a_copy_is_claimed_before_qemu_may_write_to_it(void **state)
{
	struct vm_fixture *f = *state;
	struct own_record ours = world_record(7, "hostB", "");
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = with_disk(state, &ours);
	mark(vm, REPLICA_WHOLE, "");
	fake_guest_fail(NULL, FAKE_GUEST_LAUNCH, 0, EIO);
	assert_true(life_start(vm, false, &err) < 0);
	assert_int_equal(trust(vm), REPLICA_ACTIVE);
	assert_string_equal(world_decided(f->w).owner, "hostB");
}

static void no_network(void *ctx, const struct own_record *next)
{
	if (next->owner[0])
		netbuf_fake_fail(netbuf_fake_find("vm1"), NETBUF_FAKE_PASS, 0, EIO);
}

/* QEMU ran, and may have written, when the start failed after all. */
static void rule_10_a_start_that_fails_late_keeps_its_owner(void **state)
{
	struct vm_fixture *f = *state;
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = with_disk(state, NULL);
	world_on_propose(f->w, no_network, NULL);
	assert_true(life_start(vm, false, &err) < 0);
	assert_int_equal(fake_guests_launched(), 1);
	assert_string_equal(world_decided(f->w).owner, "hostB");
}

static void a_start_that_fails_before_qemu_runs_leaves_it_to_others(void **state)
{
	struct vm_fixture *f = *state;
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = with_disk(state, NULL);
	fake_guest_fail(NULL, FAKE_GUEST_LAUNCH, 0, EIO);
	assert_true(life_start(vm, false, &err) < 0);
	assert_string_equal(world_decided(f->w).owner, "");
}

static void rule_10_qemu_is_given_the_copy_that_counts(void **state)
{
	struct vm *vm = with_disk(state, NULL);
	struct cmdline_disk d[CONFIG_DISKS_MAX];
	assert_int_equal(vm_configure(vm, NULL), 0);
	assert_int_equal(disks_locate(vm, false, d, NULL), 0);
	assert_string_equal(d[0].path, vm->cfg->disks[0].image);
	assert_int_equal(disks_locate(vm, true, d, NULL), 0);
	assert_string_equal(d[0].path, vm->cfg->disks[0].replica);
	mark(vm, REPLICA_ACTIVE, "");
	assert_int_equal(disks_locate(vm, false, d, NULL), 0);
	assert_string_equal(d[0].path, vm->cfg->disks[0].replica);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(rule_10_disks_that_never_were_a_copy_may_be_started),
		VM_TEST(rule_10_disks_that_the_vm_ran_on_here_may_be_started),
		VM_TEST(rule_10_a_half_synchronised_copy_is_started_by_nobody),
		VM_TEST(rule_10_a_standbys_copy_takes_force_or_the_record),
		VM_TEST(rule_10_a_copy_without_durability_takes_force_after_a_reboot),
		VM_TEST(rule_10_a_copy_without_durability_is_whole_until_then),
		VM_TEST(rule_10_a_start_that_is_refused_asks_the_voters_for_nothing),
		VM_TEST(rule_10_a_vm_with_disks_keeps_its_owner_when_it_is_stopped),
		VM_TEST(a_vm_without_disks_is_nobodys_when_it_is_stopped),
		VM_TEST(rule_10_a_copy_is_claimed_before_qemu_may_write_to_it),
		VM_TEST(rule_10_a_start_that_fails_late_keeps_its_owner),
		VM_TEST(a_start_that_fails_before_qemu_runs_leaves_it_to_others),
		VM_TEST(rule_10_qemu_is_given_the_copy_that_counts),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
