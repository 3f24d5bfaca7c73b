/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/client.h"
#include "mcctl/output.h"

#include "common/clock.h"
#include <stdlib.h>
#include <string.h>

/* A value with spaces is quoted, so that a line can be taken apart again. */
static void print_value(const json_t *value)
{
	const char *text = json_string_value(value);
	if (text && (!*text || strpbrk(text, " \"\n"))) {
		char *quoted = json_dumps(value, JSON_ENCODE_ANY);
		fputs(quoted ? quoted : "?", stdout);
		free(quoted);
	} else if (text) {
		output_text(stdout, text);
	} else {
		json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
	}
}

static void print_event(const json_t *event)
{
	const json_t *data = json_object_get(event, "data");
	const char *key;
	json_t *value;
	printf("%s %s", get_text(event, "realtime"), get_text(event, "event"));
	json_object_foreach((json_t *)data, key, value) {
		char age[FORMAT_MAX];
		double last = json_number_value(value);
		/* A point of CLOCK_MONOTONIC says nothing to a reader; its age does. */
		if (!strcmp(key, "last_heard")) {
			format_ms((get_number(event, "time") - last) / MC_MSEC, age);
			printf(" silent:%s", last > 0 ? age : "always");
			continue;
		}
		printf(" %s:", key);
		print_value(value);
	}
	putchar('\n');
}

int run_events(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	char path[256];
	__attribute__((cleanup(client_closep))) struct client *c = NULL;
	json_auto_t *result = NULL;
	bool now = verb_option(args, "now");
	bool history = now || verb_option(args, "history");
	if (locate_socket(m, path, sizeof path, &err) < 0)
		return output_usage(m, &err);
	if (client_open(path, &c, &err) < 0 ||
		client_call(c, "events", json_pack("{s:b}", "history", history), 10 * MC_SEC, NULL,
			NULL, &result, &err) < 0)
		return output_error(m, &err);
	json_int_t n = json_integer_value(json_object_get(result, "history"));
	for (json_int_t i = 0; !now || i < n; i++) {
		json_auto_t *event = NULL;
		if (client_event(c, &event, &err) < 0)
			return output_error(m, &err);
		if (m->json) {
			json_dumpf(event, stdout, JSON_COMPACT);
			putchar('\n');
		} else {
			print_event(event);
		}
		fflush(stdout); /* whoever reads acts on each event when it comes */
	}
	return MCCTL_OK;
}
