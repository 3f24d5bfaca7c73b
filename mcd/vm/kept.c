/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/kept.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/vm/vm.h"
#include "mcd/vm/waits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* The digest of the machine that runs, which the configuration may no longer describe. */
static void machine_path(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s/machine", vm->env->cfg->run_dir, vm->name);
}

void vm_machine_save(const struct vm *vm)
{
	char path[400];
	machine_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "we");
	if (!f || fprintf(f, "%s %016" PRIx64 " %016" PRIx64 "\n", vm->plan.digest,
			  vm->inventory.devices, vm->inventory.media) < 0)
		log_warn("%s: cannot write %s: %s; a restarted mcd will believe the configuration",
			vm->name, path, strerror(errno));
}

void vm_machine_load(struct vm *vm)
{
	char path[400], digest[sizeof vm->plan.digest];
	uint64_t devices, media;
	machine_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	/* Also the list of devices: from now on one that is taken out is noticed. */
	guest_inventory(vm->guest, WAIT_QMP, &vm->inventory, NULL);
	int n = f ? fscanf(f, "%16s %16" SCNx64 " %16" SCNx64, digest, &devices, &media) : 0;
	if (n < 2 || strlen(digest) != sizeof digest - 1)
		return;
	if (strcmp(digest, vm->plan.digest))
		log_notice("%s: its configuration was changed since it was started", vm->name);
	memcpy(vm->plan.digest, digest, sizeof digest);
	vm->inventory.devices = devices;
	if (n == 3) /* an earlier mcd did not write it down */
		vm->inventory.media = media;
}

/* With whom it is to be protected again: while it is not, no ownership record says so. */
static void peer_path(const struct vm *vm, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s/protect-with", vm->env->cfg->run_dir, vm->name);
}

void vm_peer_save(const struct vm *vm)
{
	char path[400];
	peer_path(vm, path, sizeof path);
	if (!vm->want_peer[0]) {
		unlink(path);
		return;
	}
	_cleanup_fclose_ FILE *f = fopen(path, "we");
	if (!f || fprintf(f, "%s\n", vm->want_peer) < 0)
		log_warn("%s: cannot write %s: %s; a restarted mcd will not protect it again",
			vm->name, path, strerror(errno));
}

void vm_want_peer(struct vm *vm, const char *peer)
{
	snprintf(vm->want_peer, sizeof vm->want_peer, "%s", peer);
	vm->wanted++;
	vm_peer_save(vm);
}

void vm_peer_load(struct vm *vm)
{
	char path[400], line[LINK_NAME_MAX + 2];
	peer_path(vm, path, sizeof path);
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof line, f))
		return;
	line[strcspn(line, "\n")] = 0;
	if (config_find_host(vm->env->cfg, line))
		vm_want_peer(vm, line);
}
