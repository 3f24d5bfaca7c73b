/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Help and shell completion, both from the table of verbs. */
#include "mcctl/output.h"

#include "common/parse.h"
#include <errno.h>
#include <string.h>

#define VERBS_MAX 32

static const char global_help[] =
	"  --json             print one JSON record (events: one each line)\n"
	"  --socket PATH      mcd's control socket\n"
	"  --config PATH      the mcd.conf that names it (default /etc/mcd/mcd.conf)\n"
	"  --help             explain the verb\n";

int find_verb(
	const struct verb *verbs, const char *name, const struct verb **ret, struct mc_error *err)
{
	const char *names[VERBS_MAX];
	size_t n = 0;
	for (const struct verb *v = verbs; v->name; v++) {
		if (!strcmp(v->name, name)) {
			*ret = v;
			return 0;
		}
		if (n < VERBS_MAX)
			names[n++] = v->name;
	}
	const char *near = mc_nearest(name, names, n);
	if (near)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"there is no verb '%.60s'; did you mean '%s'?", name, near);
	return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
		"there is no verb '%.60s'; 'mcctl help' lists the verbs", name);
}

void help_overview(const struct verb *verbs)
{
	puts("Usage: mcctl [OPTION]... VERB [ARGUMENT]...\n"
	     "\n"
	     "Controls mcd, which keeps virtual machines running when their host is lost.\n"
	     "\n"
	     "Verbs:");
	for (const struct verb *v = verbs; v->name; v++) {
		char usage[64];
		snprintf(usage, sizeof usage, "%s %s", v->name, v->operands);
		printf("  %-22s %s\n", usage, v->help);
	}
	printf("\nOptions, before or after the verb:\n%s"
	       "\n'mcctl help VERB' explains one. Exit codes: 0 done, 1 refused or a\n"
	       "check failed, 2 wrong usage, 3 mcd cannot be reached.\n",
		global_help);
}

void help_verb(const struct verb *verb)
{
	printf("Usage: mcctl %s%s%s [OPTION]...\n\n%c%s.\n", verb->name, *verb->operands ? " " : "",
		verb->operands, verb->help[0] - 'a' + 'A', verb->help + 1);
	if (verb->more)
		printf("%s\n", verb->more);
	printf("\nOptions:\n");
	for (size_t i = 0; i < VERB_OPTIONS_MAX && verb->options[i].name; i++) {
		const struct verb_option *o = &verb->options[i];
		char usage[40];
		snprintf(usage, sizeof usage, "--%s%s%s", o->name, o->value ? " " : "",
			o->value ? o->value : "");
		printf("  %-18s %s\n", usage, o->help);
	}
	fputs(global_help, stdout);
}

/* The words that may follow a verb, for `compgen -W`. */
static void print_words(const struct verb *verb)
{
	printf("\t%s) words='--json --socket --config --help", verb->name);
	for (size_t i = 0; i < VERB_OPTIONS_MAX && verb->options[i].name; i++)
		printf(" --%s", verb->options[i].name);
	fputs("'", stdout);
	if (strstr(verb->operands, "VM"))
		fputs("; operands=vm", stdout);
	else if (strstr(verb->operands, "PATH"))
		fputs("; operands=path", stdout);
	else if (strstr(verb->operands, "VERB"))
		fputs("; operands=verb", stdout);
	puts(" ;;");
}

static void print_completion(const struct verb *verbs)
{
	puts("# SPDX-License-Identifier: GPL-2.0-or-later\n"
	     "# Made by `mcctl help --completion`; bash completion of mcctl.\n"
	     "_mcctl()\n"
	     "{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	     "\tlocal verb='' words='' operands='' i\n"
	     "\tlocal -a where=()\n"
	     "\tCOMPREPLY=()\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in\n"
	     "\t\t--socket | --config) where=(\"${COMP_WORDS[i]}\" \"${COMP_WORDS[i+1]}\"); "
	     "((i++)) ;;\n"
	     "\t\t-*) ;;\n"
	     "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
	     "\t\tesac\n"
	     "\tdone");
	fputs("\tlocal verbs='", stdout);
	for (const struct verb *v = verbs; v->name; v++)
		printf("%s%s", v == verbs ? "" : " ", v->name);
	puts("'\n"
	     "\tcase $prev in\n"
	     "\t--socket | --config) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n"
	     "\t--peer) mapfile -t COMPREPLY < <(compgen -W \"$(mcctl \"${where[@]}\" status "
	     "2>/dev/null | sed -n 's/^host \\([^ ]*\\) .*/\\1/p')\" -- \"$cur\"); return ;;\n"
	     "\tesac\n"
	     "\tcase $verb in");
	for (const struct verb *v = verbs; v->name; v++)
		print_words(v);
	puts("\t*) words=\"$verbs --json --socket --config --help --version\" ;;\n"
	     "\tesac\n"
	     "\tif [[ $cur != -* ]]; then\n"
	     "\t\tcase $operands in\n"
	     "\t\tvm) words=$(mcctl \"${where[@]}\" status 2>/dev/null | sed -n "
	     "'s/^\\([^ ]*\\) role:.*/\\1/p')\n"
	     "\t\t\tcase $verb in\n"
	     "\t\t\twait) words+=' stopped starting unprotected syncing protected holding "
	     "standby-syncing standby taking-over failed' ;;\n"
	     "\t\t\tset) words+=' delay= max-buffer=' ;;\n"
	     "\t\t\tesac ;;\n"
	     "\t\tpath) mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return ;;\n"
	     "\t\tverb) words=$verbs ;;\n"
	     "\t\tesac\n"
	     "\tfi\n"
	     "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	     "}\n"
	     "complete -F _mcctl mcctl");
}

int run_help(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *name = verb_operand(args, 0);
	const struct verb *verb;
	if (verb_option(args, "completion")) {
		print_completion(m->verbs);
		return MCCTL_OK;
	}
	if (!name) {
		help_overview(m->verbs);
		return MCCTL_OK;
	}
	if (find_verb(m->verbs, name, &verb, &err) < 0)
		return output_usage(m, &err);
	help_verb(verb);
	return MCCTL_OK;
}
