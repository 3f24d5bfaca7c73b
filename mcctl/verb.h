/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcctl: one row of a table a verb (mcctl.c).  The row says what the verb takes, so that parsing,
 * help and shell completion come from it; the verb's function gets checked words and returns an
 * exit code.
 */
#pragma once
#include "common/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { /* exit codes; part of the interface (mcctl(8)) */
	MCCTL_OK = 0,
	MCCTL_REFUSED = 1, /* the daemon said no, or a check failed */
	MCCTL_USAGE = 2,
	MCCTL_UNREACHABLE = 3, /* no daemon answers */
};

/* Not among common/error.h's classes: it never travels, it is about not being able to. */
#define MCCTL_ECLASS_UNREACHABLE "DaemonUnreachable"

#define VERB_OPTIONS_MAX  6
#define VERB_OPERANDS_MAX 8

struct verb;

struct mcctl {                    /* what the global options said */
	const struct verb *verbs; /* the table, NULL-name terminated */
	bool json;
	const char *socket; /* --socket, or NULL */
	const char *config; /* --config, or NULL */
};

struct verb_option {
	const char *name;  /* without "--" */
	const char *value; /* what it takes, for the help: "DURATION"; NULL: a flag */
	const char *help;
};

struct verb_args {
	const struct verb *verb;
	size_t n_operands;
	const char *operands[VERB_OPERANDS_MAX];
	const char *values[VERB_OPTIONS_MAX]; /* as in verb->options: NULL not given, "" a flag */
};

struct verb {
	const char *name;
	const char *operands; /* for the help: "VM [STATE]"; completion knows VM, STATE and PATH */
	size_t min_operands, max_operands;
	const char *help; /* one line */
	const char *more; /* further sentences for `mcctl help VERB`, or NULL */
	struct verb_option options[VERB_OPTIONS_MAX];
	int (*run)(const struct mcctl *m, const struct verb_args *args);
};

/* The value of an option of this verb: NULL when it was not given, "" for a flag that was. */
const char *verb_option(const struct verb_args *args, const char *name);
/* The n-th operand or NULL. */
const char *verb_operand(const struct verb_args *args, size_t n);

/* args.c: parses the words behind the verb; global options are taken anywhere.  1: help was asked
 * for; negative: usage error. */
int args_parse_verb(struct mcctl *m, const struct verb *verb, int argc, char **argv,
	struct verb_args *ret, struct mc_error *err);
/* The words in front of the verb; ret_index: where it stands in argv.  1: --help, 2: --version. */
int args_parse_global(struct mcctl *m, int argc, char **argv, int *ret_index, struct mc_error *err);

/* locate.c: the control socket's path by --socket, --config, or the default configuration. */
int locate_socket(const struct mcctl *m, char *ret, size_t size, struct mc_error *err);
int locate_key(const struct mcctl *m, char *ret, size_t size, struct mc_error *err);

/* help.c */
void help_overview(const struct verb *verbs);
void help_verb(const struct verb *verb);
int find_verb(
	const struct verb *verbs, const char *name, const struct verb **ret, struct mc_error *err);

/* One request without options: connects, asks, and hands back the result or reports the error and
 * returns its exit code.  timeout_ns 0: as long as the daemon takes.  args is stolen. */
int call_daemon(const struct mcctl *m, const char *verb, json_t *args, unsigned timeout_s,
	json_t **ret_result);

int run_check(const struct mcctl *m, const struct verb_args *args);
int run_dump(const struct mcctl *m, const struct verb_args *args);
int run_events(const struct mcctl *m, const struct verb_args *args);
int run_takeover(const struct mcctl *m, const struct verb_args *args);
int run_failover(const struct mcctl *m, const struct verb_args *args);
int run_help(const struct mcctl *m, const struct verb_args *args);
int run_keygen(const struct mcctl *m, const struct verb_args *args);
int run_protect(const struct mcctl *m, const struct verb_args *args);
int run_set(const struct mcctl *m, const struct verb_args *args);
int run_start(const struct mcctl *m, const struct verb_args *args);
int run_status(const struct mcctl *m, const struct verb_args *args);
int run_stop(const struct mcctl *m, const struct verb_args *args);
int run_unprotect(const struct mcctl *m, const struct verb_args *args);
int run_verify(const struct mcctl *m, const struct verb_args *args);
int run_version(const struct mcctl *m, const struct verb_args *args);
int run_wait(const struct mcctl *m, const struct verb_args *args);
