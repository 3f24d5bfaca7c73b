/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A process that takes more than its control group allows is not refused memory, it is killed: so
 * the limits of all groups above it are looked at before much is promised.  What a group holds of
 * files that can be read again counts as free, as it does in the host's own MemAvailable.
 */
#include "mcd/standby/available.h"

#include "common/cleanup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct generation {
	const char *mount, *limit, *usage, *reclaimable; /* the last: a key of memory.stat */
};

static const struct generation v1 = {
	"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "};
static const struct generation v2 = {"", "memory.max", "memory.current", "inactive_file "};

/* The number behind the key at the beginning of a line; key "": of the first line. */
static bool number(const char *path, const char *key, uint64_t *ret)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char line[160];
	while (f && fgets(line, sizeof line, f)) {
		char *end;
		if (strncmp(line, key, strlen(key)))
			continue;
		uint64_t n = strtoull(line + strlen(key), &end, 10);
		if (end == line + strlen(key)) /* "max" */
			return false;
		*ret = n;
		return true;
	}
	return false;
}

static bool in_group(const char *dir, const char *leaf, const char *key, uint64_t *ret)
{
	char path[1200];
	int n = snprintf(path, sizeof path, "%s/%s", dir, leaf);
	return n > 0 && (size_t)n < sizeof path && number(path, key, ret);
}

static uint64_t left_in(const struct generation *g, const char *dir)
{
	uint64_t limit, usage, cache = 0;
	if (!in_group(dir, g->limit, "", &limit) || !in_group(dir, g->usage, "", &usage))
		return UINT64_MAX;
	in_group(dir, "memory.stat", g->reclaimable, &cache);
	usage = usage > cache ? usage - cache : 0;
	return limit > usage ? limit - usage : 0;
}

/* The group and all those above it. */
static uint64_t left_along(const struct generation *g, const char *cgroup, const char *group)
{
	uint64_t left = UINT64_MAX;
	char dir[1000];
	int n = snprintf(dir, sizeof dir, "%s%s%s", cgroup, g->mount, group);
	size_t root = strlen(cgroup) + strlen(g->mount);
	if (n < 0 || (size_t)n >= sizeof dir)
		return left;
	for (;;) {
		uint64_t here = left_in(g, dir);
		left = here < left ? here : left;
		char *slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < root)
			return left;
		*slash = '\0';
	}
}

static uint64_t left_in_groups(const char *proc, const char *cgroup)
{
	char path[300], line[1000];
	uint64_t left = UINT64_MAX;
	snprintf(path, sizeof path, "%s/self/cgroup", proc);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		char *group = strchr(line, '/'); /* "0::/group", "4:memory:/group" */
		if (!group)
			continue;
		const struct generation *g = !strncmp(line, "0::", 3)   ? &v2
					     : strstr(line, ":memory:") ? &v1
									: NULL;
		uint64_t here = g ? left_along(g, cgroup, group) : UINT64_MAX;
		left = here < left ? here : left;
	}
	return left;
}

uint64_t memory_available(const char *proc, const char *cgroup)
{
	char path[300];
	uint64_t kib, host = UINT64_MAX, groups = left_in_groups(proc, cgroup);
	snprintf(path, sizeof path, "%s/meminfo", proc);
	if (number(path, "MemAvailable:", &kib))
		host = kib << 10;
	return host < groups ? host : groups;
}
