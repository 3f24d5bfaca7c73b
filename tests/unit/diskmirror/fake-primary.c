/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/diskmirror/fake-primary.h"
#include "tests/unit/diskmirror/link-pair.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

const uint64_t disk_size[DISKS] = {SIZE0, SIZE1};

uint64_t soon(void)
{
	return mc_now() + 20 * MC_SEC;
}

static void broken(void *ctx)
{
	struct world *w = ctx;
	__atomic_add_fetch(&w->broken, 1, __ATOMIC_SEQ_CST);
	eventfd_write(w->broken_fd, 1);
}

void world_init(struct world *w)
{
	memset(w, 0, sizeof *w);
	char dir[] = "/tmp/mcd-replica-XXXXXX";
	assert_non_null(mkdtemp(dir));
	strcpy(w->dir, dir);
	snprintf(w->state, sizeof w->state, "%s/state", dir);
	snprintf(w->journal, sizeof w->journal, "%s/journal", dir);
	for (int i = 0; i < DISKS; i++) {
		snprintf(w->disks[i].id, sizeof w->disks[i].id, "disk%d", i);
		snprintf(w->disks[i].path, sizeof w->disks[i].path, "%s/disk%d.raw", dir, i);
		w->model[i] = calloc(1, disk_size[i]);
	}
	w->broken_fd = eventfd(0, EFD_CLOEXEC);
	w->c = (struct replica_config){
		.state_path = w->state,
		.journal_path = w->journal,
		.spill_dir = w->dir,
		.n_disks = DISKS,
		.disks = w->disks,
		.budget = 64 << 20,
		.durability = DISK_DURABILITY_COMMIT,
		.generation = GENERATION,
		.primary = "alpha",
		.broken = broken,
		.ctx = w,
	};
	w->fd = -1;
}

static struct disklink *make_link(struct world *w)
{
	int sv[2];
	struct disklink *l;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	int large = 4 << 20; /* so that a script can send before anybody receives */
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
	setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
	w->fd = sv[0];
	l = test_disklink(sv[1]);
	return l;
}

void send_hello(struct world *w, uint64_t generation, const char *id0, uint64_t size0)
{
	uint8_t buf[DISK_HELLO_MAX];
	struct disk_hello h = {
		.generation = generation, .seed = "seed of a table", .n_disks = DISKS};
	/* The other way round than configured: matched by id, not by place. */
	strcpy(h.disks[1].id, "disk1");
	h.disks[1].size = SIZE1;
	snprintf(h.disks[0].id, sizeof h.disks[0].id, "%s", id0);
	h.disks[0].size = size0;
	size_t len = disk_put_hello(buf, sizeof buf, &h);
	assert_true(len > 0);
	send_message(w, (struct disk_header){.type = DISK_HELLO, .length = len}, buf);
}

int world_try(struct world *w, struct mc_error *err)
{
	struct disklink *l = make_link(w);
	send_hello(w, GENERATION, "disk0", SIZE0);
	return replica_open(&w->c, l, soon(), &w->r, err);
}

