/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a standby decodes of its disks: the stream of a peer, and after a crash its own journal
 * and state file.  The first byte says which, and whether checksums are made right first, as a
 * peer that lies on purpose would, so that mutations get behind them.
 */
#include "tests/fuzz/fuzz.h"

#include "diskmirror/journal.h"
#include "common/le.h"
#include "diskmirror/replica-state.h"
#include "diskmirror/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { STREAM, JOURNAL, STATE, KINDS, HONEST = 4 };

#define JOURNAL_BODY 4096

static const char *const ids[2] = {"disk0", "disk1"};
static char path[64];

static void gone(void)
{
	unlink(path);
}

static void put_file(const uint8_t *data, size_t size)
{
	if (!*path) {
		snprintf(path, sizeof path, "/tmp/fuzz-disk-%d", (int)getpid());
		atexit(gone);
	}
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

/* --- the stream ------------------------------------------------------------------------------- */

static void check_payload(const struct disk_header *h, const uint8_t *p, size_t len)
{
	struct mc_error err = MC_ERROR_INIT;
	struct disk_hello hello;
	struct disk_epoch_sum sum;
	uint8_t buf[DISK_HELLO_MAX];
	char text[DISK_TEXT_MAX + 1];
	if (h->type == DISK_HELLO && disk_get_hello(p, len, &hello, &err) == 0) {
		FUZZ_CHECK(hello.n_disks >= 1 && hello.n_disks <= DISKS_MAX);
		/* There is one way to write it. */
		FUZZ_CHECK(disk_put_hello(buf, sizeof buf, &hello) == len && !memcmp(buf, p, len));
	}
	if (h->type == DISK_END && disk_get_sum(p, len, &sum, &err) == 0)
		FUZZ_CHECK(disk_put_sum(buf, sizeof buf, &sum) == len && !memcmp(buf, p, len));
	if (h->type == DISK_ERROR) {
		disk_get_text(p, len, text);
		for (char *c = text; *c; c++)
			FUZZ_CHECK(*c >= ' ' && *c <= '~');
	}
}

static void fuzz_stream(uint8_t *data, size_t size, int lie)
{
	while (size >= DISK_HEADER_SIZE) {
		struct disk_header h;
		struct mc_error err = MC_ERROR_INIT;
		uint8_t again[DISK_HEADER_SIZE];
		if (lie)
			put_le64(data + 40, XXH3_64bits(data, 40));
		int r = disk_get_header(data, &h, &err);
		if (r < 0) {
			FUZZ_CHECK((r == -EBADMSG || r == -EPROTONOSUPPORT) && err.code == r &&
				   *err.msg);
			return;
		}
		FUZZ_CHECK(h.type >= 1 && h.type <= DISK_TYPE_MAX && h.disk < DISKS_MAX);
		FUZZ_CHECK(h.offset <= DISK_SIZE_MAX && h.length <= DISK_SIZE_MAX - h.offset);
		FUZZ_CHECK(!disk_has_payload(h.type) || (h.length && h.length <= DISK_DATA_MAX));
		disk_put_header(again, &h);
		FUZZ_CHECK(!memcmp(again, data, sizeof again));
		data += DISK_HEADER_SIZE;
		size -= DISK_HEADER_SIZE;
		if (!disk_has_payload(h.type))
			continue;
		if (h.length > size)
			return;
		check_payload(&h, data, h.length);
		data += h.length;
		size -= h.length;
	}
}

/* --- the journal ------------------------------------------------------------------------------ */

static int take(void *ctx, const struct journal_entry *e, struct mc_error *err)
{
	unsigned *count = ctx;
	FUZZ_CHECK(e->disk < 2 && e->length && e->offset <= DISK_SIZE_MAX &&
		   e->length <= DISK_SIZE_MAX - e->offset);
	FUZZ_CHECK(e->type == DISK_WRITE ? e->data != NULL : !e->data);
	if (e->data) { /* all of it is there */
		volatile uint64_t h = XXH3_64bits(e->data, e->length);
		(void)h;
	}
	++*count;
	return 0;
}

static void fuzz_journal(uint8_t *data, size_t size, int lie)
{
	struct mc_error err = MC_ERROR_INIT;
	struct journal_mark mark;
	unsigned count = 0;
	if (lie && size > JOURNAL_BODY) {
		XXH128_canonical_t c;
		uint64_t len = get_le64(data + 40);
		if (len > size - JOURNAL_BODY)
			len = size - JOURNAL_BODY;
		put_le64(data + 40, len);
		XXH128_canonicalFromHash(&c, XXH3_128bits(data + JOURNAL_BODY, len));
		memcpy(data + 48, c.digest, sizeof c.digest);
		put_le64(data + 64, XXH3_64bits(data, 64));
	}
	put_file(data, size);
	int r = journal_replay(path, ids, 2, take, &count, &mark, &err);
	FUZZ_CHECK(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ENODEV);
	FUZZ_CHECK(r == 0 ? mark.epoch || !count : err.code == r && !count);
}

/* --- the state file --------------------------------------------------------------------------- */

static void fuzz_state(uint8_t *data, size_t size, int lie)
{
	struct mc_error err = MC_ERROR_INIT;
	struct replica_state s, t;
	char text[FUZZ_SEED_MAX + 64];
	memcpy(text, data, size);
	text[size] = '\0';
	char *check = strstr(text, "check ");
	if (lie && check)
		size = (size_t)(check - text) +
		       (size_t)sprintf(check, "check %016llx\n",
			       (unsigned long long)XXH3_64bits(text, (size_t)(check - text)));
	put_file((uint8_t *)text, size);
	int r = replica_state_load(path, &s, &err);
	FUZZ_CHECK(r == 0 || (r == -EBADMSG && err.code == r && *err.msg));
	if (r < 0)
		return;
	FUZZ_CHECK(s.trust <= REPLICA_ACTIVE);
	static unsigned saves;
	if (saves++ % 64) /* it waits for the disk */
		return;
	FUZZ_CHECK(
		replica_state_save(path, &s, &err) == 0 && replica_state_load(path, &t, &err) == 0);
	FUZZ_CHECK(s.trust == t.trust && s.generation == t.generation &&
		   !strcmp(s.primary, t.primary));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > FUZZ_SEED_MAX)
		return 0;
	uint8_t *copy = malloc(size); /* exactly, so that one byte too far is noticed */
	memcpy(copy, data + 1, size - 1);
	int lie = !(data[0] & HONEST);
	switch ((data[0] & 3) % KINDS) {
	case STREAM:
		fuzz_stream(copy, size - 1, lie);
		break;
	case JOURNAL:
		fuzz_journal(copy, size - 1, lie);
		break;
	default:
		fuzz_state(copy, size - 1, lie);
	}
	free(copy);
	return 0;
}

