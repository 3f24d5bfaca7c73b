/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A replica becomes the VM's own disks, by a takeover or a start on this host. */
#include "diskmirror/replica.h"

#include "common/cleanup.h"
#include "diskmirror/journal.h"
#include "diskmirror/replica-state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int sync_file(const struct replica_disk *d, struct mc_error *err)
{
	_cleanup_close_ int fd = open(d->path, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && fdatasync(fd) == 0)
		return 0;
	return mc_error_set(err, -errno, MC_ECLASS_FAILED,
		"disk %s: what was written to %s cannot be put on stable storage: %s", d->id,
		d->path, strerror(errno));
}

static int clear_journal(
	const char *path, const struct replica_disk *disks, size_t n, struct mc_error *err)
{
	const char *ids[DISKS_MAX];
	struct journal *j;
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	for (size_t i = 0; i < n; i++)
		ids[i] = disks[i].id;
	int r = journal_open(path, ids, n, &j, err);
	if (r < 0)
		return r;
	r = journal_clear(j, err);
	journal_close(j);
	return r;
}

int replica_claim(const char *state_path, const char *journal_path,
	const struct replica_disk *disks, size_t n_disks, enum disk_durability durability,
	uint64_t generation, struct mc_error *err)
{
	struct replica_state st;
	int r = replica_state_load(state_path, &st, err);
	/* In this order: the journal is all there is of its epoch until the files are on the disk,
	 * and it must be gone before the VM writes, or a replay after a crash would undo what the
	 * VM wrote. */
	for (size_t i = 0; i < n_disks && r == 0 && durability != DISK_DURABILITY_NONE; i++)
		r = sync_file(&disks[i], err);
	if (r == 0)
		r = clear_journal(journal_path, disks, n_disks, err);
	if (r < 0)
		return r;
	st.trust = REPLICA_ACTIVE;
	st.generation = generation;
	st.boot[0] = 0;
	return replica_state_save(state_path, &st, err);
}