void world_open(struct world *w)
{
	struct mc_error err = MC_ERROR_INIT;
	uint8_t *p;
	if (world_try(w, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(recv_message(w, &p).type, DISK_HELLO_OK);
	free(p);
}

void world_close(struct world *w)
{
	replica_close(w->r);
	w->r = NULL;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

void world_destroy(struct world *w)
{
	world_close(w);
	DIR *d = opendir(w->dir);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	assert_int_equal(rmdir(w->dir), 0); /* nothing is left behind */
	free_model(w->model);
	close(w->broken_fd);
}

void send_raw(struct world *w, const void *buf, size_t len)
{
	for (const char *p = buf; len;) {
		ssize_t n = send(w->fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return; /* the other side has refused what came before */
		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

void send_message(struct world *w, struct disk_header h, const void *payload)
{
	uint8_t head[DISK_HEADER_SIZE];
	if (payload && !h.digest)
		h.digest = XXH3_64bits(payload, h.length);
	disk_put_header(head, &h);
	if (h.type == DISK_WRITE || h.type == DISK_ZERO || h.type == DISK_TRIM) {
		if (h.epoch != w->running) {
			w->running = h.epoch;
			w->sum = (struct disk_epoch_sum){0};
			disk_digest_init(&w->digest, GENERATION, h.epoch);
		}
		disk_digest_add(&w->digest, head);
		w->sum.writes++;
		w->sum.bytes += payload ? h.length : 0;
	}
	send_raw(w, head, sizeof head);
	if (payload)
		send_raw(w, payload, h.length);
}

void send_write(
	struct world *w, uint64_t epoch, int disk, uint64_t off, uint64_t len, unsigned seed)
{
	uint8_t *to = w->model[disk] + off;
	for (uint64_t i = 0; i < len; i++)
		to[i] = (uint8_t)(rand_r(&seed) >> 7);
	struct disk_header h = {.type = DISK_WRITE,
		.disk = (uint16_t)disk,
		.epoch = epoch,
		.offset = off,
		.length = len};
	send_message(w, h, to);
}

void send_zero(struct world *w, uint64_t epoch, int disk, uint64_t off, uint64_t len, bool trim)
{
	memset(w->model[disk] + off, 0, len);
	struct disk_header h = {.type = trim ? DISK_TRIM : DISK_ZERO,
		.disk = (uint16_t)disk,
		.epoch = epoch,
		.offset = off,
		.length = len};
	send_message(w, h, NULL);
}

void send_random(struct world *w, uint64_t epoch, unsigned *seed, uint64_t max)
{
	int disk = rand_r(seed) % 4 == 0;
	/* Near each other, so that they overlap; now and then anywhere. */
	uint64_t room = rand_r(seed) % 3 ? 40960 : disk_size[disk];
	uint64_t len = 1 + (uint64_t)rand_r(seed) % max;
	if (len > room)
		len = room;
	uint64_t off = (uint64_t)rand_r(seed) % (room - len + 1);
	if (w->align) { /* sizes of disks and room are whole sectors */
		off -= off % w->align;
		len += w->align - 1 - (len - 1) % w->align;
	}
	int kind = rand_r(seed) % 8;
	if (kind < 2)
		send_zero(w, epoch, disk, off, len, kind);
	else
		send_write(w, epoch, disk, off, len, (unsigned)rand_r(seed));
}

struct disk_epoch_sum send_end(struct world *w, uint64_t epoch, bool flushed)
{
	uint8_t buf[64];
	if (w->running != epoch) {
		w->sum = (struct disk_epoch_sum){0};
		disk_digest_init(&w->digest, GENERATION, epoch);
		w->running = epoch;
	}
	w->sum.digest = w->digest.h;
	size_t len = disk_put_sum(buf, sizeof buf, &w->sum);
	send_message(w,
		(struct disk_header){.type = DISK_END,
			.epoch = epoch,
			.length = len,
			.flags = flushed ? DISK_FLUSHED : 0},
		buf);
	return w->sum;
}

static bool recv_all(struct world *w, void *buf, size_t len)
{
	for (char *p = buf; len;) {
		struct pollfd f = {w->fd, POLLIN, 0};
		assert_true(poll(&f, 1, 20000) > 0);
		ssize_t n = recv(w->fd, p, len, 0);
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

struct disk_header recv_message(struct world *w, uint8_t **payload)
{
	uint8_t head[DISK_HEADER_SIZE];
	struct disk_header h;
	struct mc_error err = MC_ERROR_INIT;
	for (;;) {
		*payload = NULL;
		if (!recv_all(w, head, sizeof head))
			return (struct disk_header){0};
		if (disk_get_header(head, &h, &err) < 0)
			fail_msg("%s", err.msg);
		if (disk_has_payload(h.type)) {
			*payload = malloc(h.length + 1);
			assert_true(recv_all(w, *payload, h.length));
			assert_int_equal(XXH3_64bits(*payload, h.length), h.digest);
			(*payload)[h.length] = 0;
		}
		if (h.type != DISK_TABLE)
			return h;
		free(*payload);
	}
}

void expect_error(struct world *w, const char *part_of_it)
{
	uint8_t *p;
	struct disk_header h = recv_message(w, &p);
	assert_int_equal(h.type, DISK_ERROR);
	if (!strstr((char *)p, part_of_it))
		fail_msg("'%s' is not in: %s", part_of_it, (char *)p);
	free(p);
}

void wait_broken(struct world *w)
{
	struct pollfd f = {w->broken_fd, POLLIN, 0};
	assert_int_equal(poll(&f, 1, 20000), 1);
	assert_int_equal(__atomic_load_n(&w->broken, __ATOMIC_SEQ_CST), 1);
}

uint8_t *file_content(const char *path, uint64_t *ret_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *b = malloc((size_t)size + 1);
	assert_int_equal(pread(fd, b, (size_t)size, 0), size);
	close(fd);
	*ret_size = (uint64_t)size;
	return b;
}

void expect_files(struct world *w, uint8_t *const want[DISKS])
{
	for (int i = 0; i < DISKS; i++) {
		uint64_t size;
		uint8_t *b = file_content(w->disks[i].path, &size);
		assert_int_equal(size, disk_size[i]);
		for (uint64_t at = 0; at < size; at++)
			if (b[at] != want[i][at])
				fail_msg("disk%d differs at %llu", i, (unsigned long long)at);
		free(b);
	}
}

void copy_model(struct world *w, uint8_t *to[DISKS])
{
	for (int i = 0; i < DISKS; i++) {
		to[i] = malloc(disk_size[i]);
		memcpy(to[i], w->model[i], disk_size[i]);
	}
}

void free_model(uint8_t *m[DISKS])
{
	for (int i = 0; i < DISKS; i++)
		free(m[i]);
}

void commit(struct world *w, uint64_t n, const struct disk_epoch_sum *sum)
{
	struct mc_error err = MC_ERROR_INIT;
	if (replica_wait(w->r, n, sum, soon(), -1, &err) < 0 || replica_harden(w->r, n, &err) < 0 ||
		replica_apply(w->r, n, &err) < 0)
		fail_msg("epoch %llu: %s", (unsigned long long)n, err.msg);
}
