/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "error.h"

#include "common/text.h"

#include <stdio.h>
#include <string.h>

int mc_error_set(struct mc_error *err, int code, const char *cls, const char *fmt, ...)
{
	if (!err)
		return code;
	err->code = code;
	err->cls = cls;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof err->msg, fmt, ap);
	va_end(ap);
	mc_text_clean(err->msg);
	return code;
}

int mc_error_wrap(struct mc_error *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	char old[sizeof err->msg], ctx[sizeof err->msg];
	memcpy(old, err->msg, sizeof old);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(ctx, sizeof ctx, fmt, ap);
	va_end(ap);
	size_t n = strlen(ctx);
	if (n > sizeof err->msg / 2)
		n = sizeof err->msg / 2;
	/* A message too long is cut at its end: the context in front says where to look. */
	snprintf(err->msg, sizeof err->msg, "%.*s: %.*s", (int)n, ctx,
		(int)(sizeof err->msg - n - 3), old);
	mc_text_clean(err->msg);
	return err->code;
}

const char *mc_error_class(const char *name)
{
	static const char *const known[] = {
		MC_ECLASS_FAILED,
		MC_ECLASS_INVALID,
		MC_ECLASS_BAD_REQUEST,
		MC_ECLASS_UNKNOWN_VM,
		MC_ECLASS_UNKNOWN_PEER,
		MC_ECLASS_UNREACHABLE,
		MC_ECLASS_WRONG_KEY,
		MC_ECLASS_VERSION,
		MC_ECLASS_STATE,
		MC_ECLASS_NOT_OWNER,
		MC_ECLASS_NO_MAJORITY,
		MC_ECLASS_GUEST,
		MC_ECLASS_QMP,
		MC_ECLASS_PERMISSION,
		MC_ECLASS_KERNEL,
		MC_ECLASS_MEMORY,
		MC_ECLASS_TIMEOUT,
		MC_ECLASS_PROTOCOL,
		MC_ECLASS_CONFIG,
	};
	for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
		if (!strcmp(name, known[i]))
			return known[i];
	return MC_ECLASS_FAILED;
}
