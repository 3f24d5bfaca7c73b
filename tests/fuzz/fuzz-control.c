/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The request parser of the control socket.  What it accepts must satisfy the verb's row: the run
 * functions take arguments without asking again whether they are there and of their type.
 */
#include "tests/fuzz/fuzz.h"

#include "mcd/control/request.h"

#include <string.h>

static const struct control_verb verbs[] = {
	{"status", {{"vm", CONTROL_STRING, false}}, NULL},
	{"set",
		{{"vm", CONTROL_STRING, true}, {"delay", CONTROL_STRING, false},
			{"n", CONTROL_INT, true}, {"force", CONTROL_BOOL, false}},
		NULL},
	{"full",
		{{"a", 's', true}, {"b", 's', true}, {"c", 's', true}, {"d", 's', true},
			{"e", 's', true}, {"f", 's', true}, {"g", 's', true}, {"h", 's', true}},
		NULL},
	{0},
};

static void check_call(const struct control_call *call)
{
	size_t known = 0;
	FUZZ_CHECK(call->verb >= verbs && call->verb < verbs + 3);
	FUZZ_CHECK(json_is_object(call->args));
	for (size_t i = 0; i < 8 && call->verb->args[i].name; i++) {
		const struct control_arg *arg = &call->verb->args[i];
		const json_t *value = json_object_get(call->args, arg->name);
		FUZZ_CHECK(value || !arg->required);
		known += value != NULL;
		FUZZ_CHECK(!value || (arg->type == CONTROL_STRING       ? json_is_string(value)
					     : arg->type == CONTROL_INT ? json_is_integer(value)
									: json_is_boolean(value)));
	}
	FUZZ_CHECK(json_object_size(call->args) == known);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_error err = MC_ERROR_INIT;
	struct control_call call = {0};
	int r = control_parse((const char *)data, size, verbs, &call, &err);
	FUZZ_CHECK(call.id);
	if (r < 0) {
		FUZZ_CHECK(err.code == r && *err.msg && memchr(err.msg, 0, sizeof err.msg));
		FUZZ_CHECK(!call.verb && !call.args);
	} else {
		FUZZ_CHECK(r == 0);
		check_call(&call);
	}
	control_call_clear(&call);
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"{\"id\":1,\"execute\":\"status\"}",
		"{\"execute\":\"set\",\"arguments\":{\"vm\":\"vm1\",\"delay\":\"50ms\",\"n\":-3,\"force\":true}}",
		"{\"execute\":\"set\",\"arguments\":{\"vm\":null,\"n\":1e3}}",
		"{\"id\":{\"a\":[\"\\u00e4\",1.5]},\"execute\":\"full\",\"arguments\":{\"a\":\"\",\"b\":\"\"}}",
		"{\"id\":1,\"exceute\":\"status\",\"argument\":[]}",
		"[[[[{\"x\":[]}]]]]",
	};
	if (i >= sizeof seeds / sizeof *seeds || strlen(seeds[i]) > cap)
		return 0;
	memcpy(buf, seeds[i], strlen(seeds[i]));
	return strlen(seeds[i]);
}
