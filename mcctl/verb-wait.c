/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/output.h"

#include "common/parse.h"
#include <errno.h>
#include <string.h>

static const char *const states[] = {
	"stopped", "starting", "unprotected", "syncing", "protected", "holding", "standby-syncing",
	"standby", "taking-over", "failed", /* the order of enum vm_state */
};
#define N_STATES (sizeof states / sizeof *states)

static int check_state(const char *state, struct mc_error *err)
{
	for (size_t i = 0; i < N_STATES; i++)
		if (!strcmp(states[i], state))
			return 0;
	const char *near = mc_nearest(state, states, N_STATES);
	char list[200] = "";
	for (size_t i = 0, n = 0; i < N_STATES; i++)
		n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", states[i]);
	if (near)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"there is no state '%.60s'; did you mean '%s'?", state, near);
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"there is no state '%.60s'; the states are %s", state, list);
}

int run_wait(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	json_auto_t *result = NULL;
	const char *state = verb_operand(args, 1), *timeout = verb_option(args, "timeout");
	uint64_t ns;
	if (check_state(state, &err) < 0 || (timeout && mc_parse_duration(timeout, &ns, &err) < 0))
		return output_usage(m, &err);
	json_t *request = json_pack("{s:s, s:s}", "vm", verb_operand(args, 0), "state", state);
	if (timeout)
		json_object_set_new(request, "timeout", json_string(timeout));
	int code = call_daemon(m, "wait", request, 0, &result);
	if (code == MCCTL_OK && m->json)
		output_json(result);
	return code;
}
