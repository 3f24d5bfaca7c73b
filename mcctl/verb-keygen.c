/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/output.h"

#include "common/link.h"

int run_keygen(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	char path[256];
	const char *given = verb_operand(args, 0);
	if (!given && locate_key(m, path, sizeof path, &err) < 0)
		return output_usage(m, &err);
	if (!given)
		given = path;
	if (link_key_create(given, &err) < 0)
		return output_error(m, &err);
	json_auto_t *record = json_pack("{s:s}", "path", given);
	if (m->json)
		output_json(record);
	else
		printf("Wrote the new cluster key %s. Copy it to the other hosts, keeping its mode "
		       "0600, and restart mcd.\n",
			given);
	return MCCTL_OK;
}
