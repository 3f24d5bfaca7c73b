/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens to an epoch on the standby once it is there as a whole: harden, apply; and the
 * takeover.
 *
 * What makes an epoch n survive a power failure once replica_harden has returned:
 *
 *   1. fdatasync of the files: everything applied so far, all of n - 1, is in them for good.
 *      Only then may the journal, which has an older epoch, be overwritten.
 *   2. the journal has all of n, sealed.
 *   3. only then is n applied: a power failure in the middle of that is mended by a replay of n.
 *
 * With durability `flush` epochs without a guest's flush skip 1 and 2.  A power failure then leaves
 * the last hardened epoch and any part of the later ones, as a disk with a write cache would.
 */
#include "diskmirror/replica-private.h"

#include "diskmirror/seam.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>

static int sync_files(struct replica *r, struct mc_error *err)
{
	int x = 0;
	for (size_t i = 0; x == 0 && i < r->hello.n_disks; i++)
		x = diskfile_sync(&r->files_[i], err);
	return x;
}

static int journal_epoch(struct replica *r, const struct held_epoch *e, struct mc_error *err)
{
	struct held_cursor c;
	assert(e->ended);
	held_start(&c, e);
	int x = journal_begin(r->journal, r->hello.generation, e->n, err), more = 0;
	while (x == 0 && (more = held_next(&c, err)) > 0) {
		struct journal_entry entry = {c.h.disk, c.h.type, c.h.offset, c.h.length, c.data};
		x = journal_add(r->journal, &entry, err);
	}
	held_done(&c);
	if (x == 0 && more == 0)
		x = journal_seal(r->journal, err);
	return more < 0 ? more : x;
}

/* A failure of our own disk: final, for the files and for the session. */
static int disk_error(struct replica *r, int x, struct mc_error *why, struct mc_error *err)
{
	pthread_mutex_lock(&r->lock);
	if (!r->disk_failed)
		r->disk_why = *why;
	r->disk_failed = true;
	pthread_mutex_unlock(&r->lock);
	replica_break(r, why, true);
	if (err)
		*err = *why;
	return x;
}

static int harden(struct replica *r, const struct held_epoch *e, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	if (!e->sum.writes && !r->unhardened)
		return 0; /* the last hardened epoch, still in the journal, is this one */
	int x = sync_files(r, &why);
	if (x < 0)
		return disk_error(r, x, &why, err);
	if (e->sum.writes)
		x = journal_epoch(r, e, &why);
	else /* nothing to put there, but what it has would undo what was applied since */
		x = journal_clear(r->journal, &why);
	if (x < 0) { /* the files are not touched: they can be taken over at n - 1 */
		replica_break(r, &why, true);
		if (err)
			*err = why;
		return x;
	}
	pthread_mutex_lock(&r->lock);
	r->unhardened = false;
	r->stats.hardened++;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static int wrong_state(uint64_t n, struct mc_error *err)
{
	return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
		"epoch %llu of the disk writes is not the one that can be committed now",
		(unsigned long long)n);
}

