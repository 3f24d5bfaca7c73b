/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user's QEMU command, twice: the same text must give the same plan and digest, and every plan
 * a command that begins with the user's words and has each RAM block and NIC of ours once.
 */
#include "tests/fuzz/fuzz.h"

#include "mcd/guest/cmdline/cmdline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t count(char **argv, const char *prefix)
{
	size_t n = 0;
	for (char **w = argv; *w; w++)
		n += strncmp(*w, prefix, strlen(prefix)) == 0;
	return n;
}

static void check_plan(const struct config_vm *vm, const struct cmdline_plan *plan)
{
	static const int fds[CONFIG_NICS_MAX] = {
		3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18};
	static const struct cmdline_disk disks[CONFIG_DISKS_MAX];
	struct cmdline_inputs in = {fds, fds, disks, "/q,1", "/q2", "vm1", true};
	struct mc_error err = MC_ERROR_INIT;
	char **argv;
	FUZZ_CHECK(plan->argc > 0 && !plan->argv[plan->argc] && strlen(plan->digest) == 16);
	FUZZ_CHECK(plan->n_ram > 0 && plan->n_ram <= 16);
	for (size_t i = 0; i < plan->n_ram; i++)
		FUZZ_CHECK(
			plan->ram[i].id[0] && plan->ram[i].size && plan->ram[i].size % 4096 == 0);
	FUZZ_CHECK(cmdline_build(vm, plan, &in, &argv, &err) == 0);
	for (size_t i = 0; i < plan->argc; i++)
		FUZZ_CHECK(strcmp(argv[i], plan->argv[i]) == 0);
	/* Behind the user's words only ours follow, so that these cannot be somebody's argument. */
	char **ours = argv + plan->argc;
	FUZZ_CHECK(count(ours, "memory-backend-file,id=") == plan->n_ram);
	FUZZ_CHECK(count(ours, "tap,id=") == vm->n_nics);
	FUZZ_CHECK(count(ours, "unix:/q,,1,server=on,wait=off") == 1 && count(ours, "defer") == 1);
	cmdline_argv_free(argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	memcpy(text, data, size);
	text[size] = '\0';
	struct config_vm vm = {.name = "vm1",
		.path = "vm1.conf",
		.command = text,
		.n_nics = 2,
		.nics = {{.id = "net0", .mac = {2, 0, 0, 0, 0, 1}},
			{.id = "net1", .mac = {2, 0, 0, 0, 0, 2}}}};
	struct mc_error err = MC_ERROR_INIT;
	struct cmdline_plan plan, again;
	int r = cmdline_plan(&vm, &plan, &err);
	if (r < 0) {
		FUZZ_CHECK(err.code == r && *err.msg);
	} else {
		check_plan(&vm, &plan);
		FUZZ_CHECK(
			cmdline_plan(&vm, &again, &err) == 0 && !strcmp(again.digest, plan.digest));
		cmdline_plan_clear(&again);
		cmdline_plan_clear(&plan);
	}
	free(text);
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"qemu-system-x86_64 -accel tcg -machine q35 -m 256M -smp 2 -nodefaults -serial "
		"none",
		"qemu -m size=1.5G -netdev user,id=net0 -device "
		"e1000,netdev=net0,mac=52:54:00:00:00:01 -name a,,b",
		"qemu -m 2M -object memory-backend-memfd,id=a,size=1M,seal=off -object "
		"'{\"qom-type\":\"memory-backend-ram\",\"id\":\"b\",\"size\":1048576,\"host-nodes\":[0,1]}' "
		"-numa node,memdev=a -numa node,memdev=b",
		"qemu -object memory-backend-file,id=r,size=64M,mem-path=/x,share=on,policy=bind "
		"-M pc,memory-backend=r -drive file=a.img,readonly=on -blockdev "
		"'{\"driver\":\"file\",\"read-only\":true}' -cdrom a.iso",
		"\"qe\\\"mu\" --m '64'M -device "
		"'{\"driver\":\"virtio-net-pci\",\"netdev\":\"net1\"}' -append \"a b\" "
		"-new-option x -chardev stdio,id=c -set device.a.b=c -nic none",
	};
	if (i >= sizeof seeds / sizeof *seeds || strlen(seeds[i]) > cap)
		return 0;
	memcpy(buf, seeds[i], strlen(seeds[i]));
	return strlen(seeds[i]);
}
