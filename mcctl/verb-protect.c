/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/client.h"
#include "mcctl/knobs.h"
#include "mcctl/output.h"
#include "mcctl/progress.h"

#include <errno.h>

int run_protect(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *vm = verb_operand(args, 0), *peer = verb_option(args, "peer");
	const char *delay = verb_option(args, "delay"), *buffer = verb_option(args, "max-buffer");
	const char *no_wait = verb_option(args, "no-wait");
	if (!peer)
		mc_error_set(&err, -EINVAL, MC_ECLASS_INVALID,
			"'mcctl protect' needs --peer HOST, the host that shall take over");
	if (err.code || (delay && knob_check("delay", delay, &err) < 0) ||
		(buffer && knob_check("max-buffer", buffer, &err) < 0))
		return output_usage(m, &err);

	json_auto_t *result = NULL;
	char path[256];
	if (locate_socket(m, path, sizeof path, &err) < 0)
		return output_usage(m, &err);
	__attribute__((cleanup(client_closep))) struct client *c = NULL;
	if (client_open(path, &c, &err) < 0)
		return output_error(m, &err);
	json_t *request = json_pack("{s:s, s:s, s:b}", "vm", vm, "peer", peer, "wait", !no_wait);
	if (delay)
		json_object_set_new(request, "delay", json_string(delay));
	if (buffer)
		json_object_set_new(request, "max-buffer", json_string(buffer));
	struct progress progress = {.vm = vm};
	int r = client_call(c, "protect", request, 0, progress_show, &progress, &result, &err);
	progress_end(&progress);
	if (r < 0)
		return output_error(m, &err);
	if (m->json)
		output_json(result);
	else if (no_wait)
		printf("%s is being copied to %s; 'mcctl wait %s protected' waits for it.\n", vm,
			peer, vm);
	else
		printf("%s is protected by %s.\n", vm, peer);
	return MCCTL_OK;
}
