/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/config/keys.h"
#include "common/parse.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define USER_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:$"

bool config_name_ok(const char *name, size_t max)
{
	size_t len = strlen(name);
	if (len == 0 || len > max || name[0] == '.' || name[0] == '-')
		return false;
	for (const char *p = name; *p; p++)
		if (!isascii(*p) || (!isalnum((unsigned char)*p) && !strchr("._-", *p)))
			return false;
	return true;
}

const char *config_section_arg(const char *section, const char *word)
{
	size_t len = strlen(word);
	if (strncmp(section, word, len) != 0 || (section[len] != ' ' && section[len] != '\0'))
		return NULL;
	return section[len] ? section + len + 1 : section + len;
}

const struct config_key *config_keys_find(
	const struct config_key *table, size_t n, const char *section, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (config_section_arg(section, table[i].section) && !strcmp(table[i].name, key))
			return &table[i];
	return NULL;
}

static int unknown_key(const struct config_key *table, size_t n, const struct conf_file *f,
	const struct conf_item *item, struct mc_error *err)
{
	const char *names[CONFIG_KEYS_MAX * 2] = {NULL};
	size_t count = 0;
	for (size_t i = 0; i < n; i++) {
		if (config_section_arg(item->section, table[i].section))
			names[count++] = table[i].name;
		else if (!strcmp(table[i].name, item->key))
			return conf_file_error(f, item->line, err,
				"%.64s is no key of [%.80s]: it belongs in [%s]", item->key,
				item->section, table[i].section);
	}
	const char *near = mc_nearest(item->key, names, count);
	if (near)
		return conf_file_error(f, item->line, err,
			"unknown key \"%.64s\" in [%.80s]: did you mean \"%s\"?", item->key,
			item->section, near);
	char list[300] = "";
	for (size_t i = 0, at = 0; i < count && at < sizeof list; i++)
		at += (size_t)snprintf(
			list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
	return conf_file_error(f, item->line, err,
		"unknown key \"%.64s\" in [%.80s]: the keys there are %s", item->key, item->section,
		list);
}

int config_unknown_section(const struct conf_file *f, const struct conf_item *item,
	const char *const *names, size_t n, struct mc_error *err)
{
	char word[65], list[100] = "";
	snprintf(word, sizeof word, "%.*s", (int)strcspn(item->section, " "), item->section);
	const char *near = mc_nearest(word, names, n);
	if (near)
		return conf_file_error(f, item->line, err,
			"unknown section [%.80s]: did you mean [%s]?", item->section, near);
	for (size_t i = 0, at = 0; i < n && at < sizeof list; i++)
		at += (size_t)snprintf(
			list + at, sizeof list - at, "%s[%s]", i ? ", " : "", names[i]);
	return conf_file_error(f, item->line, err, "unknown section [%.80s]: there may be %s here",
		item->section, list);
}

static int store_quantity(
	const struct config_key *k, const char *text, void *to, struct mc_error *err)
{
	uint64_t v;
	char low[MC_QUANTITY_MAX], high[MC_QUANTITY_MAX];
	bool time = k->type == CONFIG_DURATION;
	int r = time ? mc_parse_duration(text, &v, err) : mc_parse_size(text, &v, err);
	if (r < 0)
		return r;
	if (v < k->min || v > k->max)
		return mc_error_set(err, -ERANGE, MC_ECLASS_INVALID,
			"%.64s is out of range: it must be %s to %s", text,
			time ? mc_format_duration(k->min, low) : mc_format_size(k->min, low),
			time ? mc_format_duration(k->max, high) : mc_format_size(k->max, high));
	*(uint64_t *)to = v;
	return 0;
}

static int store_choice(
	const struct config_key *k, const char *text, void *to, struct mc_error *err)
{
	char list[100] = "";
	size_t at = 0;
	for (size_t i = 0; k->choices[i]; i++) {
		if (strcmp(k->choices[i], text) == 0) {
			assert(k->type != CONFIG_CHOICE || k->size == sizeof(unsigned));
			if (k->type == CONFIG_CHOICE)
				*(unsigned *)to = (unsigned)i;
			else if (k->type == CONFIG_SWITCH)
				*(bool *)to = i == 0;
			return 0;
		}
		if (at < sizeof list)
			at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", i ? " or " : "",
				k->choices[i]);
	}
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"\"%.64s\" is not possible in this release: write %s", text, list);
}

