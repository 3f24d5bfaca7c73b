/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware in real QEMUs: one that runs, and one that waits. */
#include "mcd/guest/roms.h"

#include "qemubox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LEAN "-nodefaults -vga none -machine q35,memory-backend=a"
#define MEM  " -object memory-backend-file,id=a,size=32M,mem-path=/proc/self/fd/%d,share=on"

static struct qemubox runs, waits;
static struct roms roms;
static struct mc_error err;

static int setup(void **state)
{
	if (!qemubox_installed()) {
		print_message("skip: qemu-system-x86_64 is not installed\n");
		exit(77);
	}
	err = MC_ERROR_INIT;
	roms = (struct roms){0};
	return 0;
}

static int teardown(void **state)
{
	qemubox_stop(&runs);
	qemubox_stop(&waits);
	roms_clear(&roms);
	return 0;
}

static void start(struct qemubox *b, const char *options)
{
	if (qemubox_start(b, options, &err) < 0)
		fail_msg("%s", err.msg);
}

static bool zero(const struct rom *r)
{
	for (uint64_t i = 0; i < r->size; i++)
		if (r->data[i])
			return false;
	return true;
}

static void ok(int r)
{
	if (r < 0)
		fail_msg("%s", err.msg);
}

static void the_firmware_of_a_running_qemu_is_read(void **state)
{
	static const uint8_t far_jump = 0xea; /* what a PC begins with, 16 bytes before the end */
	start(&runs, LEAN MEM);
	ok(roms_read(runs.qmp, runs.pid, &roms, &err));
	assert_int_equal(roms.n, 1);
	assert_string_equal(roms.v[0].id, "pc.bios");
	assert_int_equal(roms.v[0].size, 256 << 10);
	assert_int_equal(roms.v[0].data[roms.v[0].size - 16], far_jump);
}

/* If this fails QEMU has learned to keep it, and roms.c may go. */
static void a_waiting_qemu_has_none(void **state)
{
	start(&waits, LEAN MEM " -incoming defer");
	ok(roms_read(waits.qmp, waits.pid, &roms, &err));
	assert_int_equal(roms.n, 1);
	assert_true(zero(&roms.v[0]));
}

static void a_waiting_qemu_is_given_it(void **state)
{
	struct roms there = {0};
	start(&runs, LEAN MEM);
	start(&waits, LEAN MEM " -incoming defer");
	ok(roms_read(runs.qmp, runs.pid, &roms, &err));
	ok(roms_write(waits.qmp, waits.pid, &roms, &err));
	ok(roms_read(waits.qmp, waits.pid, &there, &err));
	assert_int_equal(there.n, 1);
	assert_memory_equal(there.v[0].data, roms.v[0].data, roms.v[0].size);
	roms_clear(&there);
}

static void another_firmware_is_refused(void **state)
{
	start(&waits, LEAN MEM " -incoming defer");
	assert_int_equal(roms_write(waits.qmp, waits.pid, &roms, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "firmware"));
	ok(roms_add(&roms, "pc.bios", calloc(1, 4096), 4096, &err));
	assert_int_equal(roms_write(waits.qmp, waits.pid, &roms, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "pc.bios"));
}

static void a_block_that_comes_again_replaces_the_former(void **state)
{
	ok(roms_add(&roms, "pc.bios", calloc(1, 4096), 4096, &err));
	ok(roms_add(&roms, "pc.bios", calloc(1, 8192), 8192, &err));
	assert_int_equal(roms.n, 1);
	assert_int_equal(roms.v[0].size, 8192);
	for (int i = 0; i < ROMS_MAX - 1; i++) {
		char id[] = "rom0";
		id[3] = (char)('0' + i);
		ok(roms_add(&roms, id, calloc(1, 4096), 4096, &err));
	}
	assert_int_equal(roms_add(&roms, "one-too-many", calloc(1, 4096), 4096, &err), -ENOTSUP);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_firmware_of_a_running_qemu_is_read),
		T(a_waiting_qemu_has_none),
		T(a_waiting_qemu_is_given_it),
		T(another_firmware_is_refused),
		T(a_block_that_comes_again_replaces_the_former),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
