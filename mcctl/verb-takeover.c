/* SPDX-License-Identifier: GPL-2.0-or-later */
/* takeover: the one verb that can break the promise, so the one that asks twice. */
#include "mcctl/client.h"
#include "mcctl/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char warning[] =
	"If the other host still runs %s, two copies of it will answer from now on, and what one "
	"of\n"
	"them has acknowledged is lost when it is over. Go on only if that host is certainly "
	"powered\n"
	"off, or cut off for good.\n"
	"Type the name of the VM to go on: ";

/* What the operator typed, or gave as --confirm; NULL: nothing that could be asked for. */
static const char *confirmation(const struct verb_args *args, char *buf, size_t cap)
{
	const char *given = verb_option(args, "confirm");
	if (given || !isatty(STDIN_FILENO))
		return given;
	fprintf(stderr, warning, verb_operand(args, 0));
	if (!fgets(buf, (int)cap, stdin))
		return NULL;
	buf[strcspn(buf, "\n")] = 0;
	return buf;
}

int run_takeover(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *vm = verb_operand(args, 0);
	json_t *request = json_pack("{s:s}", "vm", vm);
	if (verb_option(args, "force")) {
		char typed[128];
		const char *name = confirmation(args, typed, sizeof typed);
		if (!name || strcmp(name, vm)) {
			json_decref(request);
			mc_error_set(&err, -EINVAL, MC_ECLASS_INVALID,
				"not confirmed: 'mcctl takeover %s --force' needs the VM's name "
				"typed again, or --confirm %s; nothing was changed",
				vm, vm);
			return output_usage(m, &err);
		}
		json_object_set_new(request, "force", json_true());
		json_object_set_new(request, "confirm", json_string(name));
	}
	json_auto_t *result = NULL;
	int code = call_daemon(m, "takeover", request, 0, &result);
	if (code != MCCTL_OK)
		return code;
	if (m->json)
		output_json(result);
	else
		printf("%s is taken over; 'mcctl status %s' shows it.\n", vm, vm);
	return MCCTL_OK;
}