static int store_address(
	const struct config_key *k, const char *text, void *to, struct mc_error *err)
{
	struct in_addr v4;
	struct in6_addr v6;
	bool is4 = inet_pton(AF_INET, text, &v4) == 1,
	     is6 = !is4 && inet_pton(AF_INET6, text, &v6) == 1;
	if (!is4 && !is6)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" is not a numeric address: names are never looked up, write one "
			"such as 10.0.0.1 or fd00::1",
			text);
	if ((is4 && (v4.s_addr == 0 || IN_MULTICAST(ntohl(v4.s_addr)) ||
			    v4.s_addr == INADDR_BROADCAST)) ||
		(is6 && (IN6_IS_ADDR_UNSPECIFIED(&v6) || IN6_IS_ADDR_MULTICAST(&v6))))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"%s is not the address of one host: write the one that the other hosts "
			"connect to",
			text);
	snprintf(to, k->size, "%s", text);
	return 0;
}

static int store_mac(const char *text, uint8_t *to, struct mc_error *err)
{
	unsigned b[6];
	char rest;
	bool ok = strlen(text) == 17 && strspn(text, "0123456789abcdefABCDEF:") == 17 &&
		  sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4],
			  &b[5], &rest) == 6;
	if (!ok || (b[0] & 1))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"\"%.64s\" is not the MAC address of one NIC: write six pairs of hex "
			"digits such as 52:54:00:12:34:56, the first pair even",
			text);
	for (unsigned i = 0; i < 6; i++)
		to[i] = (uint8_t)b[i];
	return 0;
}

static int store(const struct config_key *k, const char *text, void *to, struct mc_error *err)
{
	uint64_t number;
	int r;

	switch (k->type) {
	case CONFIG_NAME:
		if (!config_name_ok(text, k->size - 1))
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"\"%.64s\" is not a name: use 1 to %zu of the characters A-Z a-z "
				"0-9 . _ -, and none of . and - in front",
				text, k->size - 1);
		snprintf(to, k->size, "%s", text);
		return 0;
	case CONFIG_USER:
		/* Whether there is such a user is for the host that runs QEMU to say. */
		if (strlen(text) >= k->size || text[0] == '-' ||
			text[strspn(text, USER_CHARS)] != 0)
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"\"%.64s\" is no user: write a name such as qemu, or numbers as "
				"uid:gid",
				text);
		snprintf(to, k->size, "%s", text);
		return 0;
	case CONFIG_PATH:
		if (text[0] != '/' || strlen(text) >= k->size)
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"\"%.64s\" is not possible as a path: write an absolute one of at "
				"most %zu bytes",
				text, k->size - 1);
		snprintf(to, k->size, "%s", text);
		return 0;
	case CONFIG_TEXT:
		*(char **)to = strdup(text);
		return *(char **)to
			       ? 0
			       : mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	case CONFIG_DURATION:
	case CONFIG_SIZE:
		return store_quantity(k, text, to, err);
	case CONFIG_UINT:
		r = mc_parse_uint(text, k->min, k->max, &number, err);
		if (r == 0)
			*(unsigned *)to = (unsigned)number;
		return r;
	case CONFIG_PORT:
		r = mc_parse_uint(text, 1, UINT16_MAX, &number, err);
		if (r == 0)
			*(uint16_t *)to = (uint16_t)number;
		return r;
	case CONFIG_ADDRESS:
		return store_address(k, text, to, err);
	case CONFIG_MAC:
		return store_mac(text, to, err);
	case CONFIG_CHOICE:
	case CONFIG_SWITCH:
	case CONFIG_FIXED:
		return store_choice(k, text, to, err);
	}
	return -EINVAL;
}

int config_keys_apply(const struct config_key *table, size_t n, const struct conf_file *f,
	const struct conf_item *item, void *base, unsigned *lines, struct mc_error *err)
{
	const struct config_key *k = config_keys_find(table, n, item->section, item->key);
	if (!k)
		return unknown_key(table, n, f, item, err);
	if (item->value[0] == '\0')
		return conf_file_error(f, item->line, err,
			"%s has no value: write one, or take the line out for the default",
			k->name);
	/* An indented "key = value" would silently become part of the value above it. */
	if (item->continued && k->type != CONFIG_TEXT)
		return conf_file_error(f, item->line, err,
			"%s takes one line, and the next one begins with white space, which makes "
			"it a part of this: begin every key in the first column",
			k->name);
	struct mc_error why = MC_ERROR_INIT;
	if (store(k, item->value, (char *)base + k->offset, &why) < 0)
		return conf_file_error(f, item->line, err, "%s: %s", k->name, why.msg);
	assert(item->line); /* 0 would be a default */
	lines[k - table] = item->line;
	return 0;
}
