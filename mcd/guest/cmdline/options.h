/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What mcd knows about each option of QEMU: whether a word follows it, and what becomes of it. */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>

enum option_kind {
	OPTION_PLAIN,   /* kept; part of the machine, so equal on both hosts */
	OPTION_HOST,    /* kept; this host's own affair: displays, monitors, logs */
	OPTION_SERIAL,  /* kept; the machine depends only on whether it is "none" */
	OPTION_CHARDEV, /* kept; the machine depends only on its id */
	OPTION_DROP,    /* taken out: mcd does it */
	OPTION_REFUSED,
	OPTION_MEMORY,
	OPTION_MACHINE,
	OPTION_NUMA,
	OPTION_OBJECT,
	OPTION_NETDEV,
	OPTION_NIC,
	OPTION_DEVICE,
	OPTION_DRIVE,
	OPTION_BLOCKDEV,
	OPTION_DISK, /* a writable disk in one word */
	OPTION_SET,
	OPTION_ACCEL, /* kept and looked at */
	OPTION_CPU,
	OPTION_RUNAS, /* kept; this host's own affair, but mcd has to know */
	OPTION_NAME,
	OPTION_NODEFAULTS,
};

struct option_rule {
	const char *name; /* without dashes */
	bool has_arg;
	enum option_kind kind;
	const char *advice; /* OPTION_REFUSED: why, and what to write instead */
};

/* NULL: not known here, perhaps of a newer QEMU. */
const struct option_rule *option_find(const char *name);

/* The reason why such a -device or -object cannot be protected; NULL if it can. */
const char *option_device_advice(const char *driver);
const char *option_object_advice(const char *type);

/* A refusal: "-OPTION ARG: " and the sentence, class GuestUnsuitable. */
int cmdline_refuse(struct mc_error *err, const char *option, const char *arg, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