/* --- seeds ------------------------------------------------------------------------------------ */

static size_t message(uint8_t *p, struct disk_header h, const void *payload)
{
	if (payload)
		h.digest = XXH3_64bits(payload, h.length);
	disk_put_header(p, &h);
	if (payload)
		memcpy(p + DISK_HEADER_SIZE, payload, h.length);
	return DISK_HEADER_SIZE + (payload ? h.length : 0);
}

static size_t stream_seed(uint8_t *p)
{
	struct disk_hello hello = {
		.generation = 3, .n_disks = 2, .disks = {{"disk0", 1 << 20}, {"disk1", 512}}};
	struct disk_epoch_sum sum = {3, 100, 7};
	static const uint8_t data[100];
	uint8_t buf[DISK_HELLO_MAX];
	size_t n = 0, len = disk_put_hello(buf, sizeof buf, &hello);
	n += message(p + n, (struct disk_header){DISK_HELLO, .length = len}, buf);
	n += message(p + n, (struct disk_header){DISK_HELLO_OK}, NULL);
	n += message(p + n, (struct disk_header){DISK_TABLE, .length = 96}, data);
	n += message(p + n, (struct disk_header){DISK_WRITE, 1, 0, 5, 512, 100}, data);
	n += message(p + n, (struct disk_header){DISK_ZERO, 0, 0, 5, 0, 1 << 20}, NULL);
	n += message(p + n, (struct disk_header){DISK_TRIM, 0, 0, 5, 4096, 4096}, NULL);
	len = disk_put_sum(buf, sizeof buf, &sum);
	n += message(p + n, (struct disk_header){DISK_END, 0, DISK_FLUSHED, 5, 0, len}, buf);
	n += message(p + n, (struct disk_header){DISK_READ, 1, 0, 0, 0, 100}, NULL);
	n += message(p + n, (struct disk_header){DISK_DATA, 1, 0, 0, 0, 100}, data);
	return n + message(p + n, (struct disk_header){DISK_ERROR, .length = 4}, "full");
}

static size_t file_seed(uint8_t *p, size_t cap)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, p, cap);
	close(fd);
	FUZZ_CHECK(n > 0);
	return (size_t)n;
}

static size_t journal_seed(uint8_t *p, size_t cap)
{
	struct journal *j;
	static const uint8_t data[600] = {1, 2, 3};
	const struct journal_entry e[] = {{0, DISK_WRITE, 512, 600, data},
		{1, DISK_ZERO, 0, 1 << 20, NULL}, {1, DISK_TRIM, 4096, 512, NULL},
		{0, DISK_WRITE, 0, 1, data}};
	put_file(NULL, 0);
	FUZZ_CHECK(journal_open(path, ids, 2, &j, NULL) == 0 && journal_begin(j, 3, 5, NULL) == 0);
	for (size_t i = 0; i < sizeof e / sizeof *e; i++)
		FUZZ_CHECK(journal_add(j, &e[i], NULL) == 0);
	FUZZ_CHECK(journal_seal(j, NULL) == 0);
	journal_close(j);
	return file_seed(p, cap);
}

static size_t state_seed(uint8_t *p, size_t cap, const char *boot)
{
	struct replica_state s = {REPLICA_WHOLE, 12, "alpha", ""};
	snprintf(s.boot, sizeof s.boot, "%s", boot);
	put_file(NULL, 0);
	FUZZ_CHECK(replica_state_save(path, &s, NULL) == 0);
	return file_seed(p, cap);
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	if (i >= 8)
		return 0;
	unsigned kind = i % 4 == 3 ? STATE : i % 4;
	buf[0] = (uint8_t)(kind | (i < 4 ? 0 : HONEST));
	switch (i % 4) {
	case STREAM:
		return 1 + stream_seed(buf + 1);
	case JOURNAL:
		return 1 + journal_seed(buf + 1, cap - 1);
	case STATE:
		return 1 + state_seed(buf + 1, cap - 1, "");
	default:
		return 1 + state_seed(buf + 1, cap - 1, "0a1b2c3d");
	}
}
