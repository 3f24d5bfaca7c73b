/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest says to us, cut into lines and understood.  The guest may say anything. */
#include "mcd/guest/agent.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#define SENTINEL 0xff /* occurs in no UTF-8, so in no JSON */

void agent_reader_sync(struct agent_reader *r)
{
	r->n = 0;
	r->synced = 0;
	r->overlong = 0;
}

int agent_reader_byte(struct agent_reader *r, uint8_t byte)
{
	if (byte == SENTINEL) {
		r->synced = 1;
		r->n = 0;
		r->overlong = 0;
		return 0;
	}
	assert(r->n < sizeof r->line); /* whatever comes, there is room for the zero */
	if (!r->synced)
		return 0;
	if (byte != '\n') {
		if (r->n < sizeof r->line - 1)
			r->line[r->n++] = (char)byte;
		else
			r->overlong = 1;
		return 0;
	}
	int whole = !r->overlong && r->n > 0;
	r->line[r->n] = 0;
	r->n = 0;
	r->overlong = 0;
	return whole;
}

/* The agent's words, as far as they can be printed. */
static int refused(const json_t *error, struct mc_error *err)
{
	char words[160];
	const char *desc = json_string_value(json_object_get(error, "desc"));
	snprintf(words, sizeof words, "%s", desc ? desc : "it does not say why");
	for (char *p = words; *p; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	return mc_error_set(err, -EREMOTEIO, MC_ECLASS_QMP, "the guest's agent refuses: %s", words);
}

int agent_answer(const char *line, int64_t *ret_number, struct mc_error *err)
{
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	json_t *value = json_object_get(j, "return"), *error = json_object_get(j, "error");
	int r = 0;
	if (json_is_object(error))
		r = refused(error, err);
	else if (ret_number && json_is_integer(value))
		*ret_number = json_integer_value(value);
	else if (ret_number || !json_is_object(value))
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_QMP,
			"the guest's agent answers what was not asked");
	json_decref(j);
	return r;
}
