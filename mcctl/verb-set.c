/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/knobs.h"
#include "mcctl/output.h"

#include "common/clock.h"
#include "common/parse.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct knob {
	const char *key;
	int (*parse)(const char *text, uint64_t *ret, struct mc_error *err);
	uint64_t min, max;
	const char *range;
};

static const struct knob knobs[] = {
	{"delay", mc_parse_duration, MC_MSEC, 10 * MC_SEC, "1ms to 10s"},
	{"max-buffer", mc_parse_size, 16 << 20, UINT64_MAX, "16MiB or more"},
};
#define N_KNOBS (sizeof knobs / sizeof *knobs)

int knob_check(const char *key, const char *value, struct mc_error *err)
{
	const char *keys[N_KNOBS];
	for (size_t i = 0; i < N_KNOBS; i++) {
		const struct knob *k = &knobs[i];
		uint64_t n;
		keys[i] = k->key;
		if (strcmp(k->key, key))
			continue;
		int r = k->parse(value, &n, err);
		if (r < 0)
			return r;
		if (n < k->min || n > k->max)
			return mc_error_set(err, -ERANGE, MC_ECLASS_INVALID,
				"%s = %.40s is out of range; it may be %s", key, value, k->range);
		return 0;
	}
	const char *near = mc_nearest(key, keys, N_KNOBS);
	if (near)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"there is no knob '%.60s'; did you mean '%s'?", key, near);
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"there is no knob '%.60s'; there are delay and max-buffer", key);
}

/* Adds "key=value" to the request. */
static int add_knob(json_t *request, const char *word, struct mc_error *err)
{
	const char *equals = strchr(word, '=');
	char key[64];
	if (!equals || (size_t)(equals - word) >= sizeof key)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'%.60s' is not KEY=VALUE, such as delay=50ms", word);
	snprintf(key, sizeof key, "%.*s", (int)(equals - word), word);
	int r = knob_check(key, equals + 1, err);
	if (r < 0)
		return r;
	if (json_object_get(request, key))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID, "'%s' is given twice", key);
	json_object_set_new(request, key, json_string(equals + 1));
	return 0;
}

int run_set(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	json_auto_t *result = NULL;
	json_t *request = json_pack("{s:s}", "vm", verb_operand(args, 0));
	for (size_t i = 1; i < args->n_operands; i++)
		if (add_knob(request, args->operands[i], &err) < 0) {
			json_decref(request);
			return output_usage(m, &err);
		}
	int code = call_daemon(m, "set", request, 10, &result);
	if (code != MCCTL_OK)
		return code;
	if (m->json) {
		output_json(result);
		return MCCTL_OK;
	}
	printf("%s:", verb_operand(args, 0));
	for (size_t i = 1; i < args->n_operands; i++)
		printf(" %s", args->operands[i]);
	putchar('\n');
	return MCCTL_OK;
}
