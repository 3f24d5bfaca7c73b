/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of a takeover under way: what was saved comes back, anything else is refused. */
#include "mcd/vm/takeover-file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/mcd-takeover-XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	takeover_file_remove(dir);
	return rmdir(dir);
}

static void save(size_t len, uint64_t generation)
{
	uint8_t *p = malloc(len);
	struct takeover_state t = {.guest_state = 2,
		.generation = generation,
		.epoch = 7,
		.devices = p,
		.len = len,
		.primary = "hostA"};
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 31 + generation);
	assert_int_equal(takeover_file_save(dir, &t, NULL, NULL), 0);
	free(p);
}

/* A file system that is full keeps nobody from saving it. */
static void rule_12_what_is_saved_into_its_room_needs_no_more(void **state)
{
	char path[400];
	struct stat before, after;
	uint8_t p[90000] = {1};
	struct takeover_room room = {.fd = -1};
	struct takeover_state t = {.generation = 3, .devices = p, .len = sizeof p}, back;
	assert_int_equal(takeover_file_reserve(dir, 70000, &room, NULL), 0);
	size_t size = room.size;
	assert_true(size >= sizeof p);
	assert_int_equal(takeover_file_reserve(dir, 60000, &room, NULL), 0);
	assert_int_equal(room.size, size);
	assert_int_equal(fstat(room.fd, &before), 0);
	assert_int_equal(takeover_file_save(dir, &t, &room, NULL), 0);
	assert_int_equal(room.fd, -1);
	snprintf(path, sizeof path, "%s/takeover", dir);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(after.st_ino, before.st_ino);
	assert_true(after.st_blocks <= before.st_blocks);
	assert_int_equal(takeover_file_load(dir, &back, NULL), 0);
	assert_memory_equal(back.devices, p, sizeof p);
	free(back.devices);
	/* one that it grew out of */
	assert_int_equal(takeover_file_reserve(dir, 10, &room, NULL), 0);
	assert_int_equal(takeover_file_save(dir, &t, &room, NULL), 0);
	takeover_room_close(&room);
	takeover_file_remove(dir);
}

static void what_was_saved_comes_back(void **state)
{
	struct takeover_state t;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(takeover_file_load(dir, &t, &err), -ENOENT);
	assert_int_equal(err.code, 0);
	save(100000, 3);
	save(80000, 4); /* the newer replaces the older, whole */
	assert_int_equal(takeover_file_load(dir, &t, &err), 0);
	assert_int_equal(t.generation, 4);
	assert_int_equal(t.epoch, 7);
	assert_int_equal(t.guest_state, 2);
	assert_string_equal(t.primary, "hostA");
	assert_int_equal(t.len, 80000);
	for (size_t i = 0; i < t.len; i++)
		assert_int_equal(t.devices[i], (uint8_t)(i * 31 + 4));
	free(t.devices);
}

/* Every byte of the header and some of the state flipped, every short length. */
static void damage_is_refused(void **state)
{
	char path[64];
	struct takeover_state t;
	struct mc_error err;
	snprintf(path, sizeof path, "%s/takeover", dir);
	for (off_t at = 0; at < 300; at++) {
		save(400, 9);
		int fd = open(path, O_RDWR);
		uint8_t b;
		assert_int_equal(pread(fd, &b, 1, at), 1);
		b ^= 0x10;
		assert_int_equal(pwrite(fd, &b, 1, at), 1);
		close(fd);
		err = MC_ERROR_INIT;
		assert_int_equal(takeover_file_load(dir, &t, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, path));
	}
	for (off_t len = 0; len < 520; len += 5) {
		save(400, 9);
		assert_int_equal(truncate(path, len), 0);
		assert_int_equal(takeover_file_load(dir, &t, &err), -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rule_12_what_is_saved_into_its_room_needs_no_more),
		cmocka_unit_test(what_was_saved_comes_back),
		cmocka_unit_test(damage_is_refused),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
