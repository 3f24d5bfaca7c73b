/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The events that a session keeps.
 *
 * QEMU may send any number of any size, and whoever asks may ask late: so only what somebody waits
 * for is kept, and of that the newest, up to a number and a sum of bytes.
 */
#include "common/qmp-private.h"

#include <assert.h>
#include <string.h>

static bool wanted(const struct qmp *q, const char *name)
{
	if (!q->wanted)
		return true;
	for (const char *const *w = q->wanted; *w; w++)
		if (!strcmp(*w, name))
			return true;
	return false;
}

json_t *qmp_take(struct qmp *q, size_t i)
{
	assert(i < q->n);
	struct qmp_event e = q->events[(q->head + i) % QMP_EVENTS_MAX];
	for (; i > 0; i--)
		q->events[(q->head + i) % QMP_EVENTS_MAX] =
			q->events[(q->head + i - 1) % QMP_EVENTS_MAX];
	q->head = (q->head + 1) % QMP_EVENTS_MAX;
	q->n--;
	q->size -= e.size;
	return e.event;
}

void qmp_keep(struct qmp *q, json_t *event, size_t size)
{
	if (size > QMP_EVENT_MAX ||
		!wanted(q, json_string_value(json_object_get(event, "event")))) {
		json_decref(event);
		return;
	}
	while (q->n == QMP_EVENTS_MAX || q->size + size > QMP_EVENTS_SIZE)
		json_decref(qmp_take(q, 0));
	q->events[(q->head + q->n++) % QMP_EVENTS_MAX] = (struct qmp_event){event, size};
	q->size += size;
}

void qmp_forget(struct qmp *q)
{
	while (q->n)
		json_decref(qmp_take(q, 0));
}

void qmp_want_events(struct qmp *q, const char *const *names)
{
	q->wanted = names;
	/* Those that came before it was said. */
	for (size_t i = 0; i < q->n;) {
		json_t *e = q->events[(q->head + i) % QMP_EVENTS_MAX].event;
		if (wanted(q, json_string_value(json_object_get(e, "event"))))
			i++;
		else
			json_decref(qmp_take(q, i));
	}
}
