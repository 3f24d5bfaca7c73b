// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What happens to the guest by itself, told apart from what we do to it.
 *
 * `stop` and `cont` make QEMU send STOP and RESUME when they changed something, always in front of
 * their answer, and nothing when the VM was already so.  Hence: take in everything before the
 * command (not ours), run it, and the first matching event that came meanwhile is its echo.
 */
#include "mcd/guest/guest-private.h"

#include <errno.h>
#include <string.h>

static void push(struct guest *g, enum guest_event ev)
{
	if (g->events_n == GUEST_EVENTS_MAX) { /* nobody asks: the newest tell more */
		g->events_head = (g->events_head + 1) % GUEST_EVENTS_MAX;
		g->events_n--;
	}
	g->events[(g->events_head + g->events_n++) % GUEST_EVENTS_MAX] = ev;
	if (ev == GUEST_EVENT_RESUMED || ev == GUEST_EVENT_STOPPED)
		g->runs = ev == GUEST_EVENT_RESUMED;
	g->ran |= g->standing && g->runs;
	g->was_reset |= g->standing && ev == GUEST_EVENT_RESET;
}

static bool is_action(json_t *event, const char *action)
{
	const char *s = json_string_value(json_object_get(json_object_get(event, "data"), "action"));
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
	/* With -action panic=none in the VM's own command the guest just goes on: nothing happened. */
	if (!strcmp(name, "GUEST_PANICKED"))
		return is_action(event, "pause") ? GUEST_EVENT_PANICKED : GUEST_EVENT_NONE;
	/* SHUTDOWN from outside (SIGTERM, quit) is no wish of the guest: it is a QEMU going away.
	 */
	if (!strcmp(name, "SHUTDOWN") &&
		json_is_true(json_object_get(json_object_get(event, "data"), "guest")))
		return GUEST_EVENT_SHUTDOWN;
	return GUEST_EVENT_NONE;
}

bool guest_absorb(struct guest *g, enum guest_event own)
{
	bool found = false;
	json_t *e;
	while (qmp_next_event(g->qmp, &e) == 1) {
		enum guest_event ev = classify(e);
		json_decref(e);
		if (ev == GUEST_EVENT_NONE)
			continue;
		if (ev == own && !found) {
			found = true;
			g->runs = ev == GUEST_EVENT_RESUMED;
		} else
			push(g, ev);
	}
	return found;
}

/* The second session gets all events too.  Nobody reads them there, but QEMU would buffer them
 * without bound once the socket is full. */
static void drain_oob(struct guest *g)
{
	json_t *e;
	while (qmp_next_event(g->oob, &e) == 1)
		json_decref(e);
	g->resumes = 0;
}

enum guest_event guest_next_event(struct guest *g)
{
	/* Looked at first: whatever a dead QEMU had to say is then already in the socket. */
	bool gone = !guest_alive(g);
	guest_absorb(g, GUEST_EVENT_NONE);
	drain_oob(g);
	if (!g->events_n)
		return gone ? GUEST_EVENT_GONE : GUEST_EVENT_NONE;
	enum guest_event ev = g->events[g->events_head];
	g->events_head = (g->events_head + 1) % GUEST_EVENTS_MAX;
	g->events_n--;
	return ev;
}

void guest_event_back(struct guest *g, enum guest_event ev)
{
	if (g->events_n == GUEST_EVENTS_MAX)
		g->events_n--; /* the newest goes */
	g->events_head = (g->events_head + GUEST_EVENTS_MAX - 1) % GUEST_EVENTS_MAX;
	g->events[g->events_head] = ev;
	g->events_n++;
}

int guest_pause(struct guest *g, uint64_t timeout_ns, bool *ret_was_running, struct mc_error *err)
{
	guest_absorb(g, GUEST_EVENT_NONE);
	g->runs = false;
	int r = qmp_command(g->qmp, "stop", NULL, timeout_ns, NULL, err);
	if (r < 0)
		return guest_explain(g, r, err);
	*ret_was_running = guest_absorb(g, GUEST_EVENT_STOPPED);
	/* Somebody else's `cont` may follow on our `stop` before we have read of it. */
	g->standing = true;
	g->ran = g->runs;
	g->was_reset = false;
	return 0;
}

int guest_why_stopped(struct guest *g, uint64_t timeout_ns, enum guest_event *ret, struct mc_error *err)
{
	json_t *status = NULL;
	int r = qmp_command(g->qmp, "query-status", NULL, timeout_ns, &status, err);
	if (r < 0)
		return guest_explain(g, r, err);
	const char *s = json_string_value(json_object_get(status, "status"));
	*ret = !s			      ? GUEST_EVENT_STOPPED
	       : !strcmp(s, "running")	      ? GUEST_EVENT_NONE
	       : !strcmp(s, "shutdown")	      ? GUEST_EVENT_SHUTDOWN
	       : !strcmp(s, "guest-panicked") ? GUEST_EVENT_PANICKED
					      : GUEST_EVENT_STOPPED;
	json_decref(status);
	return 0;
}

int guest_resume(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	guest_absorb(g, GUEST_EVENT_NONE);
	int r = qmp_command(g->qmp, "cont", NULL, timeout_ns, NULL, err);
	if (r < 0)
		return guest_explain(g, r, err);
	guest_absorb(g, GUEST_EVENT_RESUMED);
	g->standing = false;
	if (++g->resumes == 64)
		drain_oob(g);
	return 0;
}

int guest_stood_still(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	/* What happened before a command is told before its answer: guest_resume's, or this one's. */
	enum guest_event now;
	int r = g->standing ? guest_why_stopped(g, timeout_ns, &now, err) : 0;
	if (r < 0)
		return r;
	guest_absorb(g, GUEST_EVENT_NONE);
	if (!g->ran && !g->was_reset)
		return 0;
	return mc_error_set(err, -EIO, MC_ECLASS_STATE,
		"Somebody else continued or reset the guest of %s while it was paused for a checkpoint, which "
		"is therefore not whole",
		g->name);
}

int guest_reset(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	int r = qmp_command(g->qmp, "system_reset", NULL, timeout_ns, NULL, err);
	return r < 0 ? guest_explain(g, r, err) : 0;
}
