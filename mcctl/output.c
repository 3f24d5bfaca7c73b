/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/output.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void output_json(const json_t *record)
{
	size_t flags =
		JSON_REAL_PRECISION(12) | (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);
	json_dumpf(record, stdout, flags);
	putchar('\n');
	fflush(stdout);
}

static void print_error(const struct mcctl *m, const struct mc_error *err)
{
	fflush(stdout);
	fputs("mcctl: error: ", stderr);
	output_text(stderr, err->msg);
	fputc('\n', stderr);
	if (!m->json)
		return;
	json_t *message = json_string(err->msg);
	if (!message) /* the words of the command line need not be UTF-8 */
		message = json_string("the command line is not text in UTF-8");
	json_auto_t *record =
		json_pack("{s:{s:s, s:o}}", "error", "class", err->cls, "message", message);
	output_json(record);
}

int output_error(const struct mcctl *m, const struct mc_error *err)
{
	print_error(m, err);
	return strcmp(err->cls, MCCTL_ECLASS_UNREACHABLE) ? MCCTL_REFUSED : MCCTL_UNREACHABLE;
}

int output_usage(const struct mcctl *m, const struct mc_error *err)
{
	print_error(m, err);
	return MCCTL_USAGE;
}

void output_text(FILE *f, const char *text)
{
	for (const char *p = text; *p; p++)
		fputc(iscntrl((unsigned char)*p) ? ' ' : *p, f);
}

const char *format_bytes(double bytes, char buf[FORMAT_MAX])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	size_t i = 0;
	for (; bytes >= 1024 && i < 4; i++)
		bytes /= 1024;
	snprintf(buf, FORMAT_MAX, "%.*f%s", i == 0 || bytes >= 100 ? 0 : 1, bytes, units[i]);
	return buf;
}

const char *format_ms(double ms, char buf[FORMAT_MAX])
{
	if (ms >= 10000)
		snprintf(buf, FORMAT_MAX, "%.0fs", ms / 1000);
	else if (ms >= 1000)
		snprintf(buf, FORMAT_MAX, "%.1fs", ms / 1000);
	else
		snprintf(buf, FORMAT_MAX, "%.*fms", ms >= 10 ? 0 : ms >= 1 || ms == 0 ? 1 : 2, ms);
	return buf;
}

const char *get_text(const json_t *record, const char *name)
{
	const char *s = json_string_value(json_object_get(record, name));
	return s ? s : "";
}

double get_number(const json_t *record, const char *name)
{
	return json_number_value(json_object_get(record, name));
}
