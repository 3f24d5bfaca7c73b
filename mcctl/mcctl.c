/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/verb.h"

#include "mcctl/output.h"
#include <string.h>

static const struct verb verbs[] = {
	{"status", "[VM]", 0, 1, "show VMs, hosts and what an epoch costs",
		"A line per VM and per host. With a VM's name, or --verbose: its details and the\n"
		"barometer, the time that each step of an epoch takes.",
		{{"verbose", NULL, "details of every VM"},
			{"watch", NULL, "show it again every second, until interrupted"}},
		run_status},
	{"start", "VM", 1, 1, "start a VM on this host",
		"Refused when another host owns the VM, or holds a protected copy of it.",
		{{"force", NULL, "start afresh and give up the protected copy"}}, run_start},
	{"stop", "VM", 1, 1, "shut a VM down, or end it with --force", NULL,
		{{"force", NULL, "end QEMU at once instead of asking the guest"}}, run_stop},
	{"protect", "VM", 1, 1, "keep a VM's image on another host, ready to go on there",
		"Returns when the VM is protected. On a terminal the progress of the first copy\n"
		"is shown.",
		{{"peer", "HOST", "the host that shall take over (required)"},
			{"delay", "DURATION", "time between checkpoints, 1ms to 10s"},
			{"max-buffer", "SIZE", "memory for checkpoints, 16MiB or more"},
			{"no-wait", NULL, "return as soon as the copying has begun"}},
		run_protect},
	{"unprotect", "VM", 1, 1, "end the protection; the VM runs on", NULL, {{0}}, run_unprotect},
	{"set", "VM KEY=VALUE...", 2, VERB_OPERANDS_MAX, "change a running VM's knobs",
		"Keys: delay (1ms to 10s), max-buffer (memory for checkpoints, 16MiB or more).",
		{{0}}, run_set},
	{"failover", "VM", 1, 1, "move a protected VM to its standby, planned", NULL, {{0}},
		run_failover},
	{"takeover", "VM", 1, 1, "run a VM here whose primary is lost, by your decision",
		"For failover = manual, and, with --force, for when no majority of the voters can\n"
		"answer. Run it where the copy is. --force can make two copies of the VM run, if "
		"the\n"
		"other host is not as dead as it looks: it asks for the VM's name.",
		{{"force", NULL, "your word in place of the majority's"},
			{"confirm", "VM", "the VM's name again, instead of being asked for it"}},
		run_takeover},
	{"verify", "VM", 1, 1, "compare both sides of a protected VM while it runs",
		"Memory and disks, each range at some committed epoch; the VM's pauses are no "
		"longer\n"
		"than otherwise. Exit code 1 when something differs.",
		{{0}}, run_verify},
	{"wait", "VM STATE", 2, 2, "wait until a VM is in a state", NULL,
		{{"timeout", "DURATION", "give up after this long"}}, run_wait},
	{"events", "", 0, 0, "print what happens, one line each, until interrupted", NULL,
		{{"history", NULL, "begin with the events before now that the daemon remembers"},
			{"now", NULL, "print those and end"}},
		run_events},
	{"check", "[VM]", 0, 1, "check whether this host, or a VM, is fit for protection",
		"Exit code 1 when a check fails.", {{0}}, run_check},
	{"dump", "[VM]", 0, 1, "print the effective configuration and where each value is from",
		NULL, {{0}}, run_dump},
	{"keygen", "[PATH]", 0, 1, "make a new cluster key; every host gets a copy",
		"Default path: key-file of mcd.conf. An existing file is not replaced.", {{0}},
		run_keygen},
	{"version", "", 0, 0, "print the versions of mcctl and mcd", NULL, {{0}}, run_version},
	{"help", "[VERB]", 0, 1, "explain a verb", NULL,
		{{"completion", NULL, "print the bash completion"}}, run_help},
	{0},
};

/* A command line that cannot be parsed to its end may still say how to report that. */
static int wrong_usage(struct mcctl *m, char **argv, const struct mc_error *err)
{
	for (char **word = argv + 1; *word && strcmp(*word, "--"); word++)
		m->json = m->json || !strcmp(*word, "--json");
	return output_usage(m, err);
}

int main(int argc, char **argv)
{
	struct mcctl m = {.verbs = verbs};
	struct mc_error err = MC_ERROR_INIT;
	struct verb_args args = {0};
	const struct verb *verb = NULL;
	int index;
	int r = args_parse_global(&m, argc, argv, &index, &err);
	if (r < 0)
		return wrong_usage(&m, argv, &err);
	if (r == 2)
		return run_version(&m, &args);
	if (r == 1 || index == argc) {
		help_overview(verbs);
		return r == 1 ? MCCTL_OK : MCCTL_USAGE;
	}
	r = find_verb(verbs, argv[index], &verb, &err);
	if (r >= 0)
		r = args_parse_verb(&m, verb, argc - index, argv + index, &args, &err);
	if (r < 0)
		return wrong_usage(&m, argv, &err);
	if (r == 1) {
		help_verb(verb);
		return MCCTL_OK;
	}
	return verb->run(&m, &args);
}
