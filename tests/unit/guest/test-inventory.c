/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is plugged, swapped and changed in a real QEMU is seen (guestbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* With a USB bus, whose devices come and go without the guest's help, and drives. */
static void launch_with(struct box *b, const char *options)
{
	char command[500];
	box_init(b);
	snprintf(command, sizeof command, "%s -device qemu-xhci,id=usb -device usb-tablet,id=tab%s",
		QEMU, options);
	ok(b, launch_as(b, command, b->dir, false, WAIT));
}

static void monitor(struct box *b, const char *command, json_t *args)
{
	ok(b, qmp_command(qemu_of(b->g)->oob, command, args, WAIT, NULL, &b->err));
}

static struct guest_inventory inventory(struct box *b)
{
	struct guest_inventory inv;
	ok(b, guest_inventory(b->g, WAIT, &inv, &b->err));
	return inv;
}

static void expect(
	const struct guest_inventory *then, const struct guest_inventory *now, const char *said)
{
	char what[400] = "";
	bool changed = guest_inventory_changed(then, now, what, sizeof what);
	assert_int_equal(changed, said != NULL);
	if (said && !strstr(what, said))
		fail_msg("\"%s\" is not in \"%s\"", said, what);
}

static void plug(struct box *b, const char *id, int version)
{
	monitor(b, "device_add",
		json_pack("{s:s, s:s, s:i}", "driver", "usb-tablet", "id", id, "usb_version",
			version));
}

static void unplug(struct box *b, const char *id)
{
	monitor(b, "device_del", json_pack("{s:s}", "id", id));
	ok(b, qmp_wait_event(qemu_of(b->g)->oob, "DEVICE_DELETED", mc_now() + WAIT, NULL, &b->err));
}

static void a_swapped_device_is_another_one(void **state)
{
	struct box b;
	launch_with(&b, "");
	struct guest_inventory first = inventory(&b), now;
	plug(&b, "tab2", 2);
	now = inventory(&b);
	expect(&first, &now, "plugged");
	unplug(&b, "tab2"); /* what came later may go: all is as it was */
	now = inventory(&b);
	expect(&first, &now, NULL);
	unplug(&b, "tab");
	now = inventory(&b);
	expect(&first, &now, "unplugged");
	plug(&b, "tab", 1); /* the old name and type, another device */
	now = inventory(&b);
	assert_int_equal(now.devices, first.devices);
	expect(&first, &now, "the device tab was taken out");
	box_clear(&b);
}

static void a_later_mcd_sees_it_too(void **state)
{
	struct box b;
	launch_with(&b, "");
	adopt(&b);
	struct guest_inventory first = inventory(&b);
	unplug(&b, "tab");
	plug(&b, "tab", 2);
	struct guest_inventory now = inventory(&b);
	expect(&first, &now, "the device tab was taken out");
	box_clear(&b);
}

static void make_image(struct box *b, const char *leaf, char *path, size_t size)
{
	char command[400];
	path_of(b, leaf, path, size);
	snprintf(command, sizeof command, "truncate -s 1M %s", path);
	assert_int_equal(system(command), 0);
}

static void change(struct box *b, const char *drive, const char *path)
{
	monitor(b, "blockdev-change-medium",
		json_pack("{s:s, s:s, s:s, s:b}", "id", drive, "filename", path, "format", "raw",
			"force", 1));
}

static void media_are_seen(const char *drive, const char *option)
{
	struct box b;
	char one[256], two[256], options[400];
	box_init(&b);
	make_image(&b, "one.iso", one, sizeof one);
	make_image(&b, "two.iso", two, sizeof two);
	snprintf(options, sizeof options,
		"%s -drive if=none,id=d0,format=raw,file=%s,readonly=on -device %s,drive=d0,id=%s",
		QEMU, one, option, drive);
	ok(&b, launch_as(&b, options, b.dir, false, WAIT));
	struct guest_inventory first = inventory(&b), now;
	assert_true(first.media);
	assert_non_null(strstr(first.words, one));
	change(&b, drive, two);
	now = inventory(&b);
	expect(&first, &now, "two.iso");
	change(&b, drive, one);
	now = inventory(&b);
	expect(&first, &now, NULL);
	monitor(&b, "eject", json_pack("{s:s, s:b}", "id", drive, "force", 1));
	now = inventory(&b);
	expect(&first, &now, "nothing");
	remove(one);
	remove(two);
	box_clear(&b);
}

static void a_changed_cd_is_seen(void **state)
{
	media_are_seen("cd", "ide-cd");
}

static void a_changed_floppy_is_seen(void **state)
{
	media_are_seen("fd", "floppy");
}

/* Asked in every epoch: what it costs. */
static void it_costs_little(void **state)
{
	static const char *const options[] = {"", " -device ide-cd,id=cd"};
	for (int i = 0; i < 2; i++) {
		struct box b;
		uint64_t t[200];
		launch_with(&b, options[i]);
		inventory(&b);
		for (int j = 0; j < 200; j++) {
			uint64_t began = mc_now();
			inventory(&b);
			t[j] = mc_now() - began;
		}
		for (int j = 1; j < 200; j++)
			for (int k = j; k && t[k - 1] > t[k]; k--) {
				uint64_t x = t[k];
				t[k] = t[k - 1];
				t[k - 1] = x;
			}
		print_message("inventory%s: median %.3f ms, p90 %.3f ms\n",
			i ? " with a drive" : "", (double)t[100] / 1e6, (double)t[180] / 1e6);
		assert_int_equal(inventory(&b).media != 0, i); /* and is not asked for in vain */
		assert_int_equal(qemu_of(b.g)->no_drives, !i);
		box_clear(&b);
	}
}

#define TEST(name) cmocka_unit_test_teardown(name, forget_boxes)

int main(void)
{
	if (system("command -v " QEMU " >/dev/null") != 0) {
		puts("skipped: " QEMU " is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		TEST(a_swapped_device_is_another_one),
		TEST(a_later_mcd_sees_it_too),
		TEST(a_changed_cd_is_seen),
		TEST(a_changed_floppy_is_seen),
		TEST(it_costs_little),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
