/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a line to a JSON object, with its cost known before any memory is taken for it.
 *
 * The reader that makes the values would take 240 bytes for each "{}", and it recurses: a line of
 * 1 MiB could cost 80 MiB and a deep stack.  So a first pass over the bytes counts what there can
 * be at most: a value follows on each comma, and on each bracket that opens.
 */
#include "common/qmp-private.h"

#include <string.h>

/* The end of the string that begins behind its quote. */
static const char *skip_string(const char *p, const char *end)
{
	for (; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p : end;
}

static const char *too_large(const char *line, size_t len)
{
	size_t values = 1, depth = 0;
	const char *end = line + len;
	for (const char *p = line; p < end; p++) {
		if (*p == '"') {
			p = skip_string(p + 1, end);
		} else if (*p == '{' || *p == '[') {
			values++;
			if (++depth > QMP_DEPTH_MAX)
				return "it is nested too deep";
		} else if (*p == '}' || *p == ']') {
			depth -= depth > 0;
		} else if (*p == ',') {
			values++;
		}
	}
	return values > QMP_VALUES_MAX ? "it has too many values" : NULL;
}

json_t *qmp_json(const char *line, size_t len, const char **ret_why)
{
	json_error_t je;
	const char *why = too_large(line, len);
	json_t *j = why ? NULL : json_loadb(line, len, 0, &je);
	if (!why && !j && json_error_code(&je) == json_error_numeric_overflow)
		j = json_loadb(line, len, JSON_DECODE_INT_AS_REAL, &je); /* QEMU has uint64 too */
	if (json_is_object(j))
		return j;
	json_decref(j);
	*ret_why = why ? why : "it is no JSON object";
	return NULL;
}