int replica_harden(struct replica *r, uint64_t n, struct mc_error *err)
{
	pthread_mutex_lock(&r->lock);
	struct held_epoch *e = r->epochs;
	bool failed = r->disk_failed;
	bool fits = e && e->ended && e->n == n && n == r->committed + 1;
	pthread_mutex_unlock(&r->lock);
	if (failed)
		return replica_error(r, err);
	if (!fits)
		return wrong_state(n, err);
	bool hardened = r->c.durability == DISK_DURABILITY_COMMIT ||
			(r->c.durability == DISK_DURABILITY_FLUSH && e->flushed);
	int x = 0;
	if (hardened)
		x = harden(r, e, err);
	if (x < 0)
		return x;
	pthread_mutex_lock(&r->lock);
	r->unhardened |= e->sum.writes && !hardened;
	assert(r->epochs == e && n == r->committed + 1 && n <= r->ended);
	r->committed = n;
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static int drain(void *ctx, struct mc_error *err)
{
	return diskio_drain(((struct replica *)ctx)->io, err);
}

static int apply(struct replica *r, const struct held_epoch *e, struct mc_error *err)
{
	struct held_cursor c;
	int x, more = 0;
	/* Never a part of an epoch, and never one that the primary may yet take back. */
	assert(e->ended && e->n <= r->committed);
	held_start(&c, e);
	c.reuse = drain;
	c.ctx = r;
	for (x = 0; x == 0 && (more = held_next(&c, err)) > 0;)
		x = diskio_op(
			r->io, &r->files_[c.h.disk], c.h.type, c.h.offset, c.h.length, c.data, err);
	/* In any case, before the data go away. */
	int d = diskio_drain(r->io, x < 0 || more < 0 ? NULL : err);
	held_done(&c);
	return x < 0 ? x : more < 0 ? more : d;
}

/* The oldest that is held.  After a failure it still is, and may be applied again, from its
 * beginning. */
static int apply_oldest(struct replica *r, struct mc_error *why)
{
	struct held_epoch *e = r->epochs;
	pthread_mutex_lock(&r->files);
	int x = apply(r, e, why);
	if (x == 0) {
		pthread_mutex_lock(&r->lock);
		assert(r->epochs == e && r->stats.held_bytes >= e->memory);
		r->epochs = e->next;
		r->stats.held_bytes -= e->memory;
		r->stats.applied_bytes += e->sum.bytes;
		r->stats.epochs++;
		pthread_mutex_unlock(&r->lock);
	}
	pthread_mutex_unlock(&r->files);
	if (x == 0)
		held_free(e);
	return x;
}

int replica_apply(struct replica *r, uint64_t n, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	pthread_mutex_lock(&r->lock);
	struct held_epoch *e = r->epochs;
	bool failed = r->disk_failed;
	bool fits = e && e->n == n && n <= r->committed;
	pthread_mutex_unlock(&r->lock);
	if (failed)
		return replica_error(r, err);
	if (!fits)
		return wrong_state(n, err);
	int x = apply_oldest(r, &why);
	return x < 0 ? disk_error(r, x, &why, err) : 0;
}

/* --- trust and takeover ----------------------------------------------------------------------- */

static int incomplete(struct mc_error *err)
{
	return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
		"this host's copies of the VM's disks are not complete yet: no epoch was "
		"committed, so the VM cannot run on them");
}

int replica_trusted(struct replica *r, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	pthread_mutex_lock(&r->lock);
	bool failed = r->disk_failed, complete = r->stats.epochs > 0;
	pthread_mutex_unlock(&r->lock);
	if (failed)
		return replica_error(r, err);
	if (!complete)
		return incomplete(err);
	int x = 0;
	if (r->c.durability != DISK_DURABILITY_NONE)
		x = sync_files(r, &why);
	if (x == 0)
		x = replica_mark(r, REPLICA_WHOLE, r->c.generation, &why);
	return x < 0 ? disk_error(r, x, &why, err) : 0;
}

int replica_disk_failed(struct replica *r, struct mc_error *err)
{
	pthread_mutex_lock(&r->lock);
	bool failed = r->disk_failed;
	if (failed && err)
		*err = r->disk_why;
	int x = failed ? r->disk_why.code : 0;
	pthread_mutex_unlock(&r->lock);
	return x;
}

int replica_take(struct replica *r, struct mc_error *err)
{
	replica_cut(r);
	/* Hardened is committed: a crash here would bring it back from the journal as well.  Not
	 * even a disk that failed before keeps us from trying: this is the only copy there is. */
	while (r->epochs) {
		assert(r->epochs->n <= r->committed); /* replica_cut has dropped the others */
		int x = apply_oldest(r, err);
		if (x < 0)
			return x;
	}
	/* From the first commit on they are complete, whether or not the primary could still say
	 * so. */
	return r->stats.epochs ? 0 : incomplete(err);
}

/* Not to fail because the journal's file system is full. */
static int forget_journal(struct replica *r, struct mc_error *err)
{
	int x = journal_clear(r->journal, err);
	if (x < 0 && unlink(r->c.journal_path) == 0)
		x = seam_sync_dir(r->c.journal_path);
	return x;
}

int replica_own(struct replica *r, uint64_t generation, struct mc_error *err)
{
	int x = 0;
	assert(!r->epochs && r->stats.epochs);
	if (r->c.durability != DISK_DURABILITY_NONE)
		x = sync_files(r, err);
	if (x == 0)
		x = forget_journal(r, err);
	return x < 0 ? x : replica_mark(r, REPLICA_ACTIVE, generation, err);
}
