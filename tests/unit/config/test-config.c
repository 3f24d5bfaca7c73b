/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd.conf. */
#include "common/clock.h"
#include "mcd/guest/cmdline/cmdline.h"
#include "tests/unit/config/config-files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_minimal_file_gets_the_documented_defaults(void **state)
{
	if (load(MCD HOSTS) < 0)
		fail_msg("%s", err.msg);
	char buf[80];
	assert_string_equal(cfg.path, conf_path);
	assert_string_equal(cfg.name, "hostA");
	assert_string_equal(cfg.run_dir, "/run/mcd");
	assert_string_equal(cfg.state_dir, "/var/lib/mcd");
	assert_string_equal(cfg.vms_dir, vms_dir);
	snprintf(buf, sizeof buf, "%s/cluster.key", dir);
	assert_string_equal(cfg.key_file, buf);
	assert_int_equal(cfg.netbuf, CONFIG_NETBUF_AUTO);
	assert_int_equal(cfg.dirty, CONFIG_DIRTY_AUTO);
	assert_int_equal(cfg.keepalive_interval, 50 * MC_MSEC);
	assert_int_equal(cfg.keepalive_misses, 5);
	assert_true(cfg.failover_automatic);
	assert_int_equal(cfg.delay, 100 * MC_MSEC);
	assert_int_equal(cfg.max_buffer, 256 << 20);
	assert_int_equal(cfg.hold_limit, 64 << 20);
	assert_int_equal(cfg.n_hosts, 3);
	assert_int_equal(cfg.cluster, CONFIG_CLUSTER_AUTO);
	assert_int_equal(cfg.hosts[0].port, 7801);
	assert_int_equal(cfg.hosts[2].port, 7900);
	assert_string_equal(cfg.hosts[2].address, "fd00::3");
	assert_ptr_equal(config_find_host(&cfg, "hostB"), &cfg.hosts[1]);
	assert_null(config_find_host(&cfg, "hostD"));
}

static void keepalives_can_have_a_network_of_their_own(void **state)
{
	assert_int_equal(load(MCD HOSTS), 0);
	assert_string_equal(config_keepalive_address(&cfg.hosts[1]), "10.0.0.2");
	assert_int_equal(
		load(MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n"
			 "[host hostB]\naddress = 10.0.0.2\nkeepalive-address = fd01::2\n"),
		0);
	assert_string_equal(config_keepalive_address(&cfg.hosts[1]), "fd01::2");
	assert_string_equal(cfg.hosts[1].address, "10.0.0.2");
}

