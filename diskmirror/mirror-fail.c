/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a mirror breaks: once, from any of its threads, with the first reason. */
#include "diskmirror/mirror-private.h"

#include <stdarg.h>
#include <stdio.h>

void mirror_fail(struct mirror *m, int code, const char *cls, const char *fmt, ...)
{
	va_list ap;
	pthread_mutex_lock(&m->lock);
	bool first = !m->broken && !m->closing;
	if (first) {
		m->broken = true;
		m->error = (struct mc_error){.code = code, .cls = cls};
		va_start(ap, fmt);
		vsnprintf(m->error.msg, sizeof m->error.msg, fmt, ap);
		va_end(ap);
		pthread_cond_broadcast(&m->work);
		pthread_cond_broadcast(&m->done);
	}
	pthread_mutex_unlock(&m->lock);
	if (!first)
		return;
	/* QEMU first: its job ends, and the guest goes on. */
	nbd_server_shut(m->server);
	m->link->ops->shutdown(m->link);
	if (m->broken_fn)
		m->broken_fn(m->ctx);
}

int mirror_error(struct mirror *m, struct mc_error *err)
{
	pthread_mutex_lock(&m->lock);
	int r = m->broken ? mc_error_set(err, m->error.code, m->error.cls, "%s", m->error.msg) : 0;
	pthread_mutex_unlock(&m->lock);
	return r;
}
