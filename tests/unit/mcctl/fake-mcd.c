/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake-mcd SOCKET ANSWERS REQUESTS: a real control socket in front of recorded answers.
 *
 * ANSWERS holds {KEY: {"progress": [...], "return": ...} or {"error": {"class", "message"}}}, KEY
 * being "VERB VM" or, failing that, "VERB"; its "events" is a list of {"event", "data"}, emitted
 * at the start.  Every request served is appended to the file REQUESTS.  SIGUSR1 emits one event
 * more, SIGTERM ends it.
 */
#include "mcd/control/control.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

struct fake {
	struct control *control;
	json_t *answers;
	FILE *requests;
};

static void run(void *ctx, struct control_request *req, const json_t *args, const char *verb)
{
	struct fake *f = ctx;
	char key[256];
	size_t i;
	json_t *data;
	const char *vm = json_string_value(json_object_get(args, "vm"));
	char *text = json_dumps(args, JSON_SORT_KEYS);
	fprintf(f->requests, "%s %s\n", verb, text);
	fflush(f->requests);
	free(text);
	snprintf(key, sizeof key, "%s %s", verb, vm ? vm : "");
	json_t *answer = json_object_get(f->answers, key);
	if (!answer)
		answer = json_object_get(f->answers, verb);
	json_array_foreach(json_object_get(answer, "progress"), i, data)
		control_progress(req, json_deep_copy(data));
	json_t *error = json_object_get(answer, "error");
	if (!error) {
		control_answer(req, json_deep_copy(json_object_get(answer, "return")));
		return;
	}
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, -EINVAL,
		mc_error_class(json_string_value(json_object_get(error, "class"))), "%s",
		json_string_value(json_object_get(error, "message")));
	control_fail(req, &err);
}

#define VERB(name)                                                                                 \
	static void run_##name(void *ctx, struct control_request *req, const json_t *args)         \
	{                                                                                          \
		run(ctx, req, args, #name);                                                        \
	}
VERB(status)
VERB(start)
VERB(stop)
VERB(protect)
VERB(unprotect)
VERB(set)
VERB(failover)
VERB(takeover)
VERB(wait)
VERB(check)
VERB(dump)

#define VM                                                                                         \
	{                                                                                          \
		"vm", CONTROL_STRING, true                                                         \
	}

static const struct control_verb fake_verbs[] = {
	{"status", {{"vm", CONTROL_STRING, false}}, run_status},
	{"start", {VM, {"force", CONTROL_BOOL, false}}, run_start},
	{"stop", {VM, {"force", CONTROL_BOOL, false}}, run_stop},
	{"protect",
		{VM, {"peer", CONTROL_STRING, true}, {"delay", CONTROL_STRING, false},
			{"max-buffer", CONTROL_STRING, false}, {"wait", CONTROL_BOOL, false}},
		run_protect},
	{"unprotect", {VM}, run_unprotect},
	{"set", {VM, {"delay", CONTROL_STRING, false}, {"max-buffer", CONTROL_STRING, false}},
		run_set},
	{"failover", {VM}, run_failover},
	{"takeover", {VM, {"force", CONTROL_BOOL, false}, {"confirm", CONTROL_STRING, false}},
		run_takeover},
	{"wait", {VM, {"state", CONTROL_STRING, true}, {"timeout", CONTROL_STRING, false}},
		run_wait},
	{"check", {{"vm", CONTROL_STRING, false}}, run_check},
	{"dump", {{"vm", CONTROL_STRING, false}}, run_dump},
	{0},
};

static int on_more(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct fake *f = userdata;
	control_emit(f->control, "RUNNING", json_pack("{s:s, s:i}", "vm", "vm1", "epoch", 7));
	return 0;
}

static int on_end(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	return sd_event_exit(sd_event_source_get_event(s), 0);
}

int main(int argc, char **argv)
{
	struct fake f = {0};
	struct mc_error err = MC_ERROR_INIT;
	sd_event *loop;
	size_t i;
	json_t *event;
	json_error_t why;
	sigset_t signals;
	if (argc != 4)
		return 2;
	f.answers = json_load_file(argv[2], 0, &why);
	f.requests = fopen(argv[3], "ae"); /* the test empties it between requests */
	if (!f.answers || !f.requests) {
		fprintf(stderr, "fake-mcd: %s:%d: %s\n", argv[2], why.line, why.text);
		return 1;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (sd_event_new(&loop) < 0 || sd_event_add_signal(loop, NULL, SIGUSR1, on_more, &f) < 0 ||
		sd_event_add_signal(loop, NULL, SIGTERM, on_end, &f) < 0)
		return 1;
	if (control_new(loop, argv[1], "hostA", fake_verbs, &f, &f.control, &err) < 0) {
		fprintf(stderr, "fake-mcd: %s\n", err.msg);
		return 1;
	}
	json_array_foreach(json_object_get(f.answers, "events"), i, event)
		control_emit(f.control, json_string_value(json_object_get(event, "event")),
			json_deep_copy(json_object_get(event, "data")));
	puts("ready");
	fflush(stdout);
	sd_event_loop(loop);
	control_free(f.control);
	sd_event_unref(loop);
	json_decref(f.answers);
	fclose(f.requests);
	return 0;
}
