/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking of a real QEMU whose firmware boots and looks for disks: between two stops, every
 * page that differs must be in the list, and a copy kept up to date by the lists must equal the
 * memory at the end.  Usage: test-dirty-qemu pagemap-scan|soft-dirty
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/guest/ramblocks.h"
#include "qemubox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define PAGE    4096ull
#define PAGES   (QEMUBOX_RAM / PAGE)
#define TIMEOUT (10 * MC_SEC)
#define ROUNDS  40

static enum dirty_backend backend;
static struct qemubox box;
static struct ramblocks blocks;
static struct dirty *d;
static struct dirty_list list;
static struct mc_error err;
static uint8_t before[QEMUBOX_RAM], shadow[QEMUBOX_RAM];
static uint8_t listed[PAGES];

static void check(int r)
{
	if (r < 0)
		fail_msg("%s: %s", err.cls, err.msg);
}

static void command(const char *name)
{
	check(qmp_command(box.qmp, name, NULL, TIMEOUT, NULL, &err));
}

static int setup(void **state)
{
	err = MC_ERROR_INIT;
	return qemubox_start(&box,
		"-nodefaults -vga none -machine q35,memory-backend=ram0 -device "
		"virtio-blk-pci,drive=d -drive if=none,id=d,driver=null-co,size=64M,read-zeroes=on "
		"-boot menu=on,reboot-timeout=50 -object "
		"memory-backend-file,id=ram0,size=32M,mem-path=/proc/self/fd/%d,share=on -S",
		&err);
}

static int teardown(void **state)
{
	dirty_close(d);
	d = NULL;
	dirty_list_free(&list);
	ramblocks_close(&blocks);
	qemubox_stop(&box);
	return 0;
}

static void open_both(void)
{
	check(ramblocks_open(box.qmp, box.pid, &blocks, &err));
	assert_int_equal(blocks.n, 1);
	struct dirty_region g = {blocks.v[0].qemu_addr, blocks.v[0].size};
	check(dirty_open(box.pid, &g, 1, backend, &d, &err));
}

static void collect(void)
{
	check(dirty_collect(d, &list, &err));
	memset(listed, 0, sizeof listed);
	for (size_t i = 0; i < list.n; i++) {
		memset(listed + list.v[i].off / PAGE, 1, list.v[i].len / PAGE);
		memcpy(shadow + list.v[i].off, blocks.v[0].map + list.v[i].off, list.v[i].len);
	}
}

static void every_changed_page_is_listed(void **state)
{
	open_both();
	collect();
	assert_int_equal(list.bytes, QEMUBOX_RAM);
	uint64_t changed = 0, reported = 0;
	for (int i = 0; i < ROUNDS; i++) {
		memcpy(before, blocks.v[0].map, QEMUBOX_RAM);
		/* A reset makes QEMU itself write (firmware, tables), the guest start over. */
		if (i % 10 == 5)
			command("system_reset");
		command("cont");
		nanosleep(&(struct timespec){.tv_nsec = (i % 4 + 1) * 20 * (long)MC_MSEC}, NULL);
		if (i % 3 == 1) /* racing with the guest */
			check(dirty_collect(d, &list, &err));
		bool raced = i % 3 == 1;
		if (raced)
			for (size_t j = 0; j < list.n; j++)
				memcpy(shadow + list.v[j].off, blocks.v[0].map + list.v[j].off,
					list.v[j].len);
		command("stop");
		collect();
		for (uint64_t p = 0; p < PAGES; p++) {
			const uint8_t *now = blocks.v[0].map + p * PAGE;
			bool differs = memcmp(before + p * PAGE, now, PAGE) != 0;
			changed += differs;
			reported += listed[p];
			if (differs && !listed[p] && !raced)
				fail_msg(
					"round %d: page %u changed and was missed", i, (unsigned)p);
			if (memcmp(shadow + p * PAGE, now, PAGE))
				fail_msg("round %d: the copy of page %u is stale", i, (unsigned)p);
		}
	}
	print_message("%u pages changed, %u reported\n", (unsigned)changed, (unsigned)reported);
	assert_true(changed > 20); /* in an emulated host a guest gets little done */
}

static void qemu_killed_while_tracked_is_an_error(void **state)
{
	open_both();
	collect();
	kill(box.pid, SIGKILL);
	int r = 0;
	for (uint64_t end = mc_now() + TIMEOUT; !r && mc_now() < end;)
		r = dirty_collect(d, &list, &err);
	assert_int_equal(r, -ESRCH);
	assert_string_equal(err.cls, MC_ECLASS_QMP);
}

static void qemu_runs_on_when_tracking_ends(void **state)
{
	for (int i = 0; i < 3; i++) {
		open_both();
		collect();
		command("cont");
		dirty_close(d);
		d = NULL;
		ramblocks_close(&blocks);
		command("stop");
		command("cont");
		command("query-status");
		command("stop");
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	backend =
		argc > 1 && !strcmp(argv[1], "soft-dirty") ? DIRTY_SOFT_DIRTY : DIRTY_PAGEMAP_SCAN;
	if (dirty_probe(backend, NULL, &err)) {
		printf("SKIP: %s\n", err.msg);
		return 77;
	}
	if (!qemubox_installed()) {
		puts("SKIP: qemu-system-x86_64 is not installed");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		T(every_changed_page_is_listed),
		T(qemu_killed_while_tracked_is_an_error),
		T(qemu_runs_on_when_tracking_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
