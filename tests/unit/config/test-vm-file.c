/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMs' files. */
#include "common/clock.h"
#include "tests/unit/config/config-files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_vm_takes_what_it_does_not_say_from_the_defaults(void **state)
{
	struct config_vm *vm;
	if (load_vm("vm1", VM "delay = 20ms\n[nic net0]\nbridge = br0\n", &vm) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(vm->name, "vm1");
	assert_int_equal(vm->delay, 20 * MC_MSEC);
	assert_int_equal(vm->max_buffer, 256 << 20);
	assert_int_equal(vm->n_nics, 1);
	assert_string_equal(vm->nics[0].id, "net0");
	assert_string_equal(vm->nics[0].bridge, "br0");
	assert_string_equal(vm->user, "");
	assert_int_equal(vm->guest_time, CONFIG_TIME_AGENT);

	json_t *d = config_vm_dump(vm);
	const char *o1, *o2, *o3, *mac;
	assert_int_equal(json_unpack(d, "{s:{s:{s:s},s:{s:s}},s:{s:{s:{s:s,s:s}}}}", "keys",
				 "delay", "origin", &o1, "hold-limit", "origin", &o2, "nics",
				 "net0", "mac", "value", &mac, "origin", &o3),
		0);
	assert_non_null(strstr(o1, "vm1.conf:3"));
	assert_string_equal(o2, "default");
	assert_string_equal(o3, "command");
	assert_string_equal(mac, "52:54:00:00:00:01");
	json_decref(d);
	config_vm_free(vm);
}

static void a_command_goes_on_over_indented_lines_of_any_length(void **state)
{
	char text[2000] = "[vm]\ncommand = qemu-system-x86_64 -m 64M \\\n\t-append ' a ; b # c ";
	size_t at = strlen(text);
	memset(text + at, 'x', 700);
	strcpy(text + at + 700, "'\n\n  # a comment\n    -nodefaults\ndelay = 7ms\n");
	struct config_vm *vm;
	if (load_vm("vm1", text, &vm) < 0)
		fail_msg("%s", err.msg);
	assert_true(
		strncmp(vm->command, "qemu-system-x86_64 -m 64M -append ' a ; b # c xxx", 49) == 0);
	assert_non_null(strstr(vm->command, "xxx' -nodefaults"));
	assert_null(strstr(vm->command, "comment"));
	assert_null(strchr(vm->command, '\\'));
	assert_int_equal(vm->delay, 7 * MC_MSEC);
	config_vm_free(vm);
}

static void the_mac_comes_from_the_key_the_command_or_the_names(void **state)
{
	struct config_vm *vm;
	assert_int_equal(
		load_vm("vm1",
			"[vm]\ncommand = q -m 1M\n[nic n]\nbridge = b\nmac = 52:54:00:AA:00:01\n",
			&vm),
		0);
	assert_memory_equal(vm->nics[0].mac, "\x52\x54\x00\xaa\x00\x01", 6);
	config_vm_free(vm);
	assert_int_equal(
		load_vm("vm1",
			"[vm]\ncommand = q -m 1M --device '{\"driver\":\"e1000\",\"netdev\":\"n\","
			"\"mac\":\"52:54:00:00:00:09\"}'\n[nic n]\nbridge = b\n",
			&vm),
		0);
	assert_memory_equal(vm->nics[0].mac, "\x52\x54\x00\x00\x00\x09", 6);
	config_vm_free(vm);

	uint8_t first[6];
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(
			load_vm("vm1",
				"[vm]\ncommand = q -m 1M\n[nic n]\nbridge = b\n[nic m]\nbridge = "
				"b\n",
				&vm),
			0);
		assert_memory_equal(vm->nics[0].mac, "\x52\x54\x00", 3);
		assert_memory_not_equal(vm->nics[0].mac, vm->nics[1].mac, 6);
		if (round)
			assert_memory_equal(vm->nics[0].mac, first, 6);
		memcpy(first, vm->nics[0].mac, 6);
		config_vm_free(vm);
	}
	assert_int_equal(load_vm("vm2", "[vm]\ncommand = q -m 1M\n[nic n]\nbridge = b\n", &vm), 0);
	assert_memory_not_equal(vm->nics[0].mac, first, 6);
	config_vm_free(vm);
}

