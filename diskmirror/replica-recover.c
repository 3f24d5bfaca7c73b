/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a crash: the last sealed epoch goes into the files once more.  Doing it twice changes
 * nothing, so a crash in the middle of this is no different.
 */
#include "diskmirror/journal.h"
#include "diskmirror/replica-io.h"
#include "diskmirror/stream.h"

#include <errno.h>

struct recovery {
	const struct replica_disk *disks;
	const char *journal_path;
	struct diskfile files[DISKS_MAX];
	struct diskio *io;
};

static int apply_entry(void *ctx, const struct journal_entry *e, struct mc_error *err)
{
	struct recovery *v = ctx;
	struct diskfile *f = &v->files[e->disk];
	if (f->fd < 0) {
		int r = diskfile_open(f, &v->disks[e->disk], 0, err);
		if (r < 0)
			return r;
	}
	if (e->offset > f->size || e->length > f->size - e->offset)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s is smaller than disk %s was when the journal %s was written; put the "
			"right file there, or delete the journal if the VM runs on another host",
			f->path, f->id, v->journal_path);
	return diskio_op(v->io, f, e->type, e->offset, e->length, e->data, err);
}

static int make_durable(struct recovery *v, size_t n_disks, struct mc_error *err)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < n_disks; i++)
		if (v->files[i].fd >= 0)
			r = diskfile_sync(&v->files[i], err);
	return r;
}

int replica_recover(const char *journal_path, const struct replica_disk *disks, size_t n_disks,
	struct mc_error *err)
{
	struct recovery v = {.disks = disks, .journal_path = journal_path};
	const char *ids[DISKS_MAX];
	struct journal *j;
	struct journal_mark mark = {0};
	if (!n_disks || n_disks > DISKS_MAX)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"a VM with mirrored disks has 1 to %d of them, not %zu", DISKS_MAX,
			n_disks);
	for (size_t i = 0; i < n_disks; i++) {
		ids[i] = disks[i].id;
		v.files[i].fd = -1;
	}
	/* Not asynchronous: an entry's data are gone when apply_entry has returned. */
	int r = diskio_new(false, &v.io, err);
	if (r < 0)
		return r;
	r = journal_replay(journal_path, ids, n_disks, apply_entry, &v, &mark, err);
	diskio_drain(v.io, NULL);
	if (r == 0 && mark.epoch)
		r = make_durable(&v, n_disks, err);
	/* Once is enough: the VM may write to these files soon, and a replay would undo it. */
	if (r == 0 && mark.epoch)
		r = journal_open(journal_path, ids, n_disks, &j, err);
	if (r == 0 && mark.epoch) {
		r = journal_clear(j, err);
		journal_close(j);
	}
	for (size_t i = 0; i < n_disks; i++)
		diskfile_close(&v.files[i]);
	diskio_free(v.io);
	return r;
}
