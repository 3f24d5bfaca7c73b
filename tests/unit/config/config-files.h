/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Configuration files in a directory of the test's own. */
#pragma once
#include "mcd/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

#define HOSTS                                                                                      \
	"[host hostA]\naddress = 10.0.0.1\n[host hostB]\naddress = 10.0.0.2\n"                     \
	"[host hostC]\naddress = fd00::3\nport = 7900\n"
#define MCD "[mcd]\nname = hostA\n"
#define VM  "[vm]\ncommand = qemu -m 64M -device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01\n"

extern char dir[], conf_path[64], vms_dir[64];
extern struct config cfg;
extern struct mc_error err;

int make_dir(void **state);
int remove_dir(void **state);
void write_bytes(const char *path, const char *text, size_t len);
void write_file(const char *path, const char *text);
void vm_path(char buf[160], const char *name);
/* Writes mcd.conf, and reads it into cfg.  On failure nothing was touched, and err says why. */
int load(const char *text);
/* The same for NAME.conf, with a good mcd.conf. */
int load_vm(const char *name, const char *text, struct config_vm **ret);
/* err has the needle. */
void must_say(const char *what, const char *needle);
