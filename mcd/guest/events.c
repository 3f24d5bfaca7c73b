/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens to the guest by itself, told apart from what we do to it.
 *
 * `stop` and `cont` make QEMU send STOP and RESUME when they changed something, always in front of
 * their answer, and nothing when the VM was already so.  Hence: take in everything before the
 * command (not ours), run it, and the first matching event that came meanwhile is its echo.
 */
#include "mcd/guest/guest-private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* In one go: one that tells of events without end is heard again the next time. */
#define ABSORB_MAX 1024

/* All that is kept of what QEMU tells: a name that is missing here never comes, neither to classify
 * nor to a qmp_wait_event. */
const char *const qemu_events[] = {
	"STOP",
	"RESUME",
	"RESET",
	"GUEST_PANICKED",
	"SHUTDOWN",
	"MIGRATION",      /* qemu_activate */
	"DEVICE_DELETED", /* note_deleted */
	NULL,
};

static void push(struct qemu *q, enum guest_event ev)
{
	assert(ev != GUEST_EVENT_NONE && ev != GUEST_EVENT_GONE);
	assert(q->events_n <= GUEST_EVENTS_MAX && q->events_head < GUEST_EVENTS_MAX);
	size_t newest = (q->events_head + q->events_n + GUEST_EVENTS_MAX - 1) % GUEST_EVENTS_MAX;
	/* The same again says nothing new, and would push out what does. */
	bool again = q->events_n && q->events[newest] == ev;
	if (!again && q->events_n == GUEST_EVENTS_MAX) { /* nobody asks: the newest tell more */
		q->events_head = (q->events_head + 1) % GUEST_EVENTS_MAX;
		q->events_n--;
	}
	if (!again)
		q->events[(q->events_head + q->events_n++) % GUEST_EVENTS_MAX] = ev;
	if (ev == GUEST_EVENT_RESUMED || ev == GUEST_EVENT_STOPPED)
		q->runs = ev == GUEST_EVENT_RESUMED;
	if (ev == GUEST_EVENT_PANICKED)
		q->panicked = true;
	if (ev == GUEST_EVENT_RESUMED || ev == GUEST_EVENT_RESET)
		q->panicked = false;
	q->ran |= q->standing && q->runs;
	q->was_reset |= q->standing && ev == GUEST_EVENT_RESET;
}

static bool is_action(json_t *event, const char *action)
{
	const char *s =
		json_string_value(json_object_get(json_object_get(event, "data"), "action"));
	return s && !strcmp(s, action);
}

static enum guest_event classify(json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));
	if (!strcmp(name, "STOP"))
		return GUEST_EVENT_STOPPED;
	if (!strcmp(name, "RESUME"))
		return GUEST_EVENT_RESUMED;
	if (!strcmp(name, "RESET"))
		return GUEST_EVENT_RESET;
	/* With -action panic=none in the VM's own command the guest just goes on: nothing
	 * happened. */
	if (!strcmp(name, "GUEST_PANICKED"))
		return is_action(event, "pause") ? GUEST_EVENT_PANICKED : GUEST_EVENT_NONE;
	/* SHUTDOWN from outside (SIGTERM, quit) is no wish of the guest: it is a QEMU going away.
	 */
	if (!strcmp(name, "SHUTDOWN") &&
		json_is_true(json_object_get(json_object_get(event, "data"), "guest")))
		return GUEST_EVENT_SHUTDOWN;
	return GUEST_EVENT_NONE;
}

/* A guest that panicked runs on for a moment until QEMU stops it, long enough to reset itself: it
 * is still one that panicked. */
static bool dies_on(struct qemu *q, enum guest_event ev, json_t *event)
{
	if (!q->panicked || ev != GUEST_EVENT_RESET ||
		!json_is_true(json_object_get(json_object_get(event, "data"), "guest")))
		return false;
	q->was_reset |= q->standing;
	return true;
}

/* DEVICE_DELETED, for inventory.c.  Parts of a device go with it; what was plugged later is no
 * loss. */
static void note_deleted(struct qemu *q, json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));
	json_t *data = json_object_get(event, "data");
	const char *path = json_string_value(json_object_get(data, "path"));
	if (strcmp(name, "DEVICE_DELETED") || !path || !json_object_get(q->first_devices, path))
		return;
	const char *leaf = strrchr(path, '/');
	q->replaced++;
	snprintf(q->replaced_device, sizeof q->replaced_device, "%s", leaf ? leaf + 1 : path);
}

