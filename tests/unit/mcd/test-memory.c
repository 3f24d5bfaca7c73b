/* SPDX-License-Identifier: GPL-2.0-or-later */
/* On a tree of files that looks like /proc and /sys/fs/cgroup. */
#include "mcd/standby/available.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static char dir[64], proc[80], cgroup[80];

static int setup(void **state)
{
	strcpy(dir, "/tmp/mcd-test-memory-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(proc, sizeof proc, "%s/proc", dir);
	snprintf(cgroup, sizeof cgroup, "%s/cgroup", dir);
	return 0;
}

static int teardown(void **state)
{
	char cmd[100];
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

static void put(const char *path, const char *text)
{
	char cmd[300], full[200];
	snprintf(full, sizeof full, "%s/%s", dir, path);
	snprintf(cmd, sizeof cmd, "mkdir -p \"$(dirname '%s')\"", full);
	assert_int_equal(system(cmd), 0);
	FILE *f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void without_groups_it_is_what_the_host_has(void **state)
{
	assert_true(memory_available(proc, cgroup) == UINT64_MAX);
	put("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n");
	assert_int_equal(memory_available(proc, cgroup), 2 * MIB);
	put("proc/self/cgroup", "0::/system.slice/mcd.service\n"); /* nothing mounted */
	assert_int_equal(memory_available(proc, cgroup), 2 * MIB);
}

static void the_tightest_group_above_decides(void **state)
{
	put("proc/meminfo", "MemAvailable: 1048576 kB\n");
	put("proc/self/cgroup", "0::/system.slice/mcd.service\n");
	put("cgroup/system.slice/mcd.service/memory.max", "max\n");
	put("cgroup/system.slice/mcd.service/memory.current", "1000\n");
	assert_int_equal(memory_available(proc, cgroup), 1024 * MIB);
	put("cgroup/system.slice/memory.max", "104857600\n");
	put("cgroup/system.slice/memory.current", "41943040\n");
	assert_int_equal(memory_available(proc, cgroup), 60 * MIB);
	put("cgroup/system.slice/mcd.service/memory.max", "20971520\n");
	assert_int_equal(memory_available(proc, cgroup), 20 * MIB - 1000);
	/* it may be over, for a moment */
	put("cgroup/system.slice/mcd.service/memory.current", "20971521\n");
	assert_int_equal(memory_available(proc, cgroup), 0);
}

static void files_that_can_be_read_again_count_as_free(void **state)
{
	put("proc/self/cgroup", "0::/a\n");
	put("cgroup/a/memory.max", "104857600\n");
	put("cgroup/a/memory.current", "104857600\n");
	put("cgroup/a/memory.stat", "anon 1\nfile 5\ninactive_file 10485760\n");
	assert_int_equal(memory_available(proc, cgroup), 10 * MIB);
}

static void groups_of_the_first_generation_count_too(void **state)
{
	put("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/lab/hostB\n1:name=systemd:/y\n0::/\n");
	put("cgroup/memory/lab/hostB/memory.limit_in_bytes", "52428800\n");
	put("cgroup/memory/lab/hostB/memory.usage_in_bytes", "31457280\n");
	put("cgroup/memory/lab/hostB/memory.stat",
		"inactive_file 0\ntotal_inactive_file 1048576\n");
	put("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* its "no limit" */
	put("cgroup/memory/memory.usage_in_bytes", "4096\n");
	assert_int_equal(memory_available(proc, cgroup), 21 * MIB);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(without_groups_it_is_what_the_host_has),
		T(the_tightest_group_above_decides),
		T(files_that_can_be_read_again_count_as_free),
		T(groups_of_the_first_generation_count_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
