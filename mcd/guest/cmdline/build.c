/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line that mcd runs: the user's words that stayed, then ours.  Where QEMU merges
 * (-machine) or takes the last (-global), ours come last and win. */
#include "mcd/guest/cmdline/private.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct argv {
	char **v;
	size_t n, room;
	bool failed; /* out of memory */
};

/* Takes over the malloc'd word; NULL for lack of memory. */
static void push(struct argv *a, char *word)
{
	if (!word || a->n + 1 >= a->room) {
		free(word);
		a->failed = true;
		return;
	}
	a->v[a->n++] = word;
}

static void __attribute__((format(printf, 2, 3))) pushf(struct argv *a, const char *fmt, ...)
{
	char *word = NULL;
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&word, fmt, ap) < 0)
		word = NULL;
	va_end(ap);
	push(a, word);
}

/* value with its commas doubled, behind "prefix"; then suffix. */
static void push_quoted(struct argv *a, const char *prefix, const char *value, const char *suffix)
{
	char *word = malloc(strlen(prefix) + 2 * strlen(value) + strlen(suffix) + 1);
	if (word) {
		char *to = stpcpy(word, prefix);
		for (const char *p = value; *p; p++) {
			*to++ = *p;
			if (*p == ',')
				*to++ = ',';
		}
		strcpy(to, suffix);
	}
	push(a, word);
}

static void push_ram(struct argv *a, const struct cmdline_plan *plan, const int *fds)
{
	for (size_t i = 0; i < plan->n_ram; i++) {
		const struct cmdline_ram *ram = &plan->ram[i];
		char *word = NULL;
		pushf(a, "-object");
		/* /proc/self/fd, because QEMU inherits the descriptor but opens a path. */
		char head[120];
		snprintf(head, sizeof head, ",size=%" PRIu64 ",mem-path=/proc/self/fd/%d,share=on",
			ram->size, fds[i]);
		if (qemu_opts_append(&word, "id", ram->id) == 0)
			pushf(a, "memory-backend-file%s%s%s", word, head,
				ram->extra ? ram->extra : "");
		else
			a->failed = true;
		free(word);
	}
	if (plan->own_ram) {
		pushf(a, "-machine");
		pushf(a, "memory-backend=%s", plan->ram[0].id);
	}
}

static void push_nics(
	struct argv *a, const struct config_vm *vm, const struct cmdline_plan *plan, const int *fds)
{
	for (size_t i = 0; i < vm->n_nics; i++) {
		const struct config_nic *nic = &vm->nics[i];
		/* With vhost=on the kernel moves the frames; QEMU's stop ends that, too, and
		 * takes the state of the rings back.  Always said: QEMU's default is not ours to
		 * rely on. */
		pushf(a, "-netdev");
		pushf(a, "tap,id=%s,fd=%d,vhost=%s", nic->id, fds[i],
			nic->vhost || plan->nic_vhost[i] ? "on" : "off");
		if (plan->nic_device[i])
			continue;
		const uint8_t *m = nic->mac;
		pushf(a, "-device");
		pushf(a, "virtio-net-pci,netdev=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x", nic->id,
			m[0], m[1], m[2], m[3], m[4], m[5]);
	}
	if (plan->no_nic) {
		pushf(a, "-nic");
		pushf(a, "none");
	}
}

static void push_disks(struct argv *a, const struct config_vm *vm, const struct cmdline_plan *plan,
	const struct cmdline_disk *disks)
{
	for (size_t i = 0; i < vm->n_disks; i++) {
		const char *id = vm->disks[i].id;
		/* locking=auto, QEMU's default: the waiting QEMU of a standby opens the replica
		 * that we write, and takes its locks when it goes on from there. */
		json_t *node = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "driver", disks[i].format,
			"node-name", id, "discard", "unmap", "file", "driver",
			disks[i].host_device ? "host_device" : "file", "filename", disks[i].path);
		push(a, strdup("-blockdev"));
		push(a, node ? json_dumps(node, JSON_COMPACT) : NULL);
		json_decref(node);
		if (plan->disk_device[i])
			continue;
		pushf(a, "-device");
		pushf(a, "virtio-blk-pci,drive=%s", id);
	}
}

int cmdline_build(const struct config_vm *vm, const struct cmdline_plan *plan,
	const struct cmdline_inputs *in, char ***ret_argv, struct mc_error *err)
{
	struct argv a = {
		.room = plan->argc + 2 * plan->n_ram + 4 * vm->n_nics + 4 * vm->n_disks + 24};
	a.v = calloc(a.room, sizeof *a.v);
	if (!a.v)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left for a command line");

	for (size_t i = 0; i < plan->argc; i++)
		push(&a, strdup(plan->argv[i]));
	if (!plan->named) {
		pushf(&a, "-name");
		push_quoted(&a, "guest=", in->name, "");
	}
	push_ram(&a, plan, in->ram_fds);
	push_nics(&a, vm, plan, in->tap_fds);
	push_disks(&a, vm, plan, in->disks);
	/* Without these two the device state starts with sections that only a migration expects. */
	pushf(&a, "-global");
	pushf(&a, "migration.send-configuration=off");
	pushf(&a, "-machine");
	pushf(&a, "suppress-vmdesc=on");
	/* A guest that powers off or panics leaves its QEMU behind, stopped: its last output is
	 * to be checkpointed and let out, and what becomes of it is for mcd to say. */
	pushf(&a, "-no-shutdown");
	pushf(&a, "-qmp");
	push_quoted(&a, "unix:", in->qmp_path, ",server=on,wait=off");
	pushf(&a, "-qmp");
	push_quoted(&a, "unix:", in->qmp_oob_path, ",server=on,wait=off");
	if (in->incoming) {
		pushf(&a, "-incoming");
		pushf(&a, "defer");
	}
	if (a.failed) {
		cmdline_argv_free(a.v);
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left for a command line");
	}
	*ret_argv = a.v;
	return 0;
}

void cmdline_argv_free(char **argv)
{
	for (char **w = argv; w && *w; w++)
		free(*w);
	free(argv);
}