bool qemu_absorb(struct qemu *q, enum guest_event own)
{
	bool found = false;
	json_t *e;
	for (int i = 0; i < ABSORB_MAX && qmp_next_event(q->qmp, &e) == 1; i++) {
		enum guest_event ev = classify(e);
		bool dies = dies_on(q, ev, e);
		note_deleted(q, e);
		json_decref(e);
		if (ev == GUEST_EVENT_NONE || dies)
			continue;
		if (ev == own && !found) {
			found = true;
			q->runs = ev == GUEST_EVENT_RESUMED;
		} else
			push(q, ev);
	}
	return found;
}

/* The second session gets all events too.  Nobody reads them there, but QEMU would buffer them
 * without bound once the socket is full. */
static void drain_oob(struct qemu *q)
{
	json_t *e;
	for (int i = 0; i < ABSORB_MAX && qmp_next_event(q->oob, &e) == 1; i++)
		json_decref(e);
	q->resumes = 0;
}

enum guest_event qemu_next_event(struct guest *g)
{
	struct qemu *q = qemu_of(g);
	/* Looked at first: whatever a dead QEMU had to say is then already in the socket. */
	bool gone = !guest_alive(&q->guest);
	qemu_absorb(q, GUEST_EVENT_NONE);
	drain_oob(q);
	if (!q->events_n)
		return gone ? GUEST_EVENT_GONE : GUEST_EVENT_NONE;
	enum guest_event ev = q->events[q->events_head];
	q->events_head = (q->events_head + 1) % GUEST_EVENTS_MAX;
	q->events_n--;
	return ev;
}

void qemu_event_back(struct guest *g, enum guest_event ev)
{
	struct qemu *q = qemu_of(g);
	assert(ev != GUEST_EVENT_NONE && ev != GUEST_EVENT_GONE); /* that one comes by itself */
	assert(q->events_n <= GUEST_EVENTS_MAX && q->events_head < GUEST_EVENTS_MAX);
	if (q->events_n == GUEST_EVENTS_MAX)
		q->events_n--; /* the newest goes */
	q->events_head = (q->events_head + GUEST_EVENTS_MAX - 1) % GUEST_EVENTS_MAX;
	q->events[q->events_head] = ev;
	q->events_n++;
}

int qemu_pause(struct guest *g, uint64_t timeout_ns, bool *ret_was_running, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	qemu_absorb(q, GUEST_EVENT_NONE);
	q->runs = false;
	int r = qmp_command(q->qmp, "stop", NULL, timeout_ns, NULL, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	/* One that panicked is stopped by QEMU, and if we were the first, QEMU forgets that it
	 * would have been: our `cont` must not let it go on. */
	*ret_was_running = qemu_absorb(q, GUEST_EVENT_STOPPED) && !q->panicked;
	/* Somebody else's `cont` may follow on our `stop` before we have read of it. */
	q->standing = true;
	q->ran = q->runs;
	q->was_reset = false;
	return 0;
}

int qemu_why_stopped(
	struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	json_t *status = NULL;
	int r = qmp_command(q->qmp, "query-status", NULL, timeout_ns, &status, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	const char *s = json_string_value(json_object_get(status, "status"));
	*ret = !s                             ? GUEST_EVENT_STOPPED
	       : !strcmp(s, "running")        ? GUEST_EVENT_NONE
	       : !strcmp(s, "shutdown")       ? GUEST_EVENT_SHUTDOWN
	       : !strcmp(s, "guest-panicked") ? GUEST_EVENT_PANICKED
					      : GUEST_EVENT_STOPPED;
	if (*ret == GUEST_EVENT_STOPPED && q->panicked)
		*ret = GUEST_EVENT_PANICKED;
	json_decref(status);
	return 0;
}

int qemu_cont(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	qemu_absorb(q, GUEST_EVENT_NONE);
	int r = qmp_command(q->qmp, "cont", NULL, timeout_ns, NULL, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	qemu_absorb(q, GUEST_EVENT_RESUMED);
	q->standing = q->panicked = false;
	if (++q->resumes == 64)
		drain_oob(q);
	return 0;
}

bool qemu_take_reset(struct guest *g)
{
	struct qemu *q = qemu_of(g);
	qemu_absorb(q, GUEST_EVENT_NONE);
	bool was = q->was_reset;
	q->was_reset = false;
	return was;
}

int qemu_stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	/* What happened before a command is told before its answer: guest_resume's, or this
	 * one's. */
	enum guest_event now;
	int r = q->standing ? qemu_why_stopped(&q->guest, timeout_ns, &now, err) : 0;
	if (r < 0)
		return r;
	qemu_absorb(q, GUEST_EVENT_NONE);
	if (!q->ran && !q->was_reset)
		return 0;
	return mc_error_set(err, -EIO, MC_ECLASS_STATE,
		"somebody else continued or reset the guest of %s while it was paused for a "
		"checkpoint, which is therefore not whole",
		q->name);
}

int qemu_reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	int r = qmp_command(q->qmp, "system_reset", NULL, timeout_ns, NULL, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}
