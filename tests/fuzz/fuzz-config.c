/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The configuration: the same text as mcd.conf and as a VM's file.  What is accepted must lie in
 * the documented ranges, because nothing checks it again, and must have a dump.
 */
#include "tests/fuzz/fuzz.h"

#include "common/clock.h"
#include "common/log.h"
#include "mcd/config/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/mcd-fuzz-config-XXXXXX";
static char main_path[64], good_path[64], vms_dir[64], vm_path[80];
static struct config good;

static void clean_up(void)
{
	unlink(vm_path);
	unlink(main_path);
	unlink(good_path);
	rmdir(vms_dir);
	rmdir(dir);
}

static void write_file(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void set_up(void)
{
	static const char text[] = "[mcd]\nname = a\n[host a]\naddress = 10.0.0.1\n";
	struct mc_error err = MC_ERROR_INIT;
	mc_log_setup(MC_LOG_ERROR, NULL);
	FUZZ_CHECK(mkdtemp(dir));
	snprintf(main_path, sizeof main_path, "%s/mcd.conf", dir);
	snprintf(good_path, sizeof good_path, "%s/good.conf", dir);
	snprintf(vms_dir, sizeof vms_dir, "%s/vms.d", dir);
	snprintf(vm_path, sizeof vm_path, "%s/vm1.conf", vms_dir);
	FUZZ_CHECK(mkdir(vms_dir, 0700) == 0);
	write_file(good_path, text, strlen(text));
	FUZZ_CHECK(config_load(good_path, &good, &err) == 0);
	atexit(clean_up);
}

static void check_error(int r, const struct mc_error *err)
{
	FUZZ_CHECK(r < 0 && err->code == r && *err->msg && strstr(err->msg, dir));
}

static void check_dump(json_t *dump)
{
	FUZZ_CHECK(dump);
	json_decref(dump);
}

static void check_quantities(uint64_t delay, uint64_t max_buffer, uint64_t hold_limit)
{
	FUZZ_CHECK(delay >= MC_MSEC && delay <= 10 * MC_SEC);
	FUZZ_CHECK(max_buffer >= 16 << 20 && hold_limit >= 1 << 20);
}

static void check_main(void)
{
	struct config c;
	struct mc_error err = MC_ERROR_INIT;
	int r = config_load(main_path, &c, &err);
	if (r == 0)
		r = config_check_hosts(&c, &err);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	check_quantities(c.delay, c.max_buffer, c.hold_limit);
	FUZZ_CHECK(c.n_hosts > 0 && c.n_hosts <= CONFIG_HOSTS_MAX && config_find_host(&c, c.name));
	FUZZ_CHECK(c.run_dir[0] == '/' && strlen(c.run_dir) <= 94);
	for (size_t i = 0; i < c.n_hosts; i++)
		FUZZ_CHECK(c.hosts[i].name[0] && c.hosts[i].address[0] && c.hosts[i].port &&
			   !strpbrk(c.hosts[i].name, "/ \n"));
	check_dump(config_dump(&c));
}

static void check_vm(void)
{
	struct config_vm *vm;
	struct mc_error err = MC_ERROR_INIT;
	int r = config_load_vm(&good, "vm1", &vm, &err);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	check_quantities(vm->delay, vm->max_buffer, vm->hold_limit);
	FUZZ_CHECK(vm->command && vm->n_nics <= CONFIG_NICS_MAX);
	for (size_t i = 0; i < vm->n_nics; i++)
		FUZZ_CHECK(vm->nics[i].id[0] && vm->nics[i].bridge[0] && !(vm->nics[i].mac[0] & 1));
	check_dump(config_vm_dump(vm));
	config_vm_free(vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!main_path[0])
		set_up();
	write_file(main_path, data, size);
	check_main();
	write_file(vm_path, data, size);
	check_vm();
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"# all keys\n[mcd]\nname = a\nrun-dir = /r\nstate-dir = /s\nvms-dir = /v\nkey-file "
		"= /k\n"
		"netbuf = relay\ndirty-tracking = auto\nkeep-alive = 50ms\nkeep-alive-misses = 5\n"
		"failover = manual\ncluster = static\n[defaults]\ndelay = 1.5s\nmax-buffer = "
		"256MiB\n"
		"hold-limit = 64MB\n[host a]\naddress = 10.0.0.1\nport = 7801\n[host b]\naddress = "
		"fd00::2\n",
		"\xef\xbb\xbf[mcd]\r\nname: a\r\n\r\n[ host  a ]\r\naddress = 10.0.0.1\r\n",
		"[vm]\ncommand = qemu -m 64M \\\n  -append 'a \"b\"' \\\n\n  # no\n\t-device "
		"virtio-net-pci,netdev=n,mac=52:54:00:00:00:01\ndelay = 20ms\n[nic n]\nbridge = "
		"br0\n[nic m]\n"
		"bridge = br0\nmac = 52:54:00:00:00:02\n",
		"[vm]\ncommand = q -device "
		"'{\"driver\":\"e1000\",\"netdev\":\"n\",\"mac\":\"52:54:00:00:00:01\"}'\n"
		"[nic n]\nbridge = br0\n",
	};
	if (i >= sizeof seeds / sizeof *seeds || strlen(seeds[i]) > cap)
		return 0;
	memcpy(buf, seeds[i], strlen(seeds[i]));
	return strlen(seeds[i]);
}