static void every_key_can_be_set(void **state)
{
	if (load("# a comment\n[mcd]\nname = hostB\nrun-dir = /run/x\nstate-dir = /s\nvms-dir = /v\n"
		 "key-file = /k\n; another\nnetbuf = plug\ndirty-tracking = soft-dirty\n"
		 "keep-alive = 20ms\nkeep-alive-misses = 3\nfailover = manual\ncluster = static\nport = 7802\n"
		 "[defaults]\ndelay = 1.5s\nmax-buffer = 1GB\nhold-limit = 2MiB\n" HOSTS) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(cfg.name, "hostB");
	assert_string_equal(cfg.run_dir, "/run/x");
	assert_string_equal(cfg.state_dir, "/s");
	assert_string_equal(cfg.vms_dir, "/v");
	assert_string_equal(cfg.key_file, "/k");
	assert_int_equal(cfg.netbuf, CONFIG_NETBUF_PLUG);
	assert_int_equal(cfg.dirty, CONFIG_DIRTY_SOFT_DIRTY);
	assert_int_equal(cfg.keepalive_interval, 20 * MC_MSEC);
	assert_int_equal(cfg.keepalive_misses, 3);
	assert_int_equal(cfg.cluster, CONFIG_CLUSTER_STATIC);
	assert_int_equal(cfg.hosts[0].port, 7802);
	assert_int_equal(cfg.hosts[2].port, 7900);
	assert_false(cfg.failover_automatic);
	assert_int_equal(cfg.delay, 1500 * MC_MSEC);
	assert_int_equal(cfg.max_buffer, 1000000000);
	assert_int_equal(cfg.hold_limit, 2 << 20);
}

static void every_mistake_is_refused_with_its_place_and_a_cure(void **state)
{
	static const struct {
		const char *text, *say;
	} rows[] = {
		{MCD "nam = x\n",
			"mcd.conf:3: unknown key \"nam\" in [mcd]: did you mean \"name\"?"},
		{MCD "colour = x\n", "mcd.conf:3: unknown key \"colour\""},
		{MCD "delay = 5ms\n", "it belongs in [defaults]"},
		{MCD "zzzzzz = 1\n", "unknown key \"zzzzzz\" in [mcd]: the keys there are name,"},
		{"[mdc]\nname = a\n", "mcd.conf:1: unknown section [mdc]: did you mean [mcd]?"},
		{"[network]\n", "mcd.conf:1: unknown section [network]"},
		{"[defaults x]\n", "unknown section [defaults x]"},
		{"name = a\n", "mcd.conf:1: \"name\" is in no section"},
		{MCD "nonsense\n", "mcd.conf:3: this is neither"},
		{"[mcd\nname = a\n", "mcd.conf:1: this is neither"},
		{"[mcd] name = a\n", "mcd.conf:1: there is text after"},
		{MCD "name = b\n", "mcd.conf:3: name is already given at line 2"},
		{MCD HOSTS "[mcd]\n", "section [mcd] is already at line 1"},
		{"[host  a]\naddress = 10.0.0.1\n[host a]\n",
			"mcd.conf:3: section [host a] is already at line 1"},
		{MCD "keep-alive = 50\n", "mcd.conf:3: keep-alive: \"50\" has no unit"},
		{MCD "keep-alive = 1ms\n", "it must be 5ms to 10s"},
		{MCD "keep-alive = 11s\n", "it must be 5ms to 10s"},
		{MCD "keep-alive-misses = 1\n", "it must be 2 to 100"},
		{MCD "keep-alive-misses = 101\n", "it must be 2 to 100"},
		{MCD "netbuf = plugs\n", "write auto or plug or relay"},
		{MCD "dirty-tracking = magic\n", "write auto or pagemap-scan or soft-dirty"},
		{MCD "failover = yes\n", "write automatic or manual"},
		{MCD "cluster = pacemaker\n",
			"mcd.conf:3: cluster: \"pacemaker\" is not possible in this release: write static or corosync or auto"},
		{MCD "run-dir = run\n", "write an absolute one"},
		{MCD "run-dir =\n", "run-dir has no value"},
		{"[mcd]\nname = host/A\n", "\"host/A\" is not a name"},
		{"[mcd]\nname = .\n", "is not a name"},
		{"[mcd]\nname = hostA\n  run-dir = /x\n", "mcd.conf:2: name takes one line"},
		{"[defaults]\ndelay = 0.5ms\n", "it must be 1ms to 10s"},
		{"[defaults]\ndelay = 11s\n", "it must be 1ms to 10s"},
		{"[defaults]\nmax-buffer = 15MiB\n",
			"mcd.conf:2: max-buffer: 15MiB is out of range: it must be 16MiB"},
		{"[defaults]\nhold-limit = 1MB\n", "it must be 1MiB"},
		{"[defaults]\nhold-limit = 64\n", "has no unit"},
		{MCD, "there is no [host NAME] section"},
		{"[host]\n", "mcd.conf:1: [host] needs the host's name"},
		{"[host a b]\n", "needs the host's name"},
		{MCD "[host hostA]\nport = 5\n", "mcd.conf:3: [host hostA] has no address"},
		{MCD "[host hostA]\naddress = hostA\n", "not a numeric address"},
		{MCD "[host hostA]\naddress = 0.0.0.0\n", "is not the address of one host"},
		{MCD "[host hostA]\naddress = ff02::1\n", "is not the address of one host"},
		{MCD "[host hostA]\naddress = 10.0.0.1\nport = 65536\n",
			"mcd.conf:5: port: 65536 is out of range"},
		{MCD "[host hostA]\nadress = 10.0.0.1\n", "did you mean \"address\""},
		{MCD "[host hostA]\naddress = 10.0.0.1\n[host b]\naddress = 10.0.0.1\n",
			"has the address and port of [host hostA]"},
		{MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = eth1\n",
			"not a numeric address"},
		{MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n[host b]\naddress = 10.0.0.2\n",
			"mcd.conf:6: [host b] has no keepalive-address, but [host hostA] has one"},
		{MCD "[host hostA]\naddress = 10.0.0.1\n[host b]\naddress = 10.0.0.2\nkeepalive-address = 10.1.0.2\n",
			"mcd.conf:7: [host b] has a keepalive-address, but [host hostA] has none"},
		{MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n[host b]\naddress = 10.0.0.2\n"
		     "keepalive-address = 10.1.0.1\n",
			"has the keepalive-address of [host hostA]"},
		{"[mcd]\nname = hostD\n" HOSTS, "mcd.conf:2: name: there is no [host hostD]"},
		{"[mcd]\nname = hsotB\n" HOSTS, "did you mean \"hostB\"?"},
		{HOSTS, "no [host NAME] section has this host's name"},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		int r = load(rows[i].text);
		if (r >= 0)
			fail_msg("accepted:\n%s", rows[i].text);
		must_say(rows[i].text, rows[i].say);
		assert_string_equal(err.cls, MC_ECLASS_CONFIG);
		for (size_t b = 0; b < sizeof cfg; b++)
			assert_int_equal(((unsigned char *)&cfg)[b], 0x55); /* untouched */
	}
}

static void a_file_that_is_not_text_of_a_sane_size_is_refused(void **state)
{
	write_bytes(conf_path, "[mcd]\nna\0me = x\n", 16);
	assert_int_equal(config_load(conf_path, &cfg, &err), -EINVAL);
	must_say("NUL", "NUL byte");
	char *big = malloc(300000);
	memset(big, '\n', 300000);
	write_bytes(conf_path, big, 300000);
	free(big);
	assert_int_equal(config_load(conf_path, &cfg, &err), -EFBIG);
	assert_int_equal(config_load(dir, &cfg, &err), -EINVAL);
	must_say("a directory", "not a regular file");
	assert_int_equal(config_load("/nonexistent/mcd.conf", &cfg, &err), -ENOENT);
	must_say("missing", "/nonexistent/mcd.conf cannot be read");
}

static void more_hosts_than_there_is_room_for_are_refused(void **state)
{
	char text[4000] = "[mcd]\nname = h0\n";
	for (unsigned i = 0; i <= CONFIG_HOSTS_MAX; i++)
		sprintf(text + strlen(text), "[host h%u]\naddress = 10.0.0.%u\n", i, i + 1);
	assert_int_equal(load(text), -EINVAL);
	must_say(text, "mcd.conf:35: there are more than 16 hosts");
}

static void names_of_full_length_are_told_apart(void **state)
{
	char a[64], b[64], text[400];
	memset(a, 'n', 63);
	a[63] = '\0';
	strcpy(b, a);
	b[62] = 'x';
	snprintf(text, sizeof text,
		"[mcd]\nname = %s\n[host %s]\naddress = 10.0.0.1\n[host %s]\naddress = 10.0.0.2\n",
		b, a, b);
	if (load(text) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(cfg.hosts[1].name, b);
}

static void corosync_needs_no_hosts_in_the_file(void **state)
{
	write_file(conf_path, "[mcd]\ncluster = corosync\n[host hostB]\nport = 7900\n");
	err = MC_ERROR_INIT;
	if (config_load(conf_path, &cfg, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(cfg.name, "");
	assert_string_equal(cfg.hosts[0].address, "");
	assert_int_equal(config_check_hosts(&cfg, &err), -EINVAL);
	must_say("corosync", "mcd.conf:3: [host hostB] has no address");
	write_file(conf_path, "[mcd]\ncluster = static\n");
	assert_int_equal(config_load(conf_path, &cfg, &err), -EINVAL);
	must_say("static", "there is no [host NAME] section");
}

static void two_voters_are_allowed(void **state)
{
	assert_int_equal(
		load(MCD "[host hostA]\naddress = 10.0.0.1\n[host hostB]\naddress = 10.0.0.2\n"),
		0);
}

static void a_dump_tells_every_value_and_its_origin(void **state)
{
	if (load(MCD "keep-alive = 20ms\n[defaults]\nmax-buffer = 64MiB\n" HOSTS) < 0)
		fail_msg("%s", err.msg);
	json_t *d = config_dump(&cfg);
	const char *value, *origin, *path, *v2, *o2, *o3;
	int port;
	assert_int_equal(
		json_unpack(d, "{s:s, s:{s:{s:s, s:s}, s:{s:s}}, s:{s:{s:s,s:s}}, s:{s:{s:{s:i}}}}",
			"path", &path, "mcd", "keep-alive", "value", &value, "origin", &origin,
			"netbuf", "origin", &o3, "defaults", "max-buffer", "value", &v2, "origin",
			&o2, "hosts", "hostC", "port", "value", &port),
		0);
	char want[100];
	assert_string_equal(value, "20ms");
	snprintf(want, sizeof want, "%s:3", conf_path);
	assert_string_equal(origin, want);
	assert_string_equal(o3, "default");
	assert_string_equal(v2, "64MiB");
	snprintf(want, sizeof want, "%s:5", conf_path);
	assert_string_equal(o2, want);
	assert_int_equal(port, 7900);
	json_decref(d);
}

static const char *dumped(json_t *dump, const char *section, const char *key)
{
	return json_string_value(
		json_object_get(json_object_get(json_object_get(dump, section), key), "value"));
}

static void a_choice_is_a_number_that_is_dumped_as_its_word(void **state)
{
	static const struct {
		const char *key, *word;
		size_t at;
		unsigned number;
	} main_keys[] =
		{
#define MAIN(key, word, member, number) {key, word, offsetof(struct config, member), number}
			MAIN("netbuf", "auto", netbuf, CONFIG_NETBUF_AUTO),
			MAIN("netbuf", "plug", netbuf, CONFIG_NETBUF_PLUG),
			MAIN("netbuf", "relay", netbuf, CONFIG_NETBUF_RELAY),
			MAIN("dirty-tracking", "auto", dirty, CONFIG_DIRTY_AUTO),
			MAIN("dirty-tracking", "pagemap-scan", dirty, CONFIG_DIRTY_PAGEMAP_SCAN),
			MAIN("dirty-tracking", "soft-dirty", dirty, CONFIG_DIRTY_SOFT_DIRTY),
			MAIN("transport", "auto", transport, RD_AUTO),
			MAIN("transport", "tcp", transport, RD_TCP),
			MAIN("transport", "rdma", transport, RD_RDMA),
			MAIN("cluster", "static", cluster, CONFIG_CLUSTER_STATIC),
			MAIN("cluster", "corosync", cluster, CONFIG_CLUSTER_COROSYNC),
			MAIN("cluster", "auto", cluster, CONFIG_CLUSTER_AUTO),
		},
	  vm_keys[] = {
#define VM_KEY(key, word, member, number) {key, word, offsetof(struct config_vm, member), number}
		  VM_KEY("on-panic", "reboot", on_panic, CONFIG_PANIC_REBOOT),
		  VM_KEY("on-panic", "stop", on_panic, CONFIG_PANIC_STOP),
		  VM_KEY("on-panic", "hold", on_panic, CONFIG_PANIC_HOLD),
		  VM_KEY("disk-durability", "flush", durability, CONFIG_DURABILITY_FLUSH),
		  VM_KEY("disk-durability", "commit", durability, CONFIG_DURABILITY_COMMIT),
		  VM_KEY("disk-durability", "none", durability, CONFIG_DURABILITY_NONE),
		  VM_KEY("guest-time", "agent", guest_time, CONFIG_TIME_AGENT),
		  VM_KEY("guest-time", "none", guest_time, CONFIG_TIME_NONE),
	  };
	char text[600];
	for (size_t i = 0; i < sizeof main_keys / sizeof *main_keys; i++) {
		snprintf(text, sizeof text, MCD "%s = %s\n" HOSTS, main_keys[i].key,
			main_keys[i].word);
		if (load(text) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(
			*(unsigned *)((char *)&cfg + main_keys[i].at), main_keys[i].number);
		json_t *d = config_dump(&cfg);
		assert_string_equal(dumped(d, "mcd", main_keys[i].key), main_keys[i].word);
		json_decref(d);
	}
	for (size_t i = 0; i < sizeof vm_keys / sizeof *vm_keys; i++) {
		struct config_vm *vm;
		snprintf(text, sizeof text, VM "%s = %s\n", vm_keys[i].key, vm_keys[i].word);
		if (load_vm("vm1", text, &vm) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(*(unsigned *)((char *)vm + vm_keys[i].at), vm_keys[i].number);
		json_t *d = config_vm_dump(vm);
		assert_string_equal(dumped(d, "keys", vm_keys[i].key), vm_keys[i].word);
		json_decref(d);
		config_vm_free(vm);
	}
}

static void a_delay_from_the_command_line_has_the_same_range(void **state)
{
	uint64_t ns = 5;
	assert_int_equal(config_parse_delay("50ms", &ns, &err), 0);
	assert_int_equal(ns, 50 * MC_MSEC);
	assert_int_equal(config_parse_delay("50", &ns, &err), -EINVAL);
	assert_int_equal(config_parse_delay("999us", &ns, &err), -ERANGE);
	assert_int_equal(config_parse_delay("10001ms", &ns, &err), -ERANGE);
	assert_int_equal(ns, 50 * MC_MSEC);
}

static void the_shipped_examples_are_good(void **state)
{
	const char *configs = getenv("MCD_CONFIGS");
	if (!configs) {
		print_message("skipped: MCD_CONFIGS does not say where the examples are\n");
		skip();
	}
	char path[400];
	struct config_vm *vm;
	snprintf(path, sizeof path, "%s/mcd.conf", configs);
	if (config_load(path, &cfg, &err) < 0 || config_check_hosts(&cfg, &err) < 0 ||
		config_load_vm(&cfg, "example", &vm, &err) < 0)
		fail_msg("%s", err.msg);
	struct cmdline_plan plan;
	if (cmdline_plan(vm, &plan, &err) < 0)
		fail_msg("%s", err.msg);
	assert_false(plan.foreign_disks);
	assert_true(plan.nic_device[0]);
	assert_int_equal(plan.ram[0].size, 2ull << 30);
	cmdline_plan_clear(&plan);
	config_vm_free(vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_minimal_file_gets_the_documented_defaults),
		cmocka_unit_test(every_key_can_be_set),
		cmocka_unit_test(every_mistake_is_refused_with_its_place_and_a_cure),
		cmocka_unit_test(a_file_that_is_not_text_of_a_sane_size_is_refused),
		cmocka_unit_test(more_hosts_than_there_is_room_for_are_refused),
		cmocka_unit_test(names_of_full_length_are_told_apart),
		cmocka_unit_test(corosync_needs_no_hosts_in_the_file),
		cmocka_unit_test(two_voters_are_allowed),
		cmocka_unit_test(keepalives_can_have_a_network_of_their_own),
		cmocka_unit_test(a_dump_tells_every_value_and_its_origin),
		cmocka_unit_test(a_choice_is_a_number_that_is_dumped_as_its_word),
		cmocka_unit_test(a_delay_from_the_command_line_has_the_same_range),
		cmocka_unit_test(the_shipped_examples_are_good),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
