/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/config/qemu-opts.h"
#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define PAIRS_MAX 256
#define DEPTH_MAX 8

static int no_memory(struct mc_error *err)
{
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to read a QEMU option");
}

/* Takes over key and value, both malloc'd or NULL for lack of memory. */
static int add_pair(struct qemu_opts *o, char *key, char *value, struct mc_error *err)
{
	struct qemu_opt *grown = NULL;
	int r;
	if (!key || !value)
		r = no_memory(err);
	else if (o->n == PAIRS_MAX)
		r = mc_error_set(err, -E2BIG, MC_ECLASS_CONFIG,
			"a QEMU option has more than %d parts: shorten it", PAIRS_MAX);
	else
		r = (grown = reallocarray(o->v, o->n + 1, sizeof *grown)) ? 0 : no_memory(err);
	if (r < 0) {
		free(key);
		free(value);
		return r;
	}
	o->v = grown;
	o->v[o->n++] = (struct qemu_opt){key, value};
	return 0;
}

/* A value up to a single comma; *p moves behind that. */
static char *take_value(const char **p)
{
	char *value = malloc(strlen(*p) + 1);
	size_t n = 0;
	const char *s = *p;
	for (; *s; s++) {
		if (*s == ',' && *++s != ',')
			break;
		if (value)
			value[n++] = *s;
	}
	if (value)
		value[n] = '\0';
	*p = s;
	return value;
}

static int parse_pairs(
	const char *text, const char *implied, struct qemu_opts *o, struct mc_error *err)
{
	const char *p = text;
	bool first = true;
	while (*p) {
		size_t key_len = strcspn(p, "=,");
		int r;
		if (p[key_len] == '=') {
			char *key = strndup(p, key_len);
			p += key_len + 1;
			r = add_pair(o, key, take_value(&p), err);
		} else if (first && implied) {
			r = add_pair(o, strdup(implied), take_value(&p), err);
		} else { /* "key" is "key=on" */
			r = add_pair(o, take_value(&p), strdup("on"), err);
		}
		if (r < 0)
			return r;
		first = false;
	}
	return 0;
}

static int flatten(const char *path, const json_t *j, unsigned depth, struct qemu_opts *o,
	struct mc_error *err)
{
	char number[40];
	const char *text = number;
	int r = 0;

	if (depth > DEPTH_MAX)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"a QEMU option in JSON is nested more than %d levels deep", DEPTH_MAX);
	switch (json_typeof(j)) {
	case JSON_OBJECT: {
		const char *name;
		json_t *member;
		json_object_foreach((json_t *)j, name, member) {
			_cleanup_free_ char *sub = NULL;
			if (asprintf(&sub, "%s%s%s", path, *path ? "." : "", name) < 0)
				return no_memory(err);
			r = flatten(sub, member, depth + 1, o, err);
			if (r < 0)
				return r;
		}
		return 0;
	}
	case JSON_ARRAY: /* a repeated key, as in the other notation */
		for (size_t i = 0; i < json_array_size(j) && r == 0; i++)
			r = flatten(path, json_array_get(j, i), depth + 1, o, err);
		return r;
	case JSON_STRING:
		text = json_string_value(j);
		break;
	case JSON_INTEGER:
		snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
		break;
	case JSON_REAL:
		snprintf(number, sizeof number, "%.17g", json_real_value(j));
		break;
	case JSON_TRUE:
		text = "on";
		break;
	case JSON_FALSE:
		text = "off";
		break;
	case JSON_NULL:
		text = "";
		break;
	}
	return add_pair(o, strdup(path), strdup(text), err);
}

int qemu_opts_parse(
	const char *text, const char *implied, struct qemu_opts *ret, struct mc_error *err)
{
	struct qemu_opts o = {.json = text[0] == '{'};
	int r;
	if (o.json) {
		json_error_t at;
		_cleanup_(json_decrefp) json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &at);
		if (!j)
			return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
				"the QEMU option %.80s is not valid JSON (%.100s): in the command "
				"it needs single quotes around it",
				text, at.text);
		r = flatten("", j, 0, &o, err);
	} else {
		r = parse_pairs(text, implied, &o, err);
	}
	if (r < 0) {
		qemu_opts_clear(&o);
		return r;
	}
	*ret = o;
	return 0;
}

void qemu_opts_clear(struct qemu_opts *o)
{
	for (size_t i = 0; i < o->n; i++) {
		free(o->v[i].key);
		free(o->v[i].value);
	}
	free(o->v);
	*o = (struct qemu_opts){.n = 0};
}

const char *qemu_opts_get(const struct qemu_opts *o, const char *key)
{
	for (size_t i = o->n; i-- > 0;)
		if (strcmp(o->v[i].key, key) == 0)
			return o->v[i].value;
	return NULL;
}

bool qemu_opts_on(const struct qemu_opts *o, const char *key)
{
	const char *v = qemu_opts_get(o, key);
	return v &&
	       (!strcmp(v, "on") || !strcmp(v, "yes") || !strcmp(v, "true") || !strcmp(v, "y"));
}

int qemu_opts_append(char **text, const char *key, const char *value)
{
	size_t old = *text ? strlen(*text) : 0;
	char *grown = realloc(*text, old + strlen(key) + 2 * strlen(value) + 3);
	if (!grown)
		return -ENOMEM;
	*text = grown;
	char *to = stpcpy(stpcpy(stpcpy(grown + old, ","), key), "=");
	for (const char *p = value; *p; p++) {
		*to++ = *p;
		if (*p == ',')
			*to++ = ',';
	}
	*to = '\0';
	return 0;
}

int qemu_size_parse(const char *text, uint64_t unit, uint64_t *ret, struct mc_error *err)
{
	static const char units[] = "bkmgtpe";
	uint64_t whole = 0, fraction = 0, scale = 1;
	const char *p = text;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			goto bad;
	if (p == text)
		goto bad;
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++)
			if (scale < 1000000000) {
				fraction = fraction * 10 + (uint64_t)(*p - '0');
				scale *= 10;
			}
	if (*p) {
		const char *u = strchr(units, tolower((unsigned char)*p));
		if (!u || p[1])
			goto bad;
		unit = 1ull << (10 * (u - units));
	}
	unsigned __int128 v =
		(unsigned __int128)whole * unit + (unsigned __int128)fraction * unit / scale;
	if (v > INT64_MAX)
		goto bad;
	*ret = (uint64_t)v;
	return 0;
bad:
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
		"\"%.64s\" is not a memory size that QEMU understands: write one such as 4G", text);
}
