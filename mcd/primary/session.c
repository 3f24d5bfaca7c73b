/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/session.h"

#include "mcd/vm/disks.h"

#include <stdarg.h>
#include <stdio.h>

uint64_t session_memory(const struct vm *vm)
{
	return vm->max_buffer - disks_share(vm, vm->max_buffer);
}

int session_fails(struct session *s, enum session_end end, int r)
{
	if (r < 0 && s->end == END_NONE)
		s->end = end;
	return r;
}

int session_ends(struct session *s, enum session_end end, struct mc_error *err, int code,
	const char *cls, const char *fmt, ...)
{
	char text[sizeof err->msg];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	mc_error_set(err, code, cls, "%s", text);
	return session_fails(s, end, code);
}
