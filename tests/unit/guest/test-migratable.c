/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that QEMU cannot save is refused before it is asked to, by real QEMUs (guestbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mcd/guest/migratable.h"
#include "tests/unit/guest/guestbox.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void what_qemu_says_is_sorted(void **state)
{
	static const struct {
		const char *reason;
		enum guest_blocker is;
	} table[] = {
		{"non-migratable device: 0000:00:03.0/nvme", GUEST_BLOCKER_REFUSE},
		{"non-migratable device: usb-serial", GUEST_BLOCKER_REFUSE},
		{"Migration is disabled when using feature 'peer mode' in device 'ivshmem'",
			GUEST_BLOCKER_REFUSE},
		{"Migration is disabled when VirtFS export path '/srv' is mounted in the guest "
		 "using mount_tag 'srv'",
			GUEST_BLOCKER_REFUSE},
		{"Migration disabled: vhost lacks VHOST_F_LOG_ALL feature.", GUEST_BLOCKER_REFUSE},
		{"0000:01:00.0: VFIO migration is not supported in kernel", GUEST_BLOCKER_REFUSE},
		{"The qcow format used by node 'x' does not support live migration",
			GUEST_BLOCKER_NONE},
		{"The vvfat (rw) format used by node 'v' does not support live migration",
			GUEST_BLOCKER_NONE},
		{"State blocked by non-migratable CPU device (invtsc flag)", GUEST_BLOCKER_WARN},
		{"something that is said since yesterday", GUEST_BLOCKER_WARN},
		{"", GUEST_BLOCKER_WARN},
	};
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (guest_blocker_of(table[i].reason) != table[i].is)
			fail_msg("wrong: \"%s\"", table[i].reason);
	assert_null(guest_type_blocks("virtio-net-pci"));
	assert_non_null(guest_type_blocks("vmbus-bridge"));
}

static void try(const char *options, const char *said)
{
	struct box b;
	char command[500];
	box_init(&b);
	snprintf(command, sizeof command, "%s%s", QEMU, options);
	ok(&b, launch_as(&b, command, b.dir, false, WAIT));
	int r = guest_migratable(b.g, WAIT, &b.err);
	if (said) {
		assert_int_equal(r, -ENOTSUP);
		assert_string_equal(b.err.cls, MC_ECLASS_GUEST);
		assert_said(&b, said);
	} else {
		ok(&b, r);
	}
	assert_true(runs(&b)); /* and it is none the worse for it */
	box_clear(&b);
}

static void what_kills_qemu_is_refused_by_name(void **state)
{
	try(" -drive if=none,id=d,driver=null-co,size=1M -device nvme,serial=1,drive=d", "nvme");
	try(" -chardev null,id=c -device qemu-xhci -device usb-serial,chardev=c", "usb-serial");
}

static void what_no_qemu_loads_is_refused_by_name(void **state)
{
	try(" -object cryptodev-backend-builtin,id=c -device virtio-crypto-pci,cryptodev=c",
		"virtio-crypto");
	try(" -object memory-backend-ram,id=m,size=1M,share=on -device ivshmem-plain,memdev=m",
		"peer mode");
}

static void what_qemu_is_silent_of_is_refused_by_type(void **state)
{
	try(" -device vmbus-bridge", "vmbus-bridge");
	try(" -device edu,id=teacher", "edu");
}

static void what_people_have_is_not_refused(void **state)
{
	try(" -device virtio-balloon-pci -device virtio-rng-pci -device qemu-xhci"
	    " -device usb-tablet -device vmgenid",
		NULL);
}

#define TEST(name) cmocka_unit_test_teardown(name, forget_boxes)

int main(void)
{
	if (system("command -v " QEMU " >/dev/null") != 0) {
		puts("skipped: " QEMU " is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_qemu_says_is_sorted),
		TEST(what_kills_qemu_is_refused_by_name),
		TEST(what_no_qemu_loads_is_refused_by_name),
		TEST(what_qemu_is_silent_of_is_refused_by_type),
		TEST(what_people_have_is_not_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
