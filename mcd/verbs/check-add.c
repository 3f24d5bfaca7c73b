/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/verbs/check.h"

void check_add(json_t *checks, const char *name, bool ok, const char *detail, const char *hint)
{
	json_array_append_new(checks, json_pack("{s:s, s:b, s:s, s:s}", "name", name, "ok", ok,
					      "detail", detail, "hint", hint));
}
