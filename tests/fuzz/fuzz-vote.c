/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What voters and hosts of a cluster tell each other, and what a voter finds on its disk.  The
 * first byte chooses the decoder.  What is accepted must be encoded to the same bytes again.  The
 * digest of a record is made right first, because no mutation would ever get past it.
 */
#include "tests/fuzz/fuzz.h"

#include "common/log.h"
#include "failover/cluster-private.h"
#include "failover/record.h"
#include "failover/vote-wire.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MESSAGE, ANNOUNCEMENT, RECORD, DECODERS };
#define SLOT   4096
#define USED   512
#define DIGEST 480

static char dir[64];
static int dir_fd = -1;

static void clean_up(void)
{
	unlinkat(dir_fd, "vm1", 0);
	rmdir(dir);
}

/* In memory where possible: opening a record writes it, and waits for the disk. */
static void set_up(void)
{
	mc_log_setup(MC_LOG_ERROR, NULL);
	strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/mcd-fuzz-XXXXXX"
						  : "/tmp/mcd-fuzz-XXXXXX");
	FUZZ_CHECK(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(dir_fd >= 0);
	atexit(clean_up);
}

static void fuzz_message(const uint8_t *data, size_t size)
{
	uint8_t buf[VOTE_MSG_SIZE] = {0}, again[VOTE_MSG_SIZE];
	struct vote_msg m;
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	if (!vote_decode(&m, buf))
		return;
	FUZZ_CHECK(vote_name_valid(m.subject));
	vote_encode(again, &m);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

static void fuzz_announcement(const uint8_t *data, size_t size)
{
	static struct cluster_vm vms[CLUSTER_VMS_MAX];
	static uint8_t again[CLUSTER_ANNOUNCE_MAX];
	int n = cluster_announce_decode(data, size, "hostA", vms);
	if (n < 0)
		return;
	FUZZ_CHECK(n <= CLUSTER_VMS_MAX);
	FUZZ_CHECK(cluster_announce_encode(again, "hostA", vms, (size_t)n) == size);
	FUZZ_CHECK(!memcmp(data, again, size));
}

static void put_slot(int fd, off_t at, const uint8_t *data, size_t size)
{
	uint8_t buf[USED] = {0};
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	FUZZ_CHECK(gnutls_hash_fast(GNUTLS_DIG_SHA256, buf, DIGEST, buf + DIGEST) == 0);
	FUZZ_CHECK(pwrite(fd, buf, sizeof buf, at) == sizeof buf);
}

/* One slot or two; what was read once is what is read again. */
static void fuzz_record(const uint8_t *data, size_t size)
{
	struct record_file f;
	struct paxos_acceptor state, again;
	struct mc_error err = MC_ERROR_INIT;
	int fd = openat(dir_fd, "vm1", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0);
	put_slot(fd, 0, data, size);
	if (size > USED)
		put_slot(fd, SLOT, data + USED, size - USED);
	close(fd);
	int r = record_open(dir_fd, "hostA", "vm1", &f, &state, &err);
	if (r < 0) {
		FUZZ_CHECK(err.code == r && *err.msg);
		return;
	}
	FUZZ_CHECK(r == 1 && own_record_valid(&state.decided));
	FUZZ_CHECK(!state.accepted.host || state.value.generation == state.decided.generation + 1);
	record_close(&f);
	FUZZ_CHECK(record_open(dir_fd, "hostA", "vm1", &f, &again, &err) == 1);
	FUZZ_CHECK(again.decided.generation == state.decided.generation &&
		   !strcmp(again.decided.owner, state.decided.owner) &&
		   again.promised.round == state.promised.round &&
		   again.accepted.round == state.accepted.round);
	record_close(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const decoders[])(const uint8_t *, size_t) = {
		fuzz_message, fuzz_announcement, fuzz_record};
	if (dir_fd < 0)
		set_up();
	if (size)
		decoders[data[0] % DECODERS](data + 1, size - 1);
	return 0;
}

static size_t seed_record(uint8_t *buf, const struct paxos_acceptor *state)
{
	struct record_file f = {.fd = -1, .host = "hostA", .vm = "vm1"};
	if (dir_fd < 0)
		set_up();
	unlinkat(dir_fd, "vm1", 0);
	FUZZ_CHECK(record_write(dir_fd, &f, state, NULL) == 0);
	FUZZ_CHECK(record_write(dir_fd, &f, state, NULL) == 0);
	FUZZ_CHECK(
		pread(f.fd, buf, USED, 0) == USED && pread(f.fd, buf + USED, USED, SLOT) == USED);
	record_close(&f);
	return 2 * USED;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	const struct own_record decided = {7, "hostA", "hostB"}, value = {8, "hostB", ""};
	const struct paxos_acceptor state = {decided, {3, 22}, {2, 11}, value, 1};
	const struct paxos_acceptor old = {
		decided, {3, BALLOT_BY_PLACE(2)}, {2, BALLOT_BY_PLACE(1)}, value, 0};
	struct vote_msg m = {1, 2, 3, 0, "vm1",
		{.type = PAXOS_PROMISE,
			.ballot = {3, 2},
			.promised = {3, 2},
			.accepted = {2, 1},
			.decided = decided,
			.value = value}};
	const struct cluster_vm vms[2] = {{.name = "vm1",
						  .peer = "hostB",
						  .role = "primary",
						  .state = "protected",
						  .generation = 7},
		{.name = "vm2", .role = "none", .state = "failed", .alarm = "it is not there"}};
	switch (i) {
	case 0:
		buf[0] = MESSAGE;
		vote_encode(buf + 1, &m);
		return 1 + VOTE_MSG_SIZE;
	case 1:
		m = (struct vote_msg){1, 2, 3, 99, "hostB", {.type = VOTE_HEARD_ANSWER}};
		buf[0] = MESSAGE;
		vote_encode(buf + 1, &m);
		return 1 + VOTE_MSG_SIZE;
	case 2:
		m.paxos.type = PAXOS_REFUSED;
		m.paxos.refusal = PAXOS_NOT_ELIGIBLE;
		buf[0] = MESSAGE;
		vote_encode(buf + 1, &m);
		return 1 + VOTE_MSG_SIZE;
	case 3:
		buf[0] = ANNOUNCEMENT;
		return 1 + cluster_announce_encode(buf + 1, "hostA", vms, 2);
	case 4:
		buf[0] = RECORD;
		return 1 + seed_record(buf + 1, &state);
	case 5: /* as an earlier version wrote it */
		buf[0] = RECORD;
		size_t n = 1 + seed_record(buf + 1, &old);
		for (uint8_t *slot = buf + 1; slot < buf + n; slot += USED) {
			slot[9] = 1;
			memset(slot + 296, 0, 8);
			memset(slot + 312, 0, 8);
			slot[296] = 2;
			slot[312] = 1;
		}
		return n;
	default:
		return 0;
	}
}
