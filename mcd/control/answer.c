/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers, progress and events: from any thread. */
#include "mcd/control/private.h"

#include "mcd/control/line.h"
#include <stdlib.h>

static void finish(struct control_request *req, char *line)
{
	control_mailbox_post(req->mailbox, CONTROL_ANSWER, req->client, line);
	control_mailbox_unref(req->mailbox);
	json_decref(req->id);
	free(req);
}

void control_answer(struct control_request *req, json_t *result)
{
	if (!result)
		result = json_object();
	finish(req, control_line(json_pack("{s:O, s:o}", "id", req->id, "return", result)));
}

void control_fail(struct control_request *req, const struct mc_error *err)
{
	finish(req, control_error_line(req->id, err));
}

void control_progress(struct control_request *req, json_t *data)
{
	control_mailbox_post(req->mailbox, CONTROL_PROGRESS, req->client,
		control_line(json_pack("{s:O, s:o}", "id", req->id, "progress", data)));
}

void control_emit(struct control *c, const char *event, json_t *data)
{
	control_mailbox_post(c->mailbox, CONTROL_EVENT, 0, control_event_line(event, data));
}
