/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which blocks of a QEMU are replicated, left out or refused: recorded texts first, then a real
 * QEMU (skipped where none is installed).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/clock.h"
#include "mcd/guest/ramblocks-private.h"
#include "qemubox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

/* --- info ramblock, recorded
 * --------------------------------------------------------------------*/

static const char qemu72[] = "              Block Name    PSize              Offset               "
			     "Used              Total\r\n"
			     "                  pc.ram    4 KiB  0x0000000000000000 "
			     "0x0000000004000000 0x0000000004000000\r\n"
			     "   0000:00:02.0/vga.vram    4 KiB  0x0000000004080000 "
			     "0x0000000001000000 0x0000000001000000\r\n"
			     "    /rom@etc/acpi/tables    4 KiB  0x0000000005100000 "
			     "0x0000000000020000 0x0000000000200000\r\n"
			     "                 pc.bios    4 KiB  0x0000000004000000 "
			     "0x0000000000040000 0x0000000000040000\r\n"
			     "  0000:00:03.0/e1000.rom    4 KiB  0x00000000050c0000 "
			     "0x0000000000040000 0x0000000000040000\r\n"
			     "                  pc.rom    4 KiB  0x0000000004040000 "
			     "0x0000000000020000 0x0000000000020000\r\n";

static const char qemu9[] =
	"              Block Name    PSize              Offset               Used              "
	"Total  "
	"              HVA  RO\n"
	"                      m0    2 MiB  0x0000000000000000 0x0000000008000000 "
	"0x0000000008000000 "
	"0x00007f2c3fe00000  rw\n"
	"a name that is much longer than its column, with spaces    4 KiB  0x0000000008000000 "
	"0x0000000000001000 0x0000000000001000 0x00007f2c3fd00000  ro\n";

static struct ramblock_line *line;
static size_t n_line;

static int clear(void **state)
{
	free(line);
	line = NULL;
	return 0;
}

static void layout_of_qemu_7_2_is_read(void **state)
{
	assert_int_equal(ramblocks_parse(qemu72, &line, &n_line, NULL), 0);
	assert_int_equal(n_line, 6);
	assert_string_equal(line[0].id, "pc.ram");
	assert_int_equal(line[0].used, 0x4000000);
	assert_int_equal(line[0].hva, 0);
	assert_string_equal(line[2].id, "/rom@etc/acpi/tables");
	assert_int_equal(line[2].used, 0x20000);
	assert_int_equal(line[2].total, 0x200000);
}

static void layout_of_newer_qemu_is_read(void **state)
{
	assert_int_equal(ramblocks_parse(qemu9, &line, &n_line, NULL), 0);
	assert_int_equal(n_line, 2);
	assert_string_equal(line[0].id, "m0");
	assert_int_equal(line[0].used, 0x8000000);
	assert_int_equal(line[0].hva, 0x7f2c3fe00000);
	assert_false(line[0].read_only);
	assert_string_equal(line[1].id, "a name that is much longer than its column, with spaces");
	assert_true(line[1].read_only);
}

static void text_that_is_not_understood_is_refused_whole(void **state)
{
	static const char *const bad[] = {
		"",
		"unknown command: 'info ramblock'\r\n",
		"              Block Name    PSize  Offset  Used  Total\n",
		"  m0    4 KiB  0x0 0x1000 0x1000\n", /* no headline */
		"  Block Name  PSize  Offset  Used  Total\n  m0    4 KiB  0x0 0x1000\n",
		"  Block Name  PSize  Offset  Used  Total\n  m0    4 KiB  0x0 0x1000 0x1000g\n",
		"  Block Name  PSize  Offset  Used  Total\n  m0    0x0 0x1000 0x1000\n",
		"  Block Name  PSize  Offset  Used  Total\n  4 KiB  0x0 0x1000 0x1000\n",
		"  Block Name  PSize  Offset  Used  Total\n  m0    4 KiB  0x0 0x1000 0x1000 new "
		"column\n",
		"  Block Name  PSize  Offset  Used  Total\n m0 4 KiB 0x0 0x11111111111111111 "
		"0x1000\n",
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct mc_error err = MC_ERROR_INIT;
		if (ramblocks_parse(bad[i], &line, &n_line, &err) != -EPROTO)
			fail_msg("accepted: %s", bad[i]);
		assert_string_equal(err.cls, MC_ECLASS_GUEST);
		assert_null(line);
	}
}

static void roms_are_left_out_and_nothing_else(void **state)
{
	static const struct {
		const char *id;
		bool read_only, rom;
	} t[] = {
		{"pc.bios", false, true},
		{"pc.rom", false, true},
		{"isa-bios", false, true},
		{"0000:00:03.0/virtio-net-pci.rom", false, true},
		{"/rom@etc/acpi/tables", false, true},
		{"anything", true, true},
		{"pc.ram", false, false},
		{"0000:00:02.0/vga.vram", false, false},
		{"system.flash0", false, false},
		{"my.romance", false, false},
		{"x/rom@y", false, false},
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct ramblock_line l = {.read_only = t[i].read_only};
		strcpy(l.id, t[i].id);
		if (ramblocks_is_rom(&l) != t[i].rom)
			fail_msg("%s", t[i].id);
	}
}

