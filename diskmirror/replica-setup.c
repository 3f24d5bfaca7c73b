/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a session begins on the standby.  The order is a promise: the files are marked SYNCING,
 * durably, before the first byte of them changes; and the journal of an earlier session is
 * cleared after that mark and before the first byte, or a later replay would put old blocks into
 * new images.
 */
#include "diskmirror/replica-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int recv_hello(struct replica *r, uint64_t deadline, struct mc_error *err)
{
	uint8_t head[DISK_HEADER_SIZE], buf[DISK_HELLO_MAX];
	struct disk_header h;
	int n = r->link->ops->recv(r->link, head, sizeof head, deadline);
	if (n == 0) {
		n = disk_get_header(head, &h, err);
		if (n < 0)
			return n;
		if (h.type != DISK_HELLO)
			return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				"the disk stream begins with a message of type %u instead of HELLO",
				h.type);
		n = r->link->ops->recv(r->link, buf, h.length, deadline);
	}
	if (n < 0)
		return mc_error_set(err, n,
			n == -ETIMEDOUT ? MC_ECLASS_TIMEOUT : MC_ECLASS_UNREACHABLE,
			"no HELLO came on the disk stream from the primary: %s",
			n == -ENODATA ? "it closed the connection" : strerror(-n));
	return disk_get_hello(buf, h.length, &r->hello, err);
}

static int check_hello(struct replica *r, struct mc_error *err)
{
	if (r->hello.generation != r->c.generation)
		return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
			"the disk stream belongs to generation %llu, but the session that it came "
			"for is of generation %llu",
			(unsigned long long)r->hello.generation,
			(unsigned long long)r->c.generation);
	if (r->hello.n_disks != r->c.n_disks)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"the VM has %zu disks on the primary, but %zu are configured on this host; "
			"make both configurations name the same disks",
			r->hello.n_disks, r->c.n_disks);
	return 0;
}

static const struct replica_disk *configured(struct replica *r, const char *id)
{
	for (size_t i = 0; i < r->c.n_disks; i++)
		if (!strcmp(r->c.disks[i].id, id))
			return &r->c.disks[i];
	return NULL;
}

static int open_files(struct replica *r, struct mc_error *err)
{
	for (size_t i = 0; i < r->hello.n_disks; i++) {
		const struct replica_disk *d = configured(r, r->hello.disks[i].id);
		if (!d)
			return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
				"the primary has a disk %s that is not configured on this host; "
				"make both configurations name the same disks",
				r->hello.disks[i].id);
		int n = diskfile_open(&r->files_[i], d, r->hello.disks[i].size, err);
		if (n < 0)
			return n;
		for (size_t k = 0; k < i; k++)
			if (r->files_[k].dev == r->files_[i].dev &&
				r->files_[k].ino == r->files_[i].ino)
				return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
					"%s and %s are the same, but they are copies of the two "
					"disks %s and %s; give each its own",
					r->files_[k].path, r->files_[i].path, r->files_[k].id,
					r->files_[i].id);
	}
	return 0;
}

static int open_journal(struct replica *r, struct mc_error *err)
{
	const char *ids[DISKS_MAX];
	for (size_t i = 0; i < r->hello.n_disks; i++)
		ids[i] = r->hello.disks[i].id;
	int n = journal_open(r->c.journal_path, ids, r->hello.n_disks, &r->journal, err);
	return n < 0 ? n : journal_clear(r->journal, err);
}

int replica_mark(
	struct replica *r, enum replica_trust trust, uint64_t generation, struct mc_error *err)
{
	struct replica_state s = r->state;
	s.trust = trust;
	s.generation = generation;
	memset(s.boot, 0, sizeof s.boot);
	/* Never flushed: what is consistent now is so in the page cache only. */
	if (trust == REPLICA_WHOLE && r->c.durability == DISK_DURABILITY_NONE) {
		int n = replica_state_boot(s.boot, err);
		if (n < 0)
			return n;
	}
	int n = replica_state_save(r->c.state_path, &s, err);
	if (n == 0)
		r->state = s;
	return n;
}

/* A damaged state file is overwritten: the replica is as well. */
static int begin_syncing(struct replica *r, struct mc_error *err)
{
	int n = replica_state_load(r->c.state_path, &r->state, err);
	if (n < 0 && n != -EBADMSG)
		return n;
	if (n == 0 && r->state.trust == REPLICA_ACTIVE && r->state.generation > r->c.generation)
		return mc_error_set(err, -ESTALE, MC_ECLASS_STATE,
			"the VM ran on this host's copies of its disks under generation %llu, "
			"later than the %llu that wants to overwrite them",
			(unsigned long long)r->state.generation,
			(unsigned long long)r->c.generation);
	if (n < 0)
		r->state = (struct replica_state){0};
	if (r->c.primary)
		snprintf(r->state.primary, sizeof r->state.primary, "%s", r->c.primary);
	return replica_mark(r, REPLICA_SYNCING, r->c.generation, err);
}

int replica_setup(struct replica *r, uint64_t deadline, struct mc_error *err)
{
	struct disk_header ok = {.type = DISK_HELLO_OK};
	int n = recv_hello(r, deadline, err);
	if (n == 0)
		n = check_hello(r, err);
	if (n == 0)
		n = open_files(r, err);
	if (n == 0)
		n = begin_syncing(r, err);
	if (n == 0)
		n = open_journal(r, err);
	if (n == 0)
		n = diskio_new(true, &r->io, err);
	if (n == 0)
		n = diskio_new(false, &r->sync_io, err);
	return n < 0 ? n : replica_send(r->link, &ok, NULL, deadline, err);
}
