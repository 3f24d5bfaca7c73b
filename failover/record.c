/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * STATE_DIR/votes/VM: two slots of 4096 bytes, at 0 and 4096.  Of each slot 512 bytes are used.
 * All integers big-endian; names, ballots and records as in vote-wire.c.
 *
 *   offset size
 *        0    8  magic "mcd-vote"
 *        8    2  format version: 2
 *       10    6  zero
 *       16    8  sequence: grows by one with every write
 *       24   64  name of the host whose memory this is
 *       88   64  name of the VM
 *      152  136  decided record
 *      288   16  promised ballot
 *      304   16  accepted ballot
 *      320  136  accepted value (zero if the accepted ballot is none)
 *      456    8  number of the list of voters under which it was accepted (zero if it is none)
 *      464   16  zero
 *      480   32  SHA-256 of bytes 0..479
 *
 * 1. A write goes to the slot that does not hold the newest record, then fdatasync.  A torn write
 *    so never harms the record before, and the answer it was for has not been sent.
 * 2. The file is made whole (both slots, fsync, rename, fsync of the directory) before it has its
 *    name, so that later writes change neither size nor blocks: one fdatasync, no journal commit.
 * 3. The valid slot with the higher sequence is the state.  No valid slot in an existing file is
 *    damage: this voter must not vote as if it had never promised anything.
 * 4. After a failed write or fdatasync, or after a crash of mcd in the middle of one, the page
 *    cache may claim what the disk does not have.  So opening writes the state anew before it is
 *    used: an answer that changes nothing is sent without a write.
 * 5. Version 1 had in its ballots the place of their host in the sorted list of voters, and nothing
 *    at 456.  It is read, and its ballots become those of unknown hosts (paxos.h), because the list
 *    of then is not known; what is written is version 2.  An mcd that knows only version 1 refuses
 *    version 2, and does not vote.
 */
/* clang-format on */
#include "failover/record.h"
#include "common/be.h"
#include "common/cleanup.h"
#include "failover/vote-wire.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define SLOT_SIZE 4096
#define USED      512
#define DIGEST_AT 480
#define FORMAT    2
#define FORMAT_1  1

_Static_assert(24 + 2 * (LINK_NAME_MAX + 1) == 152 && 152 + VOTE_RECORD_SIZE == 288 &&
		       288 + 2 * VOTE_BALLOT_SIZE == 320 && 320 + VOTE_RECORD_SIZE == 456,
	"the fields follow each other as in the table above");
_Static_assert(DIGEST_AT + 32 == USED && USED <= SLOT_SIZE, "a slot ends with its digest");

static const char magic[8] = {'m', 'c', 'd', '-', 'v', 'o', 't', 'e'};

struct slot {
	uint64_t sequence;
	char host[LINK_NAME_MAX + 1], vm[LINK_NAME_MAX + 1];
	struct paxos_acceptor state;
};

static int digest(const uint8_t *p, uint8_t ret[32])
{
	return gnutls_hash_fast(GNUTLS_DIG_SHA256, p, DIGEST_AT, ret) < 0 ? -EIO : 0;
}

static int encode(uint8_t p[USED], const struct record_file *f, uint64_t sequence,
	const struct paxos_acceptor *s)
{
	memset(p, 0, USED);
	memcpy(p, magic, sizeof magic);
	put_be16(p + 8, FORMAT);
	put_be64(p + 16, sequence);
	vote_put_name(p + 24, f->host);
	vote_put_name(p + 88, f->vm);
	vote_put_record(p + 152, &s->decided);
	vote_put_ballot(p + 288, &s->promised);
	vote_put_ballot(p + 304, &s->accepted);
	vote_put_record(p + 320, &s->value);
	put_be64(p + 456, s->accepted.host ? s->list : 0);
	return digest(p, p + DIGEST_AT);
}

/* 1 = valid, 0 = not a whole record, -EPROTONOSUPPORT = whole, but of another format version. */
static int decode(struct slot *ret, const uint8_t p[USED])
{
	uint8_t sum[32];
	if (memcmp(p, magic, sizeof magic) || digest(p, sum) < 0 || memcmp(sum, p + DIGEST_AT, 32))
		return 0;
	uint16_t format = get_be16(p + 8);
	if (format != FORMAT && format != FORMAT_1)
		return -EPROTONOSUPPORT;
	struct slot s = {.sequence = get_be64(p + 16), .state.list = get_be64(p + 456)};
	bool (*get_ballot)(struct ballot *, const uint8_t *) =
		format == FORMAT ? vote_get_ballot : vote_get_ballot_v1;
	if (!vote_get_name(s.host, p + 24) || !vote_get_name(s.vm, p + 88) ||
		!vote_get_record(&s.state.decided, p + 152) ||
		!get_ballot(&s.state.promised, p + 288) ||
		!get_ballot(&s.state.accepted, p + 304) ||
		!vote_get_record(&s.state.value, p + 320))
		return 0;
	if (s.state.list && (format == FORMAT_1 || !s.state.accepted.host))
		return 0;
	if (s.state.accepted.host &&
		(s.state.value.generation != s.state.decided.generation + 1 ||
			ballot_compare(&s.state.promised, &s.state.accepted) < 0))
		return 0;
	*ret = s;
	return 1;
}