static void refusal_names_the_block_and_the_option(void **state)
{
	static const struct {
		const char *id;
		bool backend;
		const char *option;
	} t[] = {
		{"0000:00:02.0/vga.vram", false, "-vga none"},
		{"qxl.vgavram", false, "-vga none"},
		{"system.flash1", false, "-bios"},
		{"m0", true, "share=on"},
		{"pc.ram", true, "share=on"},
		{"tpm-ppi", false, "ppi=off"},
		{"ivshmem.bar2", false, "ivshmem"},
		{"weird", false, "remove the device"},
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct mc_error err = MC_ERROR_INIT;
		assert_int_equal(ramblocks_refuse(t[i].id, t[i].backend, &err), -ENOTSUP);
		assert_string_equal(err.cls, MC_ECLASS_GUEST);
		assert_non_null(strstr(err.msg, t[i].id));
		if (!strstr(err.msg, t[i].option))
			fail_msg("%s", err.msg);
	}
}

/* --- /proc/PID/maps, recorded
 * -------------------------------------------------------------------*/

static const char maps_text[] =
	"55d0c0000000-55d0c0200000 r-xp 00000000 fe:01 1234       /usr/bin/qemu-system-x86_64\n"
	"7f0000000000-7f0004000000 rw-s 00000000 00:01 77         /memfd:ram (deleted)\n"
	"7f0004000000-7f0008000000 rw-s 04000000 00:01 77         /memfd:ram (deleted)\n"
	"7f0008000000-7f0008001000 ---p 00000000 00:00 0 \n"
	"7f0010000000-7f0018000000 rw-s 00000000 00:01 78         /memfd:ram (deleted)\n"
	"7f0020000000-7f0028000000 rw-p 00000000 00:01 79         /memfd:ram (deleted)\n"
	"7f0030000000-7f0038000000 r--s 00000000 00:01 80         /memfd:ram (deleted)\n"
	"7f0040000000-7f0048000000 rw-s 00001000 00:01 81         /memfd:ram (deleted)\n"
	"7f0050000000-7f0054000000 rw-s 00000000 00:01 82         /memfd:ram (deleted)\n"
	"7f0054000000-7f0058000000 rw-s 05000000 00:01 82         /memfd:ram (deleted)\n";

static void only_whole_shared_writable_mappings_are_seen(void **state)
{
	struct ram_mapping *m;
	size_t n;
	assert_int_equal(ramblocks_parse_maps(maps_text, &m, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_int_equal(m[0].addr, 0x7f0000000000);
	assert_int_equal(m[0].len, 0x8000000);
	assert_int_equal(m[0].first_end, 0x7f0004000000);
	assert_int_equal(m[0].ino, 77);
	assert_int_equal(m[1].ino, 78);
	assert_int_equal(m[2].len, 0x4000000);
	free(m);
}

static void backends_of_equal_size_are_told_apart_or_refused(void **state)
{
	const struct ram_mapping m[] =
		{
			{.addr = 0x1000, .len = 4096, .dev_minor = 1, .ino = 5},
			{.addr = 0x3000, .len = 4096, .dev_minor = 1, .ino = 6},
		},
				 *found = NULL;
	struct mc_error err = MC_ERROR_INIT;
	struct ram_wanted w = {.id = "m1", .size = 4096, .same_size = 1};
	assert_int_equal(ramblocks_choose(&w, m, 2, &found, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "m1"));
	assert_null(found);

	w.by_file = true;
	w.dev = makedev(0, 1);
	w.ino = 6;
	assert_int_equal(ramblocks_choose(&w, m, 2, &found, NULL), 0);
	assert_ptr_equal(found, &m[1]);
	w.dev = makedev(8, 1);
	assert_int_equal(ramblocks_choose(&w, m, 2, &found, NULL), -ENOTSUP);

	struct ram_wanted h = {.id = "m1", .size = 4096, .hva = 0x1000, .same_size = 2};
	assert_int_equal(ramblocks_choose(&h, m, 2, &found, NULL), 0);
	assert_ptr_equal(found, &m[0]);

	/* One mapping left, but two backends it could belong to. */
	struct ram_wanted two = {.id = "m1", .size = 4096, .same_size = 2};
	assert_int_equal(ramblocks_choose(&two, m, 1, &found, NULL), -ENOTSUP);
	/* One file mapped twice: writes through the other mapping would not be seen. */
	const struct ram_mapping twice[] = {m[0], m[0]};
	w.dev = makedev(0, 1);
	w.ino = 5;
	assert_int_equal(ramblocks_choose(&w, twice, 2, &found, NULL), -ENOTSUP);
}

/* --- a real QEMU
 * --------------------------------------------------------------------------------*/

static struct qemubox box;
static struct ramblocks blocks;
static struct mc_error err;

static int box_setup(void **state)
{
	memset(&box, 0, sizeof box);
	blocks.n = 0;
	err = MC_ERROR_INIT;
	return 0;
}

static int box_teardown(void **state)
{
	ramblocks_close(&blocks);
	qemubox_stop(&box);
	return 0;
}

static int open_with(const char *options)
{
	if (!qemubox_installed()) {
		print_message("skipped: qemu-system-x86_64 is not installed\n");
		skip();
	}
	int r = qemubox_start(&box, options, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
	return ramblocks_open(box.qmp, box.pid, &blocks, &err);
}

#define LEAN "-nodefaults -vga none "

static void memory_on_our_file_is_found_and_mapped(void **state)
{
	int r = open_with(
		LEAN "-machine pc,memory-backend=ram0 -object "
		     "memory-backend-file,id=ram0,size=32M,mem-path=/proc/self/fd/%d,share=on");
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blocks.n, 1);
	assert_string_equal(blocks.v[0].id, "ram0");
	assert_int_equal(blocks.v[0].size, QEMUBOX_RAM);
	/* The same memory: what we write here is seen in the file. */
	blocks.v[0].map[12345] ^= 0x5a;
	assert_int_equal(blocks.v[0].map[12345], box.ram[0][12345]);
	assert_memory_equal(blocks.v[0].map, box.ram[0], QEMUBOX_RAM);
}

static void two_backends_of_equal_size_are_not_confused(void **state)
{
	int r = open_with(
		LEAN "-machine pc -numa node,memdev=b -numa node,memdev=a -object "
		     "memory-backend-file,id=a,size=32M,mem-path=/proc/self/fd/%d,share=on -object "
		     "memory-backend-file,id=b,size=32M,mem-path=/proc/self/fd/%d,share=on");
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blocks.n, 2);
	for (size_t i = 0; i < 2; i++) {
		int which = blocks.v[i].id[0] == 'b';
		blocks.v[i].map[54321] = (uint8_t)(10 + which);
		assert_int_equal(box.ram[which][54321], 10 + which);
	}
	assert_string_not_equal(blocks.v[0].id, blocks.v[1].id);
	assert_int_not_equal(blocks.v[0].qemu_addr, blocks.v[1].qemu_addr);
}

static void unnamed_memory_is_found_by_its_size(void **state)
{
	int r = open_with(LEAN "-machine pc,memory-backend=m -object "
			       "memory-backend-memfd,id=m,size=32M,share=on");
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blocks.n, 1);
	assert_int_equal(blocks.v[0].size, QEMUBOX_RAM);
}

