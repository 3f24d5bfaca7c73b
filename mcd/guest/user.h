/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user that a VM's QEMU runs as.
 *
 * Two ways lead away from root.  `user =` in the VM's file: mcd becomes that user between fork and
 * exec, as libvirt does, and everything that the command names must be open to it.  -runas or
 * -run-with user= in the command: QEMU opens everything as root, and gives that up before the guest
 * runs.
 */
#pragma once
#include "common/clock.h"
#include "mcd/guest/cmdline/cmdline.h"
#include <stdbool.h>
#include <sys/types.h>

#define GUEST_GROUPS_MAX 64

struct guest_user {
	bool other;    /* not the user that mcd runs as; else nothing below counts */
	bool at_start; /* before exec; else QEMU itself changes, once it has opened everything */
	uid_t uid;
	gid_t gid;
	size_t n_groups; /* supplementary ones */
	gid_t groups[GUEST_GROUPS_MAX];
	char name[64]; /* as it was given */
};

/* From "name" or "uid:gid".  Class ConfigError: there is no such user here. */
int guest_user_find(const char *text, struct guest_user *ret, struct mc_error *err);
/* That of a VM; refuses a VM that names two. */
int guest_user_of(const struct config_vm *vm, const struct cmdline_plan *plan,
	struct guest_user *ret, struct mc_error *err);

/* Makes run_dir/qemu, where QEMU makes its sockets, the user's own, and lets it pass through
 * run_dir and the directory above.  The other files there stay root's. */
int guest_user_open_dir(const struct guest_user *u, const char *run_dir, struct mc_error *err);
/* Makes a disk that QEMU is to open the user's, for good (with at_start; otherwise QEMU opens it as
 * root).  What is not a file of root's, or lies where others than root can put links, is left as
 * the administrator made it. */
int guest_user_give(const struct guest_user *u, const char *path, struct mc_error *err);

/* Whether guest_user_give would do it. */
bool guest_user_would_give(const struct guest_user *u, const char *path);

/* What a process of that user may do, tried out in one. */
enum guest_may {
	GUEST_MAY_READ,
	GUEST_MAY_WRITE,       /* and read */
	GUEST_MAY_USERFAULTFD, /* of the kind that pagescan.c makes; path: NULL */
};
#define GUEST_TRY_TIME MC_SEC
/* 0: it may; else a negative errno, without message: what the kernel answers it.
 * -ETIMEDOUT: nothing within GUEST_TRY_TIME (a disk hangs; the process is left to init). */
int guest_user_try(const struct guest_user *u, enum guest_may what, const char *path);
