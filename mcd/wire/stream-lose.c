/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a stream breaks, and what its user is told. */
#include "mcd/wire/stream-private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Breaks the transport; `doing` completes "the connection to the peer ... while". */
int stream_lose(struct stream *t, int code, const char *doing, struct mc_error *err)
{
	assert(code < 0 && !t->broken.code); /* the first reason stays */
	struct mc_error e = MC_ERROR_INIT;
	if (code != -ETIMEDOUT && t->io->ops->why && t->io->ops->why(t->io, &e) != -EINVAL) {
		e.code = code;
		mc_error_wrap(&e, "while %s", doing);
		goto lost;
	}
	switch (code) {
	case -ENODATA:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"the peer closed the connection while %s; its own log says why", doing);
		break;
	case -ECONNRESET:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"the connection to the peer was reset while %s; its mcd ended or its host "
			"restarted",
			doing);
		break;
	case -EHOSTUNREACH:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"the peer became unreachable while %s; check the network between the hosts",
			doing);
		break;
	case -ETIMEDOUT:
		mc_error_set(&e, code, MC_ECLASS_TIMEOUT,
			"the peer did not keep up while %s; the network or the peer is too slow, "
			"or gone",
			doing);
		break;
	default:
		mc_error_set(&e, code, MC_ECLASS_UNREACHABLE,
			"the connection to the peer failed while %s: %s", doing, strerror(-code));
	}
lost:
	t->broken = e;
	if (err)
		*err = e;
	return code;
}

int stream_still_broken(struct stream *t, struct mc_error *err)
{
	if (t->broken.code && err)
		*err = t->broken;
	return t->broken.code;
}
