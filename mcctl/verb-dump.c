/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The effective configuration: {"value", "origin"} are a line, other objects a [section]. */
#include "mcctl/output.h"

#include <string.h>

static bool is_value(const json_t *j)
{
	return json_object_get(j, "origin") != NULL;
}

static void print_value(const char *key, const json_t *value)
{
	const json_t *v = json_object_get(value, "value");
	printf("%s = ", key);
	if (json_is_string(v))
		output_text(stdout, json_string_value(v));
	else
		json_dumpf(v, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
	fputs("  # ", stdout);
	output_text(stdout, get_text(value, "origin"));
	putchar('\n');
}

/* "hosts" holds sections by name: [host NAME]; "nics" likewise. */
static void print_section(const char *name, const json_t *section)
{
	const char *key;
	json_t *value;
	bool headed = false;
	json_object_foreach((json_t *)section, key, value) {
		if (!is_value(value))
			continue;
		if (!headed)
			printf("\n[%s]\n", name);
		headed = true;
		print_value(key, value);
	}
	json_object_foreach((json_t *)section, key, value) {
		char sub[128];
		size_t len = strlen(name);
		if (is_value(value) || !json_is_object(value))
			continue;
		if (len > 1 && name[len - 1] == 's')
			len--; /* the name of the collection, of which this is one */
		snprintf(sub, sizeof sub, "%.*s %s", (int)len, name, key);
		print_section(sub, value);
	}
}

int run_dump(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	const char *vm = verb_operand(args, 0), *key;
	json_t *value;
	int code = call_daemon(m, "dump", vm ? json_pack("{s:s}", "vm", vm) : NULL, 10, &result);
	if (code != MCCTL_OK)
		return code;
	if (m->json) {
		output_json(result);
		return MCCTL_OK;
	}
	printf("# %s\n", get_text(result, "path"));
	json_object_foreach(result, key, value) {
		if (json_is_object(value))
			print_section(strcmp(key, "keys") ? key : "vm", value);
	}
	return MCCTL_OK;
}
