/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Device state out of a real QEMU and into another (guestbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void the_device_state_is_saved_again_and_again(void **state)
{
	struct box b;
	uint8_t *buf = NULL, *copy = NULL;
	size_t cap = 0, len = 0, first;
	launch(&b, false);
	let_firmware_settle(&b);
	ok(&b, guest_pause(b.g, WAIT, &b.err));
	ok(&b, guest_save_devices(b.g, WAIT, &buf, &cap, &first, &b.err));
	assert_true(first > 1000 && first <= cap);
	assert_memory_equal(buf, "QEVM", 4);
	copy = malloc(first);
	memcpy(copy, buf, first);
	for (int i = 0; i < 20; i++) {
		memset(buf, 0xee, cap);
		ok(&b, guest_save_devices(b.g, WAIT, &buf, &cap, &len, &b.err));
		assert_int_equal(len, first);
		assert_memory_equal(buf, copy, first);
	}
	assert_false(runs(&b)); /* saving resumes nothing */
	assert_int_equal(guest_next_event(b.g), GUEST_EVENT_NONE);
	ok(&b, guest_resume(b.g, WAIT, &b.err));
	free(buf);
	free(copy);
	box_clear(&b);
}

static char *registers(struct box *b)
{
	char *text = NULL;
	ok(b, qmp_hmp(qemu_of(b->g)->qmp, "info registers", WAIT, &text, &b->err));
	return text;
}

static void assert_same_line(const char *a, const char *b, const char *start)
{
	a = strstr(a, start);
	b = strstr(b, start);
	assert_non_null(a);
	assert_non_null(b);
	assert_int_equal(strcspn(a, "\r\n"), strcspn(b, "\r\n"));
	assert_memory_equal(a, b, strcspn(a, "\r\n"));
}

static void a_standby_takes_over_state_and_memory(void **state)
{
	struct box a, s;
	uint8_t *buf = NULL;
	size_t cap = 0, len = 0;
	launch(&a, false);
	launch(&s, true);
	assert_false(runs(&s));
	let_firmware_settle(&a);
	char *before = registers(&a);
	ok(&a, guest_pause(a.g, WAIT, &a.err));
	memcpy(a.ram + 0x100000, "a page of the guest", 20);
	ok(&a, guest_save_devices(a.g, WAIT, &buf, &cap, &len, &a.err));
	memcpy(s.ram, a.ram, RAM_SIZE);

	uint64_t t = mc_now(), loaded = 0;
	ok(&s, guest_activate(s.g, buf, len, WAIT, &loaded, &s.err));
	uint64_t took = mc_now() - t;
	assert_true(loaded >= t && loaded <= mc_now());
	print_message("activation took %.2f ms\n", (double)took / 1e6);
	assert_true(runs(&s));
	assert_int_equal(guest_next_event(s.g), GUEST_EVENT_NONE); /* our doing, no event */
	/* The idle loop of the firmware goes on where it was, which is not where a reset starts. */
	char *after = registers(&s);
	assert_same_line(before, after, "CS =");
	assert_same_line(before, after, "SS =");
	assert_same_line(before, after, "GDT=");
	assert_string_equal((char *)s.ram + 0x100000, "a page of the guest");

	/* The survivor is a full primary: it can be paused, saved and resumed. */
	ok(&s, guest_pause(s.g, WAIT, &s.err));
	assert_true(guest_paused_by_us(s.g));
	ok(&s, guest_save_devices(s.g, WAIT, &buf, &cap, &len, &s.err));
	ok(&s, guest_resume(s.g, WAIT, &s.err));
	/* Nor does a later mcd give it another state. */
	assert_int_equal(adopt(&s), GUEST_ADOPTED_RUNNING);
	assert_int_equal(guest_activate(s.g, buf, len, WAIT, NULL, &s.err), -EINVAL);
	free(before);
	free(after);
	free(buf);
	box_clear(&a);
	box_clear(&s);
}

static void a_damaged_state_fails_with_qemus_words(void **state)
{
	struct box a;
	uint8_t *buf = NULL;
	size_t cap = 0, len = 0;
	launch(&a, false);
	ok(&a, guest_pause(a.g, WAIT, &a.err));
	ok(&a, guest_save_devices(a.g, WAIT, &buf, &cap, &len, &a.err));

	static const struct {
		size_t cut; /* bytes of the state that are given, in 1/4 */
		bool garbage;
	} cases[] = {{0, false}, {1, false}, {3, false}, {4, true}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct box s;
		launch(&s, true);
		if (cases[i].garbage)
			memset(buf, 0x5a, len);
		uint64_t at = 1;
		int r = guest_activate(s.g, buf, len * cases[i].cut / 4, WAIT, &at, &s.err);
		assert_true(r == -EIO || r == -EPIPE);
		assert_said(&s, "did not take the device state");
		assert_said(&s, "load of migration failed");
		assert_int_equal(at, 1); /* untouched */
		assert_int_equal(event(&s), GUEST_EVENT_GONE);
		box_clear(&s);
	}
	free(buf);
	box_clear(&a);
}

static void a_hanging_standby_fails_in_time(void **state)
{
	struct box s;
	uint8_t junk[64] = {0};
	launch(&s, true);
	assert_int_equal(kill(guest_pid(s.g), SIGSTOP), 0);
	assert_int_equal(
		guest_activate(s.g, junk, sizeof junk, 100 * MC_MSEC, NULL, &s.err), -ETIMEDOUT);
	box_clear(&s);
}

/* --- what the guest was told is durable ------------------------------------------------------- */

static uint64_t flushes(struct box *b)
{
	uint64_t n = 0;
	ok(b, guest_disk_flushes(b->g, WAIT, &n, &b->err));
	return n;
}

static json_int_t writes(struct box *b)
{
	json_t *list = NULL, *item;
	json_int_t n = 0;
	size_t i;
	ok(b, qmp_command(qemu_of(b->g)->qmp, "query-blockstats", NULL, WAIT, &list, &b->err));
	json_array_foreach(list, i, item)
		n += json_integer_value(
			json_object_get(json_object_get(item, "stats"), "wr_operations"));
	json_decref(list);
	return n;
}

/* As the guest would: completed, and counted, and no flush. */
static void write_to(struct box *b, const char *device)
{
	char line[128], *text = NULL;
	json_int_t before = writes(b);
	snprintf(line, sizeof line, "qemu-io -d %s \"aio_write 0 512\"", device);
	ok(b, qmp_hmp(qemu_of(b->g)->qmp, line, WAIT, &text, &b->err));
	free(text);
	for (uint64_t deadline = mc_now() + WAIT; writes(b) == before; poll(NULL, 0, 1))
		if (mc_now() > deadline)
			fail_msg("the write is not completed");
}

static void writes_count_where_the_guest_needs_no_flush(void **state)
{
	struct box b;
	box_init(&b);
	if (launch_as(&b,
		    QEMU " -blockdev null-co,node-name=d0,size=1048576 -device "
			 "virtio-blk-pci,drive=d0,id=back"
			 " -blockdev null-co,node-name=d1,size=1048576 -device "
			 "virtio-blk-pci,drive=d1,id=through,write-cache=off",
		    b.dir, false, WAIT) < 0)
		fail_msg("%s", b.err.msg);
	uint64_t first = flushes(&b);
	write_to(&b, "/machine/peripheral/back/virtio-backend");
	assert_int_equal(flushes(&b), first);
	write_to(&b, "/machine/peripheral/through/virtio-backend");
	assert_true(flushes(&b) > first);
	box_clear(&b);
}

/* The guest of such a disk may say of each write whether it is to be durable (FUA). */
static void writes_count_where_the_guest_may_force_them_through(void **state)
{
	struct box b;
	box_init(&b);
	if (launch_as(&b,
		    QEMU
		    " -device virtio-scsi-pci -blockdev null-co,node-name=d0,size=1048576 -device "
		    "scsi-hd,drive=d0,id=fua,dpofua=on",
		    b.dir, false, WAIT) < 0)
		fail_msg("%s", b.err.msg);
	uint64_t first = flushes(&b);
	write_to(&b, "fua");
	assert_true(flushes(&b) > first);
	box_clear(&b);
}

#define TEST(name) cmocka_unit_test_teardown(name, forget_boxes)

int main(void)
{
	if (system("command -v " QEMU " >/dev/null") != 0) {
		puts("skipped: " QEMU " is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		TEST(the_device_state_is_saved_again_and_again),
		TEST(a_standby_takes_over_state_and_memory),
		TEST(a_damaged_state_fails_with_qemus_words),
		TEST(a_hanging_standby_fails_in_time),
		TEST(writes_count_where_the_guest_needs_no_flush),
		TEST(writes_count_where_the_guest_may_force_them_through),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
