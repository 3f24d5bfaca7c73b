/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that are one request and one sentence: start, stop, unprotect, failover, version. */
#include "mcctl/client.h"
#include "mcctl/output.h"

#include "common/clock.h"
#include <string.h>

int call_daemon(const struct mcctl *m, const char *verb, json_t *args, unsigned timeout_s,
	json_t **ret_result)
{
	struct mc_error err = MC_ERROR_INIT;
	char path[256];
	__attribute__((cleanup(client_closep))) struct client *c = NULL;
	if (locate_socket(m, path, sizeof path, &err) < 0) {
		json_decref(args);
		return output_usage(m, &err);
	}
	if (client_open(path, &c, &err) < 0) {
		json_decref(args);
		return output_error(m, &err);
	}
	if (client_call(c, verb, args, timeout_s * MC_SEC, NULL, NULL, ret_result, &err) < 0)
		return output_error(m, &err);
	return MCCTL_OK;
}

static int finish(const struct mcctl *m, const json_t *result, const char *vm, const char *sentence)
{
	if (m->json)
		output_json(result);
	else
		printf("%s %s.\n", vm, sentence);
	return MCCTL_OK;
}

static json_t *vm_and_force(const struct verb_args *args)
{
	json_t *request = json_pack("{s:s}", "vm", verb_operand(args, 0));
	if (verb_option(args, "force"))
		json_object_set_new(request, "force", json_true());
	return request;
}

int run_start(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	char sentence[64];
	int code = call_daemon(m, "start", vm_and_force(args), 0, &result);
	if (code != MCCTL_OK)
		return code;
	snprintf(sentence, sizeof sentence, "is running (generation %.0f)",
		get_number(result, "generation"));
	return finish(m, result, verb_operand(args, 0), sentence);
}

int run_stop(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	int code = call_daemon(m, "stop", vm_and_force(args), 0, &result);
	return code != MCCTL_OK ? code : finish(m, result, verb_operand(args, 0), "is stopped");
}

int run_unprotect(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	int code = call_daemon(
		m, "unprotect", json_pack("{s:s}", "vm", verb_operand(args, 0)), 0, &result);
	if (code != MCCTL_OK)
		return code;
	return finish(m, result, verb_operand(args, 0), "is no longer protected");
}

int run_failover(const struct mcctl *m, const struct verb_args *args)
{
	json_auto_t *result = NULL;
	char sentence[128];
	int code = call_daemon(
		m, "failover", json_pack("{s:s}", "vm", verb_operand(args, 0)), 0, &result);
	if (code != MCCTL_OK)
		return code;
	const char *host = get_text(result, "host");
	snprintf(sentence, sizeof sentence, "has moved to %.80s", *host ? host : "its standby");
	return finish(m, result, verb_operand(args, 0), sentence);
}

/* mcctl's own version is an answer in any case; the daemon's is added when it runs. */
int run_version(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	char path[256];
	__attribute__((cleanup(client_closep))) struct client *c = NULL;
	if (locate_socket(m, path, sizeof path, &err) < 0)
		return output_usage(m, &err);
	const json_t *mcd = client_open(path, &c, &err) < 0 ? NULL : client_greeting(c);
	json_auto_t *record =
		json_pack("{s:s, s:O}", "mcctl", MCD_VERSION, "mcd", mcd ? mcd : json_null());
	if (m->json) {
		output_json(record);
		return MCCTL_OK;
	}
	printf("mcctl %s\n", MCD_VERSION);
	if (mcd)
		printf("mcd %s on %s (control protocol %.0f)\n", get_text(mcd, "version"),
			get_text(mcd, "host"), get_number(mcd, "protocol"));
	else
		printf("mcd cannot be reached\n");
	return MCCTL_OK;
}
