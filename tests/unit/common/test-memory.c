/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that is shared with somebody who may be hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (1u << 20)

static struct mc_error err;

static int made(void)
{
	int fd = -1;
	assert_int_equal(memory_make("ram0", SIZE, &fd, &err), 0);
	return fd;
}

static void nobody_can_change_its_size(void **state)
{
	int fd = made();
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	/* What QEMU does for a balloon. */
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8192), 0);
	assert_int_equal(pwrite(fd, "x", 1, SIZE - 1), 1);
	close(fd);
}

static void touch(void *arg)
{
	volatile uint8_t *p = arg;
	*p = (uint8_t)(*p + 1);
}

/* As an earlier mcd made it: without a seal. */
static void a_page_that_is_gone_is_an_error(void **state)
{
	int fd = memfd_create("old", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(memory_try(touch, p + 4096), 0);
	assert_int_equal(p[4096], 1);
	assert_int_equal(ftruncate(fd, 4096), 0);
	for (int i = 0; i < 3; i++) /* and again: the signal is not left blocked */
		assert_int_equal(memory_try(touch, p + 4096), -EFAULT);
	assert_int_equal(memory_try(touch, p), 0);
	assert_int_equal(memory_lost("vm1", &err), -EFAULT);
	munmap(p, SIZE);
	close(fd);
}

static void of_another_program(int number, int flags, const struct memory_id *want, int result)
{
	char path[64];
	int fd = -1;
	snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), number);
	assert_int_equal(memory_open(path, flags, want, &fd, &err), result);
	if (result < 0) {
		assert_int_equal(fd, -1);
		return;
	}
	close(fd);
}

static void only_memory_files_are_opened(void **state)
{
	struct memory_id id, other;
	int fd = made(), second = made();
	char dir[] = "/tmp/test-memory-XXXXXX", fifo[64], path[64];
	assert_non_null(mkdtemp(dir));
	snprintf(fifo, sizeof fifo, "%s/fifo", dir);
	snprintf(path, sizeof path, "/proc/self/fd/%d", second);
	assert_int_equal(memory_identify(path, &other), 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	assert_int_equal(memory_identify(path, &id), 0);
	of_another_program(fd, O_RDWR, NULL, 0);
	of_another_program(fd, O_RDWR, &id, 0);
	of_another_program(fd, O_RDWR, &other, -ENOTSUP);
	/* The same number of another file system is not the same file. */
	id.dev++;
	of_another_program(fd, O_RDWR, &id, -ENOTSUP);

	/* Opening this one for reading would wait for a writer. */
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(memory_identify(fifo, &id), -ENOTSUP);
	assert_int_equal(memory_open(fifo, O_RDONLY, NULL, &fd, &err), -ENOTSUP);
	assert_int_equal(memory_identify("/dev/null", &id), -ENOTSUP);
	assert_int_equal(memory_identify(dir, &id), -ENOTSUP);
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(memory_is_file(pipes[0]), -ENOTSUP);
	assert_int_equal(memory_is_file(second), 0);
	close(pipes[0]);
	close(pipes[1]);
	unlink(fifo);
	rmdir(dir);
	close(fd);
	close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_can_change_its_size),
		cmocka_unit_test(a_page_that_is_gone_is_an_error),
		cmocka_unit_test(only_memory_files_are_opened),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
