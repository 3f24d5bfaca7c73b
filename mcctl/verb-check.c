/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/output.h"

int run_check(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	const char *vm = verb_operand(args, 0);
	int code = call_daemon(m, "check", vm ? json_pack("{s:s}", "vm", vm) : NULL, 30, &result);
	if (code != MCCTL_OK)
		return code;
	const json_t *checks = json_object_get(result, "checks");
	size_t failed = 0;
	for (size_t i = 0; i < json_array_size(checks); i++) {
		const json_t *check = json_array_get(checks, i);
		bool ok = json_is_true(json_object_get(check, "ok"));
		const char *hint = get_text(check, "hint");
		failed += !ok;
		if (m->json)
			continue;
		printf("%-4s  ", ok ? "ok" : "FAIL");
		output_text(stdout, get_text(check, "name"));
		fputs(": ", stdout);
		output_text(stdout, get_text(check, "detail"));
		putchar('\n');
		if (!*hint)
			continue;
		fputs("      hint: ", stdout);
		output_text(stdout, hint);
		putchar('\n');
	}
	if (m->json)
		output_json(result);
	else if (failed)
		printf("%zu of %zu checks failed.\n", failed, json_array_size(checks));
	return failed ? MCCTL_REFUSED : MCCTL_OK;
}