static void every_mistake_in_a_vm_is_refused_with_its_place(void **state)
{
	static const struct {
		const char *text, *say;
	} rows[] = {
		{"[vm]\ndelay = 5ms\n", "there is no command in [vm]"},
		{"[vm]\ncomand = q\n",
			"vm1.conf:2: unknown key \"comand\" in [vm]: did you mean \"command\"?"},
		{"[nics x]\n", "did you mean [nic]"},
		{VM "delay = 5\n", "vm1.conf:3: delay: \"5\" has no unit"},
		{VM "bridge = b\n", "unknown key \"bridge\" in [vm]"},
		{VM "[nic net0]\n", "vm1.conf:3: [nic net0] has no bridge"},
		{VM "[nic]\nbridge = b\n", "needs the id of the NIC's netdev"},
		{VM "[nic 0net]\nbridge = b\n", "needs the id of the NIC's netdev"},
		{VM "[nic net0]\nbridge = a-name-of-17-char\n", "is not a name"},
		{VM "[nic net0]\nbridge = br/0\n", "is not a name"},
		{VM "[nic net0]\nbridge = b\nmac = 52:54:00:00:00\n", "is not the MAC address"},
		{VM "[nic net0]\nbridge = b\nmac = 53:54:00:00:00:01\n", "the first pair even"},
		{VM "[nic net0]\nbridge = b\nmac = 52:54:00:00:00:02\n",
			"vm1.conf:5: mac: the -device"},
		{VM "[nic net0]\nbridge = b\n[nic n1]\nbridge = b\nmac = 52:54:00:00:00:01\n",
			"has the MAC address of [nic net0]"},
		{VM "user = qemu users\n", "vm1.conf:3: user: \"qemu users\" is no user"},
		{VM "user = -1:0\n", "is no user"},
		{VM "guest-time = ntp\n", "write agent or none"},
		{"[vm]\ncommand = q 'x\n", "vm1.conf:2: command: the command has a single quote"},
		{"[vm]\ncommand = q $HOME\n", "only a shell would understand"},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config_vm *vm = (void *)8;
		if (load_vm("vm1", rows[i].text, &vm) >= 0)
			fail_msg("accepted:\n%s", rows[i].text);
		must_say(rows[i].text, rows[i].say);
		assert_ptr_equal(vm, (void *)8);
	}
}

static void a_user_is_a_name_or_numbers(void **state)
{
	static const char *const users[] = {"qemu", "libvirt-qemu", "107:36", "host$"};
	for (size_t i = 0; i < COUNT(users); i++) {
		struct config_vm *vm;
		char text[200];
		snprintf(text, sizeof text, VM "user = %s\nguest-time = none\n", users[i]);
		if (load_vm("vm1", text, &vm) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(vm->user, users[i]);
		assert_int_equal(vm->guest_time, CONFIG_TIME_NONE);
		config_vm_free(vm);
	}
}

static void an_unknown_vm_is_refused_with_the_nearest_name(void **state)
{
	struct config_vm *vm;
	assert_int_equal(load_vm("database", VM, &vm), 0);
	config_vm_free(vm);
	assert_int_equal(config_load_vm(&cfg, "databsae", &vm, &err), -ENOENT);
	assert_string_equal(err.cls, MC_ECLASS_UNKNOWN_VM);
	must_say("databsae", "did you mean \"database\"?");
	assert_int_equal(config_load_vm(&cfg, "../mcd", &vm, &err), -EINVAL);
	assert_string_equal(err.cls, MC_ECLASS_UNKNOWN_VM);
	assert_int_equal(config_load_vm(&cfg, "", &vm, &err), -EINVAL);
}

static void sockets_that_would_not_fit_their_address_are_refused(void **state)
{
	char text[400], run[100], name[LINK_NAME_MAX + 1], path[160];
	memset(run, 'r', sizeof run);
	run[0] = '/';
	run[94] = '\0';
	snprintf(text, sizeof text, MCD "run-dir = %s\n" HOSTS, run);
	assert_int_equal(load(text), 0);
	run[94] = 'r';
	run[95] = '\0';
	snprintf(text, sizeof text, MCD "run-dir = %s\n" HOSTS, run);
	assert_int_equal(load(text), -EINVAL);
	must_say(text, "mcd.conf:3: run-dir");

	run[40] = '\0';
	snprintf(text, sizeof text, MCD "run-dir = %s\n" HOSTS, run);
	assert_int_equal(load(text), 0);
	memset(name, 'v', LINK_NAME_MAX);
	name[LINK_NAME_MAX] = '\0';
	vm_path(path, name);
	write_file(path, VM);
	struct config_vm *vm;
	assert_int_equal(config_load_vm(&cfg, name, &vm, &err), -ENAMETOOLONG);
	unlink(path);
}

static void vms_are_listed_by_name_without_stray_files(void **state)
{
	char cmd[200], **names;
	size_t n;
	assert_int_equal(load(MCD HOSTS), 0);
	snprintf(cmd, sizeof cmd,
		"cd '%s' && rm -f -- * && touch zeta.conf alpha.conf .x.conf alpha.conf~ README",
		vms_dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(config_list_vms(&cfg, &names, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_string_equal(names[0], "alpha");
	assert_string_equal(names[1], "zeta");
	free(names[0]);
	free(names[1]);
	free(names);

	snprintf(cmd, sizeof cmd, "cd '%s' && touch 'my vm.conf'", vms_dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(config_list_vms(&cfg, &names, &n, &err), -EINVAL);
	must_say("my vm", "rename the file");
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", vms_dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(config_list_vms(&cfg, &names, &n, &err), 0);
	assert_int_equal(n, 0);
	free(names);
	assert_int_equal(mkdir(vms_dir, 0700), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_takes_what_it_does_not_say_from_the_defaults),
		cmocka_unit_test(a_command_goes_on_over_indented_lines_of_any_length),
		cmocka_unit_test(the_mac_comes_from_the_key_the_command_or_the_names),
		cmocka_unit_test(every_mistake_in_a_vm_is_refused_with_its_place),
		cmocka_unit_test(a_user_is_a_name_or_numbers),
		cmocka_unit_test(an_unknown_vm_is_refused_with_the_nearest_name),
		cmocka_unit_test(sockets_that_would_not_fit_their_address_are_refused),
		cmocka_unit_test(vms_are_listed_by_name_without_stray_files),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
