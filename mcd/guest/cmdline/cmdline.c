/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The walk over the user's words: each option is looked up in options.c and kept, taken out,
 * changed or refused.  An option is "-name" or "--name"; an argument is the next word.
 */
#include "mcd/guest/cmdline/private.h"
#include "common/cleanup.h"
#include "mcd/config/words.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* The digest is over zero-terminated words, so that no two lists of words are the same text. */
static void digest_word(XXH3_state_t *digest, const char *word)
{
	XXH3_64bits_update(digest, word, strlen(word) + 1);
}

static void digest_option(
	XXH3_state_t *digest, const struct option_rule *rule, const char *name, const char *arg)
{
	enum option_kind kind = rule ? rule->kind : OPTION_PLAIN;
	struct qemu_opts o;

	switch (kind) {
	case OPTION_HOST:
	case OPTION_RUNAS:
	case OPTION_NAME:
	case OPTION_MEMORY: /* the backends' sizes are in the digest */
		return;
	case OPTION_SERIAL:
		digest_word(digest, name);
		digest_word(digest, strcmp(arg, "none") ? "some" : "none");
		return;
	case OPTION_CHARDEV:
		if (qemu_opts_parse(arg, "backend", &o, NULL) == 0) {
			const char *id = qemu_opts_get(&o, "id");
			digest_word(digest, name);
			digest_word(digest, id ? id : "");
			qemu_opts_clear(&o);
		}
		return;
	default:
		/* -M and -machine are the same. */
		digest_word(digest, kind == OPTION_MACHINE ? "machine" : name);
		digest_word(digest, arg ? arg : "");
	}
}

static void digest_rest(XXH3_state_t *digest, const struct planner *p)
{
	const struct cmdline_plan *plan = p->plan;
	char text[64];
	for (size_t i = 0; i < plan->n_ram; i++) {
		const struct cmdline_ram *ram = &plan->ram[i];
		snprintf(text, sizeof text, "%llu", (unsigned long long)ram->size);
		digest_word(digest, "ram");
		digest_word(digest, ram->id);
		digest_word(digest, text);
	}
	for (size_t i = 0; i < p->vm->n_nics; i++) {
		digest_word(digest, "nic");
		digest_word(digest, p->vm->nics[i].id);
		XXH3_64bits_update(digest, p->vm->nics[i].mac, sizeof p->vm->nics[i].mac);
	}
	/* not their files, which are each host's own */
	for (size_t i = 0; i < p->vm->n_disks; i++) {
		digest_word(digest, "disk");
		digest_word(digest, p->vm->disks[i].id);
	}
}

static int take_option(struct planner *p, const struct option_rule *rule, const char *name,
	const char *arg, bool *keep, char **replace, struct mc_error *err)
{
	switch (rule->kind) {
	case OPTION_PLAIN:
	case OPTION_HOST:
	case OPTION_SERIAL:
	case OPTION_CHARDEV:
		return 0;
	case OPTION_DROP:
		*keep = false;
		return 0;
	case OPTION_REFUSED:
		return cmdline_refuse(err, name, rule->has_arg ? arg : "", "%s", rule->advice);
	case OPTION_MEMORY:
		return cmdline_take_memory(p, arg, err);
	case OPTION_MACHINE:
		return cmdline_take_machine(p, arg, err);
	case OPTION_NUMA:
		return cmdline_take_numa(p, arg, err);
	case OPTION_OBJECT:
		return cmdline_take_object(p, arg, keep, err);
	case OPTION_NETDEV:
		return cmdline_take_netdev(p, arg, keep, err);
	case OPTION_NIC:
		p->nic_none = true;
		if (strcmp(arg, "none") == 0)
			return 0;
		return cmdline_refuse(err, name, arg,
			"mcd makes the network side itself: write a section [nic net0] with bridge "
			"= ..., and -device virtio-net-pci,netdev=net0 in the command for the "
			"guest's side");
	case OPTION_DEVICE:
		return cmdline_take_device(p, arg, replace, err);
	case OPTION_DRIVE:
		return cmdline_take_drive(p, arg, err);
	case OPTION_BLOCKDEV:
		return cmdline_take_blockdev(p, arg, err);
	case OPTION_DISK:
		cmdline_note_disk(p, name, arg);
		return 0;
	case OPTION_SET: /* -set netdev... or -set object... would change what we replace */
		if (!strncmp(arg, "device.", 7))
			return 0;
		return cmdline_refuse(err, name, arg,
			"only devices can be changed so: write it where it belongs");
	case OPTION_ACCEL:
		cmdline_look_accel(p, rule->has_arg ? arg : "kvm");
		return 0;
	case OPTION_CPU:
		cmdline_look_cpu(p, arg);
		return 0;
	case OPTION_RUNAS:
		return cmdline_take_runas(p, name, arg, err);
	case OPTION_NAME:
		p->plan->named = true;
		return 0;
	case OPTION_NODEFAULTS:
		p->nodefaults = true;
		return 0;
	}
	return 0;
}

