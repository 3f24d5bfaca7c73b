/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/parse.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* From small to large: formatting takes the largest unit that divides the value. */
static const struct unit duration_units[] = {
	{"ns", 1},
	{"us", 1000},
	{"ms", 1000000},
	{"s", 1000000000},
	{"min", 60000000000},
	{"h", 3600000000000},
	{NULL, 0},
};

static const struct unit size_units[] = {
	{"B", 1},
	{"kB", 1000},
	{"KB", 1000},
	{"MB", 1000000},
	{"GB", 1000000000},
	{"TB", 1000000000000},
	{"K", 1ull << 10},
	{"M", 1ull << 20},
	{"G", 1ull << 30},
	{"T", 1ull << 40},
	{"KiB", 1ull << 10},
	{"MiB", 1ull << 20},
	{"GiB", 1ull << 30},
	{"TiB", 1ull << 40},
	{NULL, 0},
};

/* How one kind of quantity is parsed and explained. */
struct quantity {
	const char *noun, *unit_list, *example;
	const struct unit *units;
	bool bare_zero;
};

static const struct quantity duration_kind = {
	"duration",
	"ns, us, ms, s, min or h",
	"100ms",
	duration_units,
	false,
};

static const struct quantity size_kind = {
	"size",
	"B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, K, M, G or T",
	"256MiB",
	size_units,
	true,
};

#define FRACTION_DIGITS_MAX 9

static int parse_quantity(
	const struct quantity *kind, const char *text, uint64_t *ret, struct mc_error *err)
{
	if (!isdigit((unsigned char)text[0]))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" is not a %s: write a number and its unit, such as %s", text,
			kind->noun, kind->example);

	uint64_t whole = 0, fraction = 0, fraction_scale = 1;
	const char *p = text;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			goto too_large;
	if (*p == '.') {
		const char *start = ++p;
		for (; isdigit((unsigned char)*p); p++) {
			if (p - start >= FRACTION_DIGITS_MAX)
				return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
					"\"%.64s\" has more than %d digits after the point: use a "
					"smaller unit",
					text, FRACTION_DIGITS_MAX);
			fraction = fraction * 10 + (uint64_t)(*p - '0');
			fraction_scale *= 10;
		}
		if (p == start)
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"\"%.64s\" has no digits after the point: write a %s such as %s",
				text, kind->noun, kind->example);
	}

	if (!*p) {
		if (kind->bare_zero && whole == 0 && fraction == 0) {
			*ret = 0;
			return 0;
		}
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" has no unit: a %s needs one of %s, such as %s", text, kind->noun,
			kind->unit_list, kind->example);
	}
	const struct unit *unit = kind->units;
	while (unit->name && strcmp(unit->name, p))
		unit++;
	if (!unit->name)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" has the unknown unit \"%.32s\": a %s needs one of %s, such as "
			"%s",
			text, p, kind->noun, kind->unit_list, kind->example);

	unsigned __int128 value = (unsigned __int128)whole * unit->factor +
				  (unsigned __int128)fraction * unit->factor / fraction_scale;
	if (value > UINT64_MAX)
		goto too_large;
	*ret = (uint64_t)value;
	return 0;

too_large:
	return mc_error_set(err, -ERANGE, MC_ECLASS_INVALID,
		"\"%.64s\" is too large: write a smaller %s, such as %s", text, kind->noun,
		kind->example);
}

int mc_parse_duration(const char *text, uint64_t *ret_ns, struct mc_error *err)
{
	return parse_quantity(&duration_kind, text, ret_ns, err);
}

int mc_parse_size(const char *text, uint64_t *ret_bytes, struct mc_error *err)
{
	return parse_quantity(&size_kind, text, ret_bytes, err);
}

int mc_parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct mc_error *err)
{
	uint64_t value = 0;
	const char *p = text;
	bool overflow = false;
	for (; isdigit((unsigned char)*p); p++)
		overflow |= __builtin_mul_overflow(value, 10, &value) ||
			    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
	if (p == text || *p)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" is not a whole number: write digits only, %" PRIu64
			" to %" PRIu64,
			text, min, max);
	if (overflow || value < min || value > max)
		return mc_error_set(err, -ERANGE, MC_ECLASS_INVALID,
			"%.64s is out of range: it must be %" PRIu64 " to %" PRIu64, text, min,
			max);
	*ret = value;
	return 0;
}

const char *mc_format_duration(uint64_t ns, char buf[MC_QUANTITY_MAX])
{
	const struct unit *best = duration_units;
	/* Minutes and hours would be right but unusual where everything else is in s and ms. */
	for (const struct unit *u = duration_units; u->factor <= 1000000000 && ns; u++)
		if (ns % u->factor == 0)
			best = u;
	snprintf(buf, MC_QUANTITY_MAX, "%" PRIu64 "%s", ns / best->factor, best->name);
	return buf;
}

const char *mc_format_size(uint64_t bytes, char buf[MC_QUANTITY_MAX])
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;
	while (i + 1 < sizeof names / sizeof *names && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	snprintf(buf, MC_QUANTITY_MAX, "%" PRIu64 "%s", bytes, names[i]);
	return buf;
}
