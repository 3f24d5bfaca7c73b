/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/control/request.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include <errno.h>
#include <string.h>

#define NAMES_MAX 64 /* verbs or arguments considered when looking for the nearest name */

/* Words of the client are quoted in messages; a long one is cut so that the sentence survives. */
#define WORD "%.60s"

static const struct control_verb *find_verb(const struct control_verb *verbs, const char *name)
{
	for (const struct control_verb *v = verbs; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

static int unknown_verb(const struct control_verb *verbs, const char *name, struct mc_error *err)
{
	const char *names[NAMES_MAX];
	size_t n = 0;
	for (const struct control_verb *v = verbs; v->name && n < NAMES_MAX; v++)
		names[n++] = v->name;
	const char *near = mc_nearest(name, names, n);
	if (near)
		return mc_error_set(err, -EOPNOTSUPP, MC_ECLASS_BAD_REQUEST,
			"there is no verb '" WORD "'; did you mean '%s'?", name, near);
	return mc_error_set(err, -EOPNOTSUPP, MC_ECLASS_BAD_REQUEST,
		"there is no verb '" WORD "'; 'mcctl help' lists the verbs", name);
}

static size_t count_args(const struct control_verb *verb)
{
	size_t n = 0;
	while (n < sizeof verb->args / sizeof *verb->args && verb->args[n].name)
		n++;
	return n;
}

static int unknown_arg(const struct control_verb *verb, const char *name, struct mc_error *err)
{
	const char *names[NAMES_MAX];
	size_t n = count_args(verb);
	for (size_t i = 0; i < n; i++)
		names[i] = verb->args[i].name;
	const char *near = n ? mc_nearest(name, names, n) : NULL;
	if (near)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'%s' has no argument '" WORD "'; did you mean '%s'?", verb->name, name,
			near);
	if (n == 0)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'%s' takes no arguments, but '" WORD "' was given", verb->name, name);
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"'%s' has no argument '" WORD "'; 'mcctl %s --help' lists them", verb->name, name,
		verb->name);
}

static bool has_type(const json_t *value, enum control_arg_type type)
{
	switch (type) {
	case CONTROL_STRING:
		return json_is_string(value);
	case CONTROL_BOOL:
		return json_is_boolean(value);
	case CONTROL_INT:
		return json_is_integer(value);
	}
	return false;
}

static const char *type_name(enum control_arg_type type)
{
	return type == CONTROL_STRING ? "a string"
	       : type == CONTROL_BOOL ? "true or false"
				      : "a whole number";
}

static int check_args(const struct control_verb *verb, json_t *args, struct mc_error *err)
{
	size_t n = count_args(verb);
	const char *key;
	json_t *value;
	json_object_foreach(args, key, value) {
		size_t i = 0;
		while (i < n && strcmp(verb->args[i].name, key))
			i++;
		if (i == n)
			return unknown_arg(verb, key, err);
		if (!has_type(value, verb->args[i].type))
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"the argument '%s' of '%s' must be %s", key, verb->name,
				type_name(verb->args[i].type));
	}
	for (size_t i = 0; i < n; i++)
		if (verb->args[i].required && !json_object_get(args, verb->args[i].name))
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"'%s' needs the argument '%s' (%s)", verb->name, verb->args[i].name,
				type_name(verb->args[i].type));
	return 0;
}

/* A misspelt member is refused, not skipped: {"argument": {"force": false}} must not run the verb
 * without its arguments. */
static int check_members(json_t *request, struct mc_error *err)
{
	static const char *const known[] = {"id", "execute", "arguments"};
	const char *key;
	json_t *value;
	json_object_foreach(request, key, value) {
		size_t i = 0;
		while (i < 3 && strcmp(known[i], key))
			i++;
		if (i < 3)
			continue;
		const char *near = mc_nearest(key, known, 3);
		return mc_error_set(err, -EBADMSG, MC_ECLASS_BAD_REQUEST,
			"a request has the members id, execute and arguments, but not '" WORD
			"'%s%s%s",
			key, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
	}
	return 0;
}

int control_parse(const char *line, size_t len, const struct control_verb *verbs,
	struct control_call *ret, struct mc_error *err)
{
	ret->id = json_null();
	if (len > CONTROL_LINE_MAX)
		return mc_error_set(err, -EMSGSIZE, MC_ECLASS_BAD_REQUEST,
			"a request line has at most %d bytes", CONTROL_LINE_MAX);

	json_error_t why;
	json_auto_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);
	if (!request)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_BAD_REQUEST,
			"the request is not a line of JSON (at byte %d: %.120s)", why.position,
			why.text);
	if (!json_is_object(request))
		return mc_error_set(err, -EBADMSG, MC_ECLASS_BAD_REQUEST,
			"the request is JSON, but not an object with the member 'execute'");
	json_t *id = json_object_get(request, "id");
	if (id)
		ret->id = json_incref(id);

	int r = check_members(request, err);
	if (r < 0)
		return r;
	const char *name = json_string_value(json_object_get(request, "execute"));
	if (!name)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_BAD_REQUEST,
			"the request needs the member 'execute', a string with the name of a verb");
	json_t *args = json_object_get(request, "arguments");
	if (args && !json_is_object(args))
		return mc_error_set(err, -EBADMSG, MC_ECLASS_BAD_REQUEST,
			"the member 'arguments' of '" WORD "' must be an object", name);
	const struct control_verb *verb = find_verb(verbs, name);
	if (!verb)
		return unknown_verb(verbs, name, err);
	json_auto_t *checked = args ? json_incref(args) : json_object();
	if (!checked)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory to serve the request; try again");
	r = check_args(verb, checked, err);
	if (r < 0)
		return r;
	ret->verb = verb;
	ret->args = mc_steal_ptr(checked);
	return 0;
}

void control_call_clear(struct control_call *call)
{
	json_decref(call->id);
	json_decref(call->args);
	*call = (struct control_call){0};
}
