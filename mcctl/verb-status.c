/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/output.h"
#include "mcctl/status-text.h"

#include <time.h>
#include <unistd.h>

static int show(const struct mcctl *m, const char *vm, bool details, bool clear)
{
	json_auto_t *result = NULL;
	int code = call_daemon(m, "status", vm ? json_pack("{s:s}", "vm", vm) : NULL, 10, &result);
	if (code != MCCTL_OK)
		return code;
	if (clear)
		fputs("\033[H\033[J", stdout);
	if (m->json)
		output_json(result);
	else
		status_print(result, details);
	fflush(stdout);
	return MCCTL_OK;
}

int run_status(const struct mcctl *m, const struct verb_args *args)
{
	const struct timespec period = {.tv_sec = 1};
	const char *vm = verb_operand(args, 0);
	bool details = vm || verb_option(args, "verbose"), watch = verb_option(args, "watch");
	bool screen = watch && !m->json && isatty(STDOUT_FILENO);
	for (;;) {
		int code = show(m, vm, details, screen);
		if (code != MCCTL_OK || !watch)
			return code;
		nanosleep(&period, NULL);
		if (!screen && !m->json)
			putchar('\n');
	}
}
