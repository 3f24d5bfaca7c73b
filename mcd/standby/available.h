/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much memory this process may still take. */
#pragma once
#include <stdint.h>

/* Bytes: the least of what the host has and what the control groups around this process leave it
 * (of either generation; systemd's MemoryMax= is one).  UINT64_MAX if nothing can be told. proc
 * and cgroup: "/proc" and "/sys/fs/cgroup", or what a test has in their place. */
uint64_t memory_available(const char *proc, const char *cgroup);