static void unnamed_backends_of_equal_size_are_refused(void **state)
{
	assert_int_equal(
		open_with(LEAN "-machine pc -numa node,memdev=a -numa node,memdev=b -object "
			       "memory-backend-memfd,id=a,size=32M,share=on -object "
			       "memory-backend-memfd,id=b,size=32M,share=on"),
		-ENOTSUP);
	assert_int_equal(blocks.n, 0);
	assert_non_null(strstr(err.msg, "memory-backend-file"));
}

static void vga_is_refused(void **state)
{
	assert_int_equal(
		open_with(
			"-machine pc,memory-backend=ram0 -object "
			"memory-backend-file,id=ram0,size=32M,mem-path=/proc/self/fd/%d,share=on"),
		-ENOTSUP);
	assert_string_equal(err.cls, MC_ECLASS_GUEST);
	assert_non_null(strstr(err.msg, "vga.vram"));
	assert_non_null(strstr(err.msg, "-vga none"));
}

static void private_memory_is_refused(void **state)
{
	assert_int_equal(open_with(LEAN "-machine pc -m 32M"), -ENOTSUP);
	assert_non_null(strstr(err.msg, "pc.ram"));
	assert_non_null(strstr(err.msg, "share=on"));
}

static void q35_with_network_and_disk_cards_is_accepted(void **state)
{
	int r = open_with(
		LEAN "-machine q35,memory-backend=ram0 -device virtio-net-pci -device "
		     "virtio-blk-pci,drive=d -drive if=none,id=d,driver=null-co,size=1M -object "
		     "memory-backend-file,id=ram0,size=32M,mem-path=/proc/self/fd/%d,share=on");
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(blocks.n, 1);
}

#define T(f) cmocka_unit_test_teardown(f, clear)
#define Q(f) cmocka_unit_test_setup_teardown(f, box_setup, box_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(layout_of_qemu_7_2_is_read),
		T(layout_of_newer_qemu_is_read),
		T(text_that_is_not_understood_is_refused_whole),
		T(roms_are_left_out_and_nothing_else),
		T(refusal_names_the_block_and_the_option),
		T(only_whole_shared_writable_mappings_are_seen),
		T(backends_of_equal_size_are_told_apart_or_refused),
		Q(memory_on_our_file_is_found_and_mapped),
		Q(two_backends_of_equal_size_are_not_confused),
		Q(unnamed_memory_is_found_by_its_size),
		Q(unnamed_backends_of_equal_size_are_refused),
		Q(vga_is_refused),
		Q(private_memory_is_refused),
		Q(q35_with_network_and_disk_cards_is_accepted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
