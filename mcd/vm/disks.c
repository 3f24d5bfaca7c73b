/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a VM's disks are on this host.
 *
 * Each disk has an image, which the administrator made, and a replica, which mcd writes; for a raw
 * image they are usually the same file.  Once this host has been a standby the replica is the one
 * that counts.  STATE_DIR/disks/NAME.state remembers that, and how far it can be trusted
 * (diskmirror/replica-state.h): starting from a copy that is half synchronised, or older than what
 * another host has, would lose writes without a word.
 */
#include "mcd/vm/disks.h"

#include "common/cleanup.h"
#include "diskmirror/replica-state.h"
#include "diskmirror/replica.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int disks_paths(const struct vm *vm, struct disks_paths *ret, struct mc_error *err)
{
	char dir[300];
	snprintf(dir, sizeof dir, "%s/disks", vm->env->cfg->state_dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot make the directory %s: %s", dir, strerror(errno));
	snprintf(ret->state, sizeof ret->state, "%s/%s.state", dir, vm->name);
	snprintf(ret->journal, sizeof ret->journal, "%s/%s.journal", dir, vm->name);
	return 0;
}

size_t disks_list(const struct config_vm *cfg, struct replica_disk *out)
{
	for (size_t i = 0; i < cfg->n_disks; i++) {
		snprintf(out[i].id, sizeof out[i].id, "%s", cfg->disks[i].id);
		snprintf(out[i].path, sizeof out[i].path, "%s", cfg->disks[i].replica);
	}
	return cfg->n_disks;
}

static int load(const struct vm *vm, struct replica_state *ret, struct mc_error *err)
{
	struct disks_paths p;
	int r = disks_paths(vm, &p, err);
	return r < 0 ? r : replica_state_load(p.state, ret, err);
}

int disks_locate(struct vm *vm, bool incoming, struct cmdline_disk *out, struct mc_error *err)
{
	struct replica_state st = {REPLICA_NONE};
	if (!vm->cfg->n_disks)
		return 0;
	int r = load(vm, &st, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < vm->cfg->n_disks; i++) {
		const struct config_disk *d = &vm->cfg->disks[i];
		bool replica = incoming || st.trust != REPLICA_NONE;
		struct stat sb;
		out[i].path = replica ? d->replica : d->image;
		out[i].format = replica ? "raw" : d->format;
		if (stat(out[i].path, &sb) < 0)
			return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "disk %s of %s, %s: %s",
				d->id, vm->name, out[i].path, strerror(errno));
		out[i].host_device = S_ISBLK(sb.st_mode);
	}
	return 0;
}

int disks_may_start(struct vm *vm, bool known, bool force, struct mc_error *err)
{
	struct replica_state st;
	if (!vm->cfg->n_disks)
		return 0;
	int r = load(vm, &st, err);
	if (r < 0)
		return r;
	/* Under disk-durability = none a copy is whole until its host starts anew. */
	if (st.trust == REPLICA_SYNCING && st.boot[0]) {
		if (force)
			return 0;
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"the disks of %s here are a standby's copy under disk-durability = none, "
			"and this host was started anew since: they may be torn. Start it on %s; "
			"only if that host's disks are lost: mcctl start %s --force, and check the "
			"file systems",
			vm->name, st.primary, vm->name);
	}
	if (st.trust == REPLICA_SYNCING)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"the disks of %s on this host are half overwritten by a synchronisation "
			"from %s that did not end: start it there, or put back a backup and remove "
			"%s/disks/%s.state",
			vm->name, st.primary, vm->env->cfg->state_dir, vm->name);
	if (st.trust == REPLICA_WHOLE && !known && !force)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"the disks of %s here are a standby's copy, and %s may have gone on since: "
			"start it there; only if that host's disks are lost: mcctl start %s "
			"--force",
			vm->name, st.primary, vm->name);
	return 0;
}

int disks_claim(struct vm *vm, uint64_t generation, bool applied, struct mc_error *err)
{
	struct disks_paths p;
	struct replica_state st;
	struct replica_disk disks[CONFIG_DISKS_MAX];
	if (!vm->cfg->n_disks)
		return 0;
	int r = disks_paths(vm, &p, err);
	if (r == 0)
		r = replica_state_load(p.state, &st, err);
	if (r < 0 || st.trust == REPLICA_NONE || st.trust == REPLICA_ACTIVE)
		return r; /* the images as they are, or ours already */
	size_t n = disks_list(vm->cfg, disks);
	if (!applied)
		r = replica_recover(p.journal, disks, n, err);
	if (r == 0)
		r = replica_claim(
			p.state, p.journal, disks, n, disks_durability(vm), generation, err);
	return r;
}

enum disk_durability disks_durability(const struct vm *vm)
{
	static const enum disk_durability of[] = {
		[CONFIG_DURABILITY_FLUSH] = DISK_DURABILITY_FLUSH,
		[CONFIG_DURABILITY_COMMIT] = DISK_DURABILITY_COMMIT,
		[CONFIG_DURABILITY_NONE] = DISK_DURABILITY_NONE,
	};
	return of[vm->cfg->durability];
}

bool disks_check(const struct vm *vm, const struct config_vm *cfg, size_t disk, char *text,
	size_t text_cap, char *hint, size_t hint_cap)
{
	const struct config_disk *d = &cfg->disks[disk];
	struct replica_state st = {REPLICA_NONE};
	struct mc_error err = MC_ERROR_INIT;
	char dir[sizeof d->replica];
	*hint = 0;
	if (load(vm, &st, &err) < 0) {
		snprintf(text, text_cap, "%s", err.msg);
		return false;
	}
	snprintf(dir, sizeof dir, "%s", d->replica);
	*strrchr(dir, '/') = 0; /* paths are absolute */
	bool room = access(*dir ? dir : "/", W_OK) == 0;
	if (st.trust == REPLICA_SYNCING) {
		snprintf(text, text_cap, "%s is half copied from %s", d->replica, st.primary);
		snprintf(hint, hint_cap, "protect the VM again there");
		return room;
	}
	const char *path = st.trust == REPLICA_NONE ? d->image : d->replica;
	if (access(path, R_OK | W_OK) == 0) {
		snprintf(text, text_cap, "%s%s%s", path,
			st.trust == REPLICA_WHOLE ? ", a standby's copy of " : "",
			st.trust == REPLICA_WHOLE ? st.primary : "");
		return true;
	}
	snprintf(text, text_cap, "%s: %s%s", path, strerror(errno),
		room ? "; a standby would make its replica" : "");
	if (!room)
		snprintf(hint, hint_cap, "make the directory %s, or change image and replica in %s",
			dir, cfg->path);
	return room;
}
