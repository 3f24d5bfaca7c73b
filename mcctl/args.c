/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/verb.h"

#include "common/parse.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* Values that getopt_long returns, beyond all letters; verb options follow from OPT_VERB on. */
enum { OPT_JSON = 1000, OPT_SOCKET, OPT_CONFIG, OPT_HELP, OPT_VERSION, OPT_VERB };

#define N_GLOBAL 5
static const struct option global_options[N_GLOBAL] = {
	{"json", no_argument, NULL, OPT_JSON},
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"config", required_argument, NULL, OPT_CONFIG},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
};

static size_t count_options(const struct verb *verb)
{
	size_t n = 0;
	while (n < VERB_OPTIONS_MAX && verb->options[n].name)
		n++;
	return n;
}

const char *verb_option(const struct verb_args *args, const char *name)
{
	for (size_t i = 0; i < count_options(args->verb); i++)
		if (!strcmp(args->verb->options[i].name, name))
			return args->values[i];
	return NULL;
}

const char *verb_operand(const struct verb_args *args, size_t n)
{
	return n < args->n_operands ? args->operands[n] : NULL;
}

/* getopt has found something wrong with `word`: say what. */
static int bad_option(int what, const char *word, const struct option *options,
	const struct verb *verb, struct mc_error *err)
{
	char letter[] = {'-', (char)optopt, '\0'};
	if (optopt > 0 && optopt < OPT_JSON) /* a short option, perhaps in the middle of a word */
		word = letter;
	if (what == ':')
		return mc_error_set(
			err, -EINVAL, MC_ECLASS_INVALID, "the option '%.60s' needs a value", word);
	const char *names[N_GLOBAL + VERB_OPTIONS_MAX];
	size_t n = 0, len = strcspn(word, "=");
	for (; options[n].name; n++)
		names[n] = options[n].name;
	char name[64];
	snprintf(name, sizeof name, "%.*s", (int)(len < 60 ? len : 60), word);
	for (size_t i = 0; i < n && name[0] == '-' && name[1] == '-'; i++)
		if (!strcmp(name + 2, names[i]))
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"the option '%s' takes no value", name);
	const char *near = mc_nearest(name + strspn(name, "-"), names, n);
	if (near)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"there is no option '%s'; did you mean '--%s'?", name, near);
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"there is no option '%s'; 'mcctl help%s%s' lists the options", name,
		verb ? " " : "", verb ? verb->name : "");
}

/* Takes a global option; 0 when it was one that goes on, else what the caller returns. */
static int take_global(struct mcctl *m, int opt)
{
	switch (opt) {
	case OPT_JSON:
		m->json = true;
		return 0;
	case OPT_SOCKET:
		m->socket = optarg;
		return 0;
	case OPT_CONFIG:
		m->config = optarg;
		return 0;
	case 'h':
	case OPT_HELP:
		return 1;
	case OPT_VERSION:
		return 2;
	}
	return -EINVAL;
}

int args_parse_global(struct mcctl *m, int argc, char **argv, int *ret_index, struct mc_error *err)
{
	struct option options[N_GLOBAL + 1] = {0};
	memcpy(options, global_options, sizeof global_options);
	opterr = 0;
	for (;;) {
		int opt = getopt_long(argc, argv, "+:h", options, NULL); /* "+": up to the verb */
		if (opt < 0)
			break;
		if (opt == '?' || opt == ':')
			return bad_option(opt, argv[optind - 1], options, NULL, err);
		int r = take_global(m, opt);
		if (r != 0)
			return r;
	}
	*ret_index = optind;
	return 0;
}

/* Everything is sent as JSON, which is UTF-8. */
static bool is_text(const char *word)
{
	json_auto_t *j = word ? json_string(word) : NULL;
	return !word || j;
}

static int check_words(const struct verb_args *args, struct mc_error *err)
{
	const struct verb *verb = args->verb;
	bool text = true;
	for (size_t i = 0; i < VERB_OPERANDS_MAX; i++)
		text = text && is_text(args->operands[i]);
	for (size_t i = 0; i < VERB_OPTIONS_MAX; i++)
		text = text && is_text(args->values[i]);
	if (!text)
		return mc_error_set(err, -EILSEQ, MC_ECLASS_INVALID,
			"an argument is not text in UTF-8; names and values must be");
	if (args->n_operands < verb->min_operands)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'mcctl %s' needs %s; see 'mcctl help %s'", verb->name, verb->operands,
			verb->name);
	for (size_t i = 0; i < args->n_operands; i++)
		if (!*args->operands[i])
			return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
				"an argument of 'mcctl %s' is empty; see 'mcctl help %s'",
				verb->name, verb->name);
	return 0;
}

int args_parse_verb(struct mcctl *m, const struct verb *verb, int argc, char **argv,
	struct verb_args *ret, struct mc_error *err)
{
	struct option options[N_GLOBAL + VERB_OPTIONS_MAX + 1] = {0};
	struct verb_args args = {.verb = verb};
	memcpy(options, global_options, sizeof global_options);
	size_t n = count_options(verb);
	for (size_t i = 0; i < n; i++)
		options[N_GLOBAL + i] = (struct option){verb->options[i].name,
			verb->options[i].value ? required_argument : no_argument, NULL,
			OPT_VERB + (int)i};
	optind = 0; /* glibc: begin anew */
	for (;;) {
		/* "-": operands come as option 1 in their place, so that nothing is reordered and
		 * argv[optind - 1] is the word that was read last. */
		int opt = getopt_long(argc, argv, "-:hv", options, NULL);
		if (opt < 0)
			break;
		if (opt == 1 && args.n_operands == verb->max_operands)
			goto too_many;
		if (opt == 1 && optarg) {
			args.operands[args.n_operands++] = optarg;
			continue;
		}
		if (opt == '?' || opt == ':')
			return bad_option(opt, argv[optind - 1], options, verb, err);
		if (opt == 'v' && (n == 0 || strcmp(verb->options[0].name, "verbose")))
			return bad_option('?', argv[optind - 1], options, verb, err);
		if (opt == 'v')
			args.values[0] = "";
		else if (opt >= OPT_VERB && opt < OPT_VERB + VERB_OPTIONS_MAX)
			args.values[opt - OPT_VERB] = optarg ? optarg : "";
		else if (take_global(m, opt) != 0)
			return 1;
	}
	for (; optind < argc; optind++) { /* behind "--" */
		if (args.n_operands == verb->max_operands)
			goto too_many;
		args.operands[args.n_operands++] = argv[optind];
	}
	int r = check_words(&args, err);
	if (r < 0)
		return r;
	*ret = args;
	return 0;
too_many:
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"'mcctl %s' was given too many arguments; see 'mcctl help %s'", verb->name,
		verb->name);
}