static void keep_word(struct cmdline_plan *plan, char *word)
{
	plan->argv[plan->argc++] = word;
	plan->argv[plan->argc] = NULL;
}

/* Takes the option at words[*i], moves *i behind it.  The words that are kept move to the plan. */
static int take_words(struct planner *p, char **words, size_t n, size_t *i, XXH3_state_t *digest,
	struct mc_error *err)
{
	const char *word = words[*i];
	if (word[0] != '-')
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"the word \"%.64s\" belongs to no option: write a disk image as -drive "
			"file=..., and begin every key of the file in its first column",
			word);
	const char *name = word + (word[1] == '-' ? 2 : 1);
	const struct option_rule *rule = option_find(name);
	/* Of an option that we do not know we can only guess whether a word follows it. */
	bool has_arg = rule ? rule->has_arg : *i + 1 < n && words[*i + 1][0] != '-';
	if (!*name || (has_arg && *i + 1 == n))
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST, "%.64s: %s", word,
			*name ? "nothing follows this option in the command: complete it"
			      : "there is a dash without an option: take it out");
	const char *arg = has_arg ? words[*i + 1] : "";
	bool keep = true;
	_cleanup_free_ char *replace = NULL;
	int r = rule ? take_option(p, rule, name, arg, &keep, &replace, err) : 0;
	if (r < 0)
		return r;
	if (keep) {
		digest_option(digest, rule, name, replace ? replace : arg);
		keep_word(p->plan, mc_steal_ptr(words[*i]));
		if (has_arg)
			keep_word(p->plan,
				replace ? mc_steal_ptr(replace) : mc_steal_ptr(words[*i + 1]));
	}
	*i += has_arg ? 2 : 1;
	return 0;
}

static int plan_words(struct planner *p, char **words, size_t n, struct mc_error *err)
{
	struct cmdline_plan *plan = p->plan;
	if (n == 0 || words[0][0] == '-' || strchr(words[0], '='))
		return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST,
			"it must begin with the QEMU program, such as qemu-system-x86_64%s",
			n && strchr(words[0], '=') ? ", and cannot set variables of the environment"
						   : "");
	plan->argv = calloc(n + 1, sizeof *plan->argv);
	XXH3_state_t *digest = XXH3_createState();
	int r = 0;
	if (!plan->argv || !digest)
		r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	if (r == 0) {
		XXH3_64bits_reset(digest);
		const char *slash = strrchr(words[0], '/');
		digest_word(digest, slash ? slash + 1 : words[0]);
		keep_word(plan, mc_steal_ptr(words[0]));
	}
	for (size_t i = 1; i < n && r == 0;)
		r = take_words(p, words, n, &i, digest, err);
	if (r == 0)
		r = cmdline_settle_ram(p, err);
	if (r == 0) {
		cmdline_find_firmware(p);
		cmdline_find_agent(p);
	}
	if (r == 0) {
		plan->no_nic = p->vm->n_nics == 0 && !p->nodefaults && !p->nic_none;
		digest_rest(digest, p);
		snprintf(plan->digest, sizeof plan->digest, "%016llx",
			(unsigned long long)XXH3_64bits_digest(digest));
	}
	XXH3_freeState(digest);
	return r;
}

int cmdline_plan(const struct config_vm *vm, struct cmdline_plan *ret, struct mc_error *err)
{
	struct cmdline_plan plan = {.argc = 0};
	struct planner p = {.vm = vm, .plan = &plan};
	char **words;
	size_t n;
	int r = words_split(vm->command, &words, &n, err);
	if (r == 0) {
		r = plan_words(&p, words, n, err);
		/* Those that were kept are NULL now, so words_free would stop at the first of them.
		 */
		for (size_t i = 0; i < n; i++)
			free(words[i]);
		free(words);
	}
	if (r < 0) {
		cmdline_plan_clear(&plan);
		mc_error_wrap(err, "%s: the command of VM %s", vm->path, vm->name);
		return r;
	}
	*ret = plan;
	return 0;
}

void cmdline_plan_clear(struct cmdline_plan *p)
{
	cmdline_argv_free(p->argv);
	p->argv = NULL;
	p->argc = 0;
	for (size_t i = 0; i < p->n_ram; i++) {
		free(p->ram[i].extra);
		p->ram[i].extra = NULL;
	}
	p->n_ram = 0;
}
