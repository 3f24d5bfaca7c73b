/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/config/config-files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char dir[] = "/tmp/mcd-test-config-XXXXXX";
char conf_path[64], vms_dir[64];

int make_dir(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(conf_path, sizeof conf_path, "%s/mcd.conf", dir);
	snprintf(vms_dir, sizeof vms_dir, "%s/vms.d", dir);
	return mkdir(vms_dir, 0700);
}

int remove_dir(void **state)
{
	char cmd[100];
	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

void write_bytes(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

void write_file(const char *path, const char *text)
{
	write_bytes(path, text, strlen(text));
}

void vm_path(char buf[160], const char *name)
{
	snprintf(buf, 160, "%s/%s.conf", vms_dir, name);
}

struct config cfg;
struct mc_error err;

int load(const char *text)
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

int load_vm(const char *name, const char *text, struct config_vm **ret)
{
	char path[160];
	if (load(MCD HOSTS) < 0)
		fail_msg("%s", err.msg);
	vm_path(path, name);
	write_file(path, text);
	return config_load_vm(&cfg, name, ret, &err);
}

void must_say(const char *what, const char *needle)
{
	if (!strstr(err.msg, needle))
		fail_msg("for\n%s\nthe message is \"%s\", without \"%s\"", what, err.msg, needle);
}
