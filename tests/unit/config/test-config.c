/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/config/config.h"
#include "common/clock.h"
#include "mcd/guest/cmdline/cmdline.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define HOSTS                                                                                      \
	"[host hostA]\naddress = 10.0.0.1\n[host hostB]\naddress = 10.0.0.2\n"                     \
	"[host hostC]\naddress = fd00::3\nport = 7900\n"
#define MCD "[mcd]\nname = hostA\n"

static char dir[] = "/tmp/mcd-test-config-XXXXXX";
static char conf_path[64], vms_dir[64];

static int make_dir(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(conf_path, sizeof conf_path, "%s/mcd.conf", dir);
	snprintf(vms_dir, sizeof vms_dir, "%s/vms.d", dir);
	return mkdir(vms_dir, 0700);
}

static int remove_dir(void **state)
{
	char cmd[100];
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

static void write_bytes(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

static void write_file(const char *path, const char *text)
{
	write_bytes(path, text, strlen(text));
}

static void vm_path(char buf[160], const char *name)
{
	snprintf(buf, 160, "%s/%s.conf", vms_dir, name);
}

static struct config cfg;
static struct mc_error err;

static int load(const char *text)
{
	memset(&cfg, 0x55, sizeof cfg);
	err = MC_ERROR_INIT;
	write_file(conf_path, text);
	static struct config c;
	memset(&c, 0x55, sizeof c);
	int r = config_load(conf_path, &c, &err);
	if (r == 0)
		r = config_check_hosts(&c, &err);
	else
		for (size_t i = 0; i < sizeof c; i++)
			assert_int_equal(((unsigned char *)&c)[i], 0x55);
	if (r == 0)
		cfg = c;
	return r;
}

static int load_vm(const char *name, const char *text, struct config_vm **ret)
{
	char path[160];
	if (load(MCD HOSTS) < 0)
		fail_msg("%s", err.msg);
	vm_path(path, name);
	write_file(path, text);
	return config_load_vm(&cfg, name, ret, &err);
}

static void must_say(const char *what, const char *needle)
{
	if (!strstr(err.msg, needle))
		fail_msg("for\n%s\nthe message is \"%s\", without \"%s\"", what, err.msg, needle);
}

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
	assert_int_equal(load(MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n"
				  "[host hostB]\naddress = 10.0.0.2\nkeepalive-address = fd01::2\n"), 0);
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
		{ MCD "nam = x\n", "mcd.conf:3: unknown key \"nam\" in [mcd]: did you mean \"name\"?" },
		{ MCD "colour = x\n", "mcd.conf:3: unknown key \"colour\"" },
		{ MCD "delay = 5ms\n", "it belongs in [defaults]" },
		{ MCD "zzzzzz = 1\n", "unknown key \"zzzzzz\" in [mcd]: the keys there are name," },
		{ "[mdc]\nname = a\n", "mcd.conf:1: unknown section [mdc]: did you mean [mcd]?" },
		{ "[network]\n", "mcd.conf:1: unknown section [network]" },
		{ "[defaults x]\n", "unknown section [defaults x]" },
		{ "name = a\n", "mcd.conf:1: \"name\" is in no section" },
		{ MCD "nonsense\n", "mcd.conf:3: this is neither" },
		{ "[mcd\nname = a\n", "mcd.conf:1: this is neither" },
		{ "[mcd] name = a\n", "mcd.conf:1: there is text after" },
		{ MCD "name = b\n", "mcd.conf:3: name is already given at line 2" },
		{ MCD HOSTS "[mcd]\n", "section [mcd] is already at line 1" },
		{ "[host  a]\naddress = 10.0.0.1\n[host a]\n", "mcd.conf:3: section [host a] is already at line 1" },
		{ MCD "keep-alive = 50\n", "mcd.conf:3: keep-alive: \"50\" has no unit" },
		{ MCD "keep-alive = 1ms\n", "it must be 5ms to 10s" },
		{ MCD "keep-alive = 11s\n", "it must be 5ms to 10s" },
		{ MCD "keep-alive-misses = 1\n", "it must be 2 to 100" },
		{ MCD "keep-alive-misses = 101\n", "it must be 2 to 100" },
		{ MCD "netbuf = plugs\n", "write auto or plug or relay" },
		{ MCD "dirty-tracking = magic\n", "write auto or pagemap-scan or soft-dirty" },
		{ MCD "failover = yes\n", "write automatic or manual" },
		{ MCD "cluster = pacemaker\n", "mcd.conf:3: cluster: \"pacemaker\" is not possible in this release: write static or corosync or auto" },
		{ MCD "run-dir = run\n", "write an absolute one" },
		{ MCD "run-dir =\n", "run-dir has no value" },
		{ "[mcd]\nname = host/A\n", "\"host/A\" is not a name" },
		{ "[mcd]\nname = .\n", "is not a name" },
		{ "[mcd]\nname = hostA\n  run-dir = /x\n", "mcd.conf:2: name takes one line" },
		{ "[defaults]\ndelay = 0.5ms\n", "it must be 1ms to 10s" },
		{ "[defaults]\ndelay = 11s\n", "it must be 1ms to 10s" },
		{ "[defaults]\nmax-buffer = 15MiB\n", "mcd.conf:2: max-buffer: 15MiB is out of range: it must be 16MiB" },
		{ "[defaults]\nhold-limit = 1MB\n", "it must be 1MiB" },
		{ "[defaults]\nhold-limit = 64\n", "has no unit" },
		{ MCD, "there is no [host NAME] section" },
		{ "[host]\n", "mcd.conf:1: [host] needs the host's name" },
		{ "[host a b]\n", "needs the host's name" },
		{ MCD "[host hostA]\nport = 5\n", "mcd.conf:3: [host hostA] has no address" },
		{ MCD "[host hostA]\naddress = hostA\n", "not a numeric address" },
		{ MCD "[host hostA]\naddress = 0.0.0.0\n", "is not the address of one host" },
		{ MCD "[host hostA]\naddress = ff02::1\n", "is not the address of one host" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\nport = 65536\n", "mcd.conf:5: port: 65536 is out of range" },
		{ MCD "[host hostA]\nadress = 10.0.0.1\n", "did you mean \"address\"" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\n[host b]\naddress = 10.0.0.1\n", "has the address and port of [host hostA]" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = eth1\n", "not a numeric address" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n[host b]\naddress = 10.0.0.2\n",
			"mcd.conf:6: [host b] has no keepalive-address, but [host hostA] has one" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\n[host b]\naddress = 10.0.0.2\nkeepalive-address = 10.1.0.2\n",
			"mcd.conf:7: [host b] has a keepalive-address, but [host hostA] has none" },
		{ MCD "[host hostA]\naddress = 10.0.0.1\nkeepalive-address = 10.1.0.1\n[host b]\naddress = 10.0.0.2\n"
		      "keepalive-address = 10.1.0.1\n", "has the keepalive-address of [host hostA]" },
		{ "[mcd]\nname = hostD\n" HOSTS, "mcd.conf:2: name: there is no [host hostD]" },
		{ "[mcd]\nname = hsotB\n" HOSTS, "did you mean \"hostB\"?" },
		{ HOSTS, "no [host NAME] section has this host's name" },
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
	snprintf(text, sizeof text, "[mcd]\nname = %s\n[host %s]\naddress = 10.0.0.1\n[host %s]\naddress = 10.0.0.2\n",
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
	assert_int_equal(load(MCD "[host hostA]\naddress = 10.0.0.1\n[host hostB]\naddress = 10.0.0.2\n"), 0);
}

static void a_dump_tells_every_value_and_its_origin(void **state)
{
	if (load(MCD "keep-alive = 20ms\n[defaults]\nmax-buffer = 64MiB\n" HOSTS) < 0)
		fail_msg("%s", err.msg);
	json_t *d = config_dump(&cfg);
	const char *value, *origin, *path, *v2, *o2, *o3;
	int port;
	assert_int_equal(json_unpack(d, "{s:s, s:{s:{s:s, s:s}, s:{s:s}}, s:{s:{s:s,s:s}}, s:{s:{s:{s:i}}}}",
				 "path", &path, "mcd", "keep-alive", "value", &value, "origin", &origin,
				 "netbuf", "origin", &o3, "defaults", "max-buffer", "value", &v2, "origin", &o2,
				 "hosts", "hostC", "port", "value", &port),
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

#define VM "[vm]\ncommand = qemu -m 64M -device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01\n"

static const char *dumped(json_t *dump, const char *section, const char *key)
{
	return json_string_value(json_object_get(json_object_get(json_object_get(dump, section), key), "value"));
}

static void a_choice_is_a_number_that_is_dumped_as_its_word(void **state)
{
	static const struct { const char *key, *word; size_t at; unsigned number; } main_keys[] = {
#define MAIN(key, word, member, number) { key, word, offsetof(struct config, member), number }
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
	}, vm_keys[] = {
#define VM_KEY(key, word, member, number) { key, word, offsetof(struct config_vm, member), number }
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
		snprintf(text, sizeof text, MCD "%s = %s\n" HOSTS, main_keys[i].key, main_keys[i].word);
		if (load(text) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(*(unsigned *)((char *)&cfg + main_keys[i].at), main_keys[i].number);
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
	assert_int_equal(json_unpack(d, "{s:{s:{s:s},s:{s:s}},s:{s:{s:{s:s,s:s}}}}", "keys", "delay", "origin",
				 &o1, "hold-limit", "origin", &o2, "nics", "net0", "mac", "value", &mac,
				 "origin", &o3),
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
	assert_true(strncmp(vm->command, "qemu-system-x86_64 -m 64M -append ' a ; b # c xxx", 49) == 0);
	assert_non_null(strstr(vm->command, "xxx' -nodefaults"));
	assert_null(strstr(vm->command, "comment"));
	assert_null(strchr(vm->command, '\\'));
	assert_int_equal(vm->delay, 7 * MC_MSEC);
	config_vm_free(vm);
}

static void the_mac_comes_from_the_key_the_command_or_the_names(void **state)
{
	struct config_vm *vm;
	assert_int_equal(load_vm("vm1", "[vm]\ncommand = q -m 1M\n[nic n]\nbridge = b\nmac = 52:54:00:AA:00:01\n", &vm), 0);
	assert_memory_equal(vm->nics[0].mac, "\x52\x54\x00\xaa\x00\x01", 6);
	config_vm_free(vm);
	assert_int_equal(load_vm("vm1",
				 "[vm]\ncommand = q -m 1M --device '{\"driver\":\"e1000\",\"netdev\":\"n\","
				 "\"mac\":\"52:54:00:00:00:09\"}'\n[nic n]\nbridge = b\n",
				 &vm),
		0);
	assert_memory_equal(vm->nics[0].mac, "\x52\x54\x00\x00\x00\x09", 6);
	config_vm_free(vm);

	uint8_t first[6];
	for (unsigned round = 0; round < 2; round++) {
		assert_int_equal(load_vm("vm1", "[vm]\ncommand = q -m 1M\n[nic n]\nbridge = b\n[nic m]\nbridge = b\n", &vm), 0);
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
		{ "[vm]\ndelay = 5ms\n", "there is no command in [vm]" },
		{ "[vm]\ncomand = q\n", "vm1.conf:2: unknown key \"comand\" in [vm]: did you mean \"command\"?" },
		{ "[nics x]\n", "did you mean [nic]" },
		{ VM "delay = 5\n", "vm1.conf:3: delay: \"5\" has no unit" },
		{ VM "bridge = b\n", "unknown key \"bridge\" in [vm]" },
		{ VM "[nic net0]\n", "vm1.conf:3: [nic net0] has no bridge" },
		{ VM "[nic]\nbridge = b\n", "needs the id of the NIC's netdev" },
		{ VM "[nic 0net]\nbridge = b\n", "needs the id of the NIC's netdev" },
		{ VM "[nic net0]\nbridge = a-name-of-17-char\n", "is not a name" },
		{ VM "[nic net0]\nbridge = br/0\n", "is not a name" },
		{ VM "[nic net0]\nbridge = b\nmac = 52:54:00:00:00\n", "is not the MAC address" },
		{ VM "[nic net0]\nbridge = b\nmac = 53:54:00:00:00:01\n", "the first pair even" },
		{ VM "[nic net0]\nbridge = b\nmac = 52:54:00:00:00:02\n", "vm1.conf:5: mac: the -device" },
		{ VM "[nic net0]\nbridge = b\n[nic n1]\nbridge = b\nmac = 52:54:00:00:00:01\n", "has the MAC address of [nic net0]" },
		{ VM "user = qemu users\n", "vm1.conf:3: user: \"qemu users\" is no user" },
		{ VM "user = -1:0\n", "is no user" },
		{ VM "guest-time = ntp\n", "write agent or none" },
		{ "[vm]\ncommand = q 'x\n", "vm1.conf:2: command: the command has a single quote" },
		{ "[vm]\ncommand = q $HOME\n", "only a shell would understand" },
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
	snprintf(cmd, sizeof cmd, "cd '%s' && rm -f -- * && touch zeta.conf alpha.conf .x.conf alpha.conf~ README", vms_dir);
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
		cmocka_unit_test(a_vm_takes_what_it_does_not_say_from_the_defaults),
		cmocka_unit_test(a_command_goes_on_over_indented_lines_of_any_length),
		cmocka_unit_test(the_mac_comes_from_the_key_the_command_or_the_names),
		cmocka_unit_test(every_mistake_in_a_vm_is_refused_with_its_place),
		cmocka_unit_test(a_user_is_a_name_or_numbers),
		cmocka_unit_test(an_unknown_vm_is_refused_with_the_nearest_name),
		cmocka_unit_test(sockets_that_would_not_fit_their_address_are_refused),
		cmocka_unit_test(vms_are_listed_by_name_without_stray_files),
		cmocka_unit_test(a_delay_from_the_command_line_has_the_same_range),
		cmocka_unit_test(the_shipped_examples_are_good),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
