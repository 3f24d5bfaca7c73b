/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/control/line.h"

#include "common/clock.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *control_line(json_t *obj)
{
	size_t n = obj ? json_dumpb(obj, NULL, 0, JSON_COMPACT) : 0;
	char *line = n ? malloc(n + 2) : NULL;
	if (line) {
		json_dumpb(obj, line, n, JSON_COMPACT);
		memcpy(line + n, "\n", 2);
	}
	json_decref(obj);
	return line;
}

json_t *control_text(const char *s)
{
	json_t *j = json_string(s);
	if (j)
		return j;
	char copy[sizeof((struct mc_error *)0)->msg];
	size_t n = 0;
	for (; s[n] && n < sizeof copy - 1; n++)
		copy[n] = (unsigned char)s[n] < 0x80 ? s[n] : '?';
	return json_stringn(copy, n);
}

static json_t *error_object(const struct mc_error *err)
{
	return json_pack("{s:s, s:o}", "class", err->cls ? err->cls : MC_ECLASS_FAILED, "message",
		control_text(err->msg));
}

char *control_error_line(json_t *id, const struct mc_error *err)
{
	return control_line(json_pack("{s:O, s:o}", "id", id, "error", error_object(err)));
}

char *control_event_line(const char *event, json_t *data)
{
	struct timespec now;
	struct tm tm;
	char date[32], realtime[48];
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(realtime, sizeof realtime, "%s.%03ldZ", date, now.tv_nsec / 1000000);
	return control_line(json_pack("{s:s, s:I, s:s, s:o}", "event", event, "time",
		(json_int_t)mc_now(), "realtime", realtime, "data", data ? data : json_object()));
}