static int read_slots(struct record_file *f, struct paxos_acceptor *ret_state, struct mc_error *err)
{
	struct slot newest = {0};
	bool found = false;
	for (unsigned i = 0; i < 2; i++) {
		uint8_t p[USED];
		struct slot s = {0};
		ssize_t n = pread(f->fd, p, sizeof p, (off_t)i * SLOT_SIZE);
		if (n < 0)
			return mc_error_set(err, -errno, MC_ECLASS_FAILED,
				"cannot read this host's votes about VM '%s': %s", f->vm,
				strerror(errno));
		int r = n == USED ? decode(&s, p) : 0;
		if (r < 0)
			return mc_error_set(err, r, MC_ECLASS_VERSION,
				"this host's votes about VM '%s' were written by another version "
				"of mcd; install that version, or remove the file only after the "
				"VM was stopped everywhere",
				f->vm);
		if (r == 0 || (found && s.sequence < newest.sequence))
			continue;
		newest = s;
		f->current = i;
		found = true;
	}
	if (!found)
		return mc_error_set(err, -EUCLEAN, MC_ECLASS_FAILED,
			"this host's votes about VM '%s' are damaged on disk, so it does not vote "
			"about this VM; the other voters decide without it. Remove the file "
			"votes/%s in its state directory only after the VM was stopped everywhere, "
			"then restart mcd",
			f->vm, f->vm);
	if (strcmp(newest.host, f->host) || strcmp(newest.vm, f->vm))
		return mc_error_set(err, -EUCLEAN, MC_ECLASS_CONFIG,
			"the file votes/%s in the state directory holds votes of host '%s' about "
			"VM '%s': the directory was copied from another host. Give every host a "
			"state directory of its own",
			f->vm, newest.host, newest.vm);
	f->sequence = newest.sequence;
	*ret_state = newest.state;
	return 1;
}

void record_close(struct record_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static int write_all(int fd, const uint8_t *p, size_t len, off_t at)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		p += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* First write: the file appears whole or not at all. */
static int create(int dir_fd, struct record_file *f, const uint8_t first[USED])
{
	char temp[LINK_NAME_MAX + 8];
	uint8_t whole[2 * SLOT_SIZE] = {0};
	memcpy(whole, first, USED);
	snprintf(temp, sizeof temp, ".%s.new", f->vm);
	_cleanup_close_ int fd =
		openat(dir_fd, temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, whole, sizeof whole, 0);
	if (r < 0)
		return r;
	if (fsync(fd) < 0 || renameat(dir_fd, temp, dir_fd, f->vm) < 0 || fsync(dir_fd) < 0)
		return -errno;
	f->fd = mc_steal_fd(&fd);
	f->current = 0;
	return 0;
}

int record_write(
	int dir_fd, struct record_file *f, const struct paxos_acceptor *state, struct mc_error *err)
{
	uint8_t p[USED];
	unsigned slot = !f->current;
	assert(f->current <= 1);
	assert(!state->accepted.host ||
		(ballot_compare(&state->promised, &state->accepted) >= 0 &&
			state->value.generation == state->decided.generation + 1));
	int r = encode(p, f, f->sequence + 1, state);
	if (r == 0 && f->fd < 0)
		r = create(dir_fd, f, p);
	else if (r == 0) {
		r = write_all(f->fd, p, sizeof p, (off_t)slot * SLOT_SIZE);
		if (r == 0 && fdatasync(f->fd) < 0)
			r = -errno;
		if (r == 0)
			f->current = slot;
	}
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_FAILED,
			"cannot write this host's votes about VM '%s': %s; check the file system "
			"of the state directory, then restart mcd",
			f->vm, strerror(-r));
	f->sequence++;
	return 0;
}

int record_open(int dir_fd, const char *host, const char *vm, struct record_file *ret,
	struct paxos_acceptor *ret_state, struct mc_error *err)
{
	struct record_file f = {.fd = openat(dir_fd, vm, O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
	strncpy(f.host, host, LINK_NAME_MAX);
	strncpy(f.vm, vm, LINK_NAME_MAX);
	int r = 0;
	if (f.fd < 0 && errno != ENOENT)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot open this host's votes about VM '%s': %s", vm, strerror(errno));
	struct paxos_acceptor state = {0};
	if (f.fd >= 0)
		r = read_slots(&f, &state, err);
	if (r > 0) {
		r = fsync(dir_fd) < 0 ? -errno : 0;
		if (r < 0)
			mc_error_set(err, r, MC_ECLASS_FAILED,
				"cannot sync the directory of this host's votes: %s", strerror(-r));
		else
			r = record_write(dir_fd, &f, &state, err);
		r = r < 0 ? r : 1;
	}
	if (r < 0) {
		record_close(&f);
		return r;
	}
	*ret = f;
	*ret_state = state;
	return r;
}
