/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of memory that are shared with a QEMU, which may be broken or hostile: it holds a
 * descriptor too, and could take pages away under our mapping of it.
 *
 * What mcd makes is sealed.  What cannot be (a QEMU that an earlier mcd started) or is lost by the
 * hardware is read and written through memory_try.
 */
#pragma once
#include "common/error.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A file of so many zeroes whose size nobody can change any more.  Holes can be punched. */
int memory_make(const char *name, uint64_t size, int *ret, struct mc_error *err);

/* Which file it is. */
struct memory_id {
	dev_t dev;
	uint64_t ino;
};

/* Opens a file of QEMU's by a name in /proc/PID (fd/N, map_files/A-B), which QEMU chooses the
 * meaning of: only a memory file is ever opened, and nothing else even touched.  want (may be
 * NULL): and only this one.  -ENOTSUP, class GuestUnsuitable: it is something else. */
int memory_open(
	const char *path, int flags, const struct memory_id *want, int *ret, struct mc_error *err);
/* The file that such a name means, without opening it: 0, or -errno. */
int memory_identify(const char *path, struct memory_id *ret);
/* Whether the descriptor, which somebody else handed us, is a memory file. */
int memory_is_file(int fd);

/* Calls fn(arg), which reads or writes memory that is mapped from a file.  0, or -EFAULT: a page
 * was not there (the file is shorter than it was, has no memory left or has lost it by a hardware
 * error), and fn was left in the middle of what it did: it must hold no lock and own nothing. */
int memory_try(void (*fn)(void *arg), void *arg);
/* Fills err for it: always -EFAULT. */
int memory_lost(const char *whose, struct mc_error *err);
