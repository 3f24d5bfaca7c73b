/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ftclock.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t ftclock_now(struct ftclock *c)
{
	uint64_t now = read_clock(CLOCK_MONOTONIC);

	if (now < c->last && c->last - now > c->back)
		c->back = c->last - now;
	else if (c->last && now > c->last && now - c->last > c->gap)
		c->gap = now - c->last;
	c->last = now;
	return now;
}

void ftclock_describe(struct ftclock *c, char *buf, size_t size)
{
	char source[32] = "unknown";
	FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");

	if (f) {
		if (!fgets(source, sizeof(source), f))
			source[0] = '\0';
		source[strcspn(source, "\n")] = '\0';
		fclose(f);
	}
	snprintf(buf, size,
		"mono=%" PRIu64 " real=%" PRIu64 " back=%" PRIu64 " gap=%" PRIu64 " source=%s",
		ftclock_now(c), read_clock(CLOCK_REALTIME), c->back, c->gap, source);
}
