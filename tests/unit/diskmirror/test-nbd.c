/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The NBD server against a foreign client (libnbd), and against raw bytes that no client sends. */
#include "diskmirror/nbd-server.h"
#include "diskmirror/nbd.h"

#include "common/be.h"
#include "common/clock.h"
#include "common/link.h"

#include <errno.h>
#include <libnbd.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE_A (8u << 20)
#define SIZE_B 1536u

struct disks {
	pthread_mutex_t lock;
	uint8_t *data[2];
	unsigned writes, trims, lost;
	int fail; /* what a write returns */
};

static int mem_write(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *data)
{
	struct disks *d = ctx;
	pthread_mutex_lock(&d->lock);
	int r = d->fail;
	if (r == 0)
		memcpy(d->data[export] + offset, data, length);
	d->writes++;
	pthread_mutex_unlock(&d->lock);
	free(data);
	return r;
}

static int mem_zero(void *ctx, unsigned export, uint64_t offset, uint32_t length, bool trim)
{
	struct disks *d = ctx;
	pthread_mutex_lock(&d->lock);
	memset(d->data[export] + offset, 0, length);
	d->trims += trim;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int mem_read(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *buf)
{
	struct disks *d = ctx;
	pthread_mutex_lock(&d->lock);
	memcpy(buf, d->data[export] + offset, length);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void mem_lost(void *ctx, unsigned export)
{
	struct disks *d = ctx;
	pthread_mutex_lock(&d->lock);
	d->lost++;
	pthread_mutex_unlock(&d->lock);
}

static const struct nbd_ops mem_ops = {mem_write, mem_zero, mem_read, mem_lost};

static const struct nbd_export exports[] = {{"disk-a", SIZE_A}, {"disk-b", SIZE_B}};

struct fixture {
	struct disks d;
	char dir[32], path[64];
	struct nbd_server *s;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct mc_error err = MC_ERROR_INIT;
	strcpy(f->dir, "/tmp/test-nbd.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof f->path, "%s/nbd.sock", f->dir);
	pthread_mutex_init(&f->d.lock, NULL);
	f->d.data[0] = calloc(1, SIZE_A);
	f->d.data[1] = calloc(1, SIZE_B);
	assert_int_equal(nbd_server_new(f->path, exports, 2, &mem_ops, &f->d, &f->s, &err), 0);
	assert_int_equal(nbd_server_start(f->s, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	nbd_server_free(f->s);
	assert_int_equal(access(f->path, F_OK), -1);
	rmdir(f->dir);
	free(f->d.data[0]);
	free(f->d.data[1]);
	free(f);
	return 0;
}

static unsigned losses(struct fixture *f)
{
	pthread_mutex_lock(&f->d.lock);
	unsigned n = f->d.lost;
	pthread_mutex_unlock(&f->d.lock);
	return n;
}

static struct nbd_handle *client(struct fixture *f, const char *export)
{
	struct nbd_handle *h = nbd_create();
	nbd_set_export_name(h, export);
	nbd_set_strict_mode(h, 0); /* what libnbd itself would refuse is for the server to refuse */
	if (nbd_connect_unix(h, f->path) < 0) {
		nbd_close(h);
		return NULL;
	}
	return h;
}

static void done(struct nbd_handle *h)
{
	nbd_shutdown(h, 0);
	nbd_close(h);
}

static void fill(uint8_t *p, size_t len, uint32_t seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
}

static void test_a_foreign_client_reads_back_what_it_wrote(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *h = client(f, "disk-a");
	assert_non_null(h);
	uint8_t *w = malloc(SIZE_A), *r = malloc(SIZE_A);
	fill(w, SIZE_A, 1);
	assert_int_equal(nbd_get_size(h), SIZE_A);
	for (size_t at = 0; at < SIZE_A; at += NBD_MAX_REQUEST)
		assert_int_equal(nbd_pwrite(h, w + at, NBD_MAX_REQUEST, at, 0), 0);
	assert_int_equal(nbd_pwrite(h, w, 4097, 511, LIBNBD_CMD_FLAG_FUA), 0);
	memcpy(r, w, SIZE_A);
	memcpy(r + 511, w, 4097);
	assert_int_equal(nbd_flush(h, 0), 0);
	uint8_t *got = malloc(SIZE_A);
	for (size_t at = 0; at < SIZE_A; at += NBD_MAX_REQUEST)
		assert_int_equal(nbd_pread(h, got + at, NBD_MAX_REQUEST, at, 0), 0);
	assert_memory_equal(got, r, SIZE_A);
	assert_memory_equal(f->d.data[0], r, SIZE_A);
	done(h);
	free(got);
	free(w);
	free(r);
}

static void test_zeroes_and_trim(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *h = client(f, "disk-a");
	memset(f->d.data[0], 0x55, SIZE_A);
	assert_int_equal(nbd_zero(h, 65536, 4096, LIBNBD_CMD_FLAG_NO_HOLE), 0);
	assert_int_equal(f->d.trims, 0);
	assert_int_equal(nbd_zero(h, 65536, 1u << 20, 0), 0);
	assert_int_equal(f->d.trims, 1);
	assert_int_equal(nbd_trim(h, 512, 4u << 20, 0), 0);
	assert_int_equal(f->d.trims, 2);
	assert_int_equal(f->d.data[0][4096], 0);
	assert_int_equal(f->d.data[0][4095], 0x55);
	assert_int_equal(f->d.data[0][(4u << 20) + 511], 0);
	assert_int_equal(f->d.data[0][(4u << 20) + 512], 0x55);
	done(h);
	assert_int_equal(losses(f), 0);
}

static void test_exports_are_told_apart_and_listed(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *h = client(f, "disk-b");
	assert_int_equal(nbd_get_size(h), SIZE_B);
	assert_int_equal(nbd_can_multi_conn(h), 1);
	assert_int_equal(nbd_can_fua(h), 1);
	assert_int_equal(nbd_can_zero(h), 1);
	assert_int_equal(nbd_can_trim(h), 1);
	assert_int_equal(nbd_can_fast_zero(h), 0);
	assert_int_equal(nbd_get_block_size(h, LIBNBD_SIZE_MAXIMUM), NBD_MAX_REQUEST);
	assert_int_equal(nbd_pwrite(h, "x", 1, SIZE_B - 1, 0), 0);
	assert_int_equal(f->d.data[1][SIZE_B - 1], 'x');
	done(h);
	assert_null(client(f, "disk-c"));
	assert_null(client(f, ""));
	assert_null(client(f, "disk-"));
}

static int count_export(void *n, const char *name, const char *description)
{
	assert_true(!strcmp(name, "disk-a") || !strcmp(name, "disk-b"));
	++*(unsigned *)n;
	return 0;
}

static void test_options_of_the_negotiation(void **state)
{
	struct fixture *f = *state;
	unsigned n = 0;
	struct nbd_handle *h = nbd_create();
	nbd_set_opt_mode(h, true);
	assert_int_equal(nbd_connect_unix(h, f->path), 0);
	assert_int_equal(nbd_opt_list(h, (nbd_list_callback){count_export, &n, NULL}), 2);
	assert_int_equal(n, 2);
	nbd_set_export_name(h, "nobody");
	assert_int_equal(nbd_opt_info(h), -1);
	nbd_set_export_name(h, "disk-b");
	assert_int_equal(nbd_opt_info(h), 0);
	assert_int_equal(nbd_get_size(h), SIZE_B);
	nbd_set_export_name(h, "disk-a");
	assert_int_equal(nbd_opt_go(h), 0);
	assert_int_equal(nbd_get_size(h), SIZE_A);
	done(h);
	h = nbd_create();
	nbd_set_opt_mode(h, true);
	assert_int_equal(nbd_connect_unix(h, f->path), 0);
	assert_int_equal(nbd_opt_abort(h), 0);
	nbd_close(h);
	assert_int_equal(losses(f), 0);
}

static void test_an_old_client_without_go(void **state)
{
	struct fixture *f = *state;
	/* Without the fixed flag libnbd has only EXPORT_NAME. */
	for (int zeroes = 0; zeroes < 2; zeroes++) {
		struct nbd_handle *h = nbd_create();
		nbd_set_handshake_flags(h, zeroes ? 0 : LIBNBD_HANDSHAKE_FLAG_NO_ZEROES);
		nbd_set_export_name(h, "disk-b");
		assert_int_equal(nbd_connect_unix(h, f->path), 0);
		assert_int_equal(nbd_get_size(h), SIZE_B);
		assert_int_equal(nbd_pwrite(h, "yz", 2, 7, 0), 0);
		assert_memory_equal(f->d.data[1] + 7, "yz", 2);
		done(h);
	}
}

/* The error of a command that must fail, the connection being still of use. */
#define assert_refused(h, call)                                                                    \
	do {                                                                                       \
		char one[1];                                                                       \
		assert_int_equal(call, -1);                                                        \
		assert_int_equal(nbd_get_errno(), EINVAL);                                         \
		assert_int_equal(nbd_pread(h, one, 1, 0, 0), 0);                                   \
	} while (0)

static void test_bad_requests_are_refused_and_the_rest_goes_on(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *h = client(f, "disk-a");
	uint8_t buf[4096] = {0};
	assert_refused(h, nbd_pread(h, buf, 4096, SIZE_A - 4095, 0));
	assert_refused(h, nbd_pread(h, buf, 4096, UINT64_MAX - 10, 0));
	assert_refused(h, nbd_pread(h, buf, 0, 0, 0));
	assert_int_equal(losses(f), 0);
	assert_refused(h, nbd_pwrite(h, buf, 4096, SIZE_A - 4095, 0));
	assert_refused(h, nbd_pwrite(h, buf, 4096, UINT64_MAX - 4095, 0));
	assert_refused(h, nbd_pwrite(h, buf, 0, 0, 0));
	assert_refused(h, nbd_zero(h, SIZE_A, 4096, 0));
	assert_refused(h, nbd_zero(h, 4096, 0, LIBNBD_CMD_FLAG_FAST_ZERO));
	assert_refused(h, nbd_trim(h, SIZE_A, 4096, 0));
	assert_refused(h, nbd_cache(h, 4096, 0, 0));
	assert_int_equal(f->d.writes, 0);
	assert_int_equal(losses(f), 6); /* each was a write that the client goes on without */
	f->d.fail = -ENOSPC;
	assert_int_equal(nbd_pwrite(h, buf, 4096, 0, 0), -1);
	assert_int_equal(nbd_get_errno(), EIO);
	f->d.fail = 0;
	assert_int_equal(nbd_pwrite(h, buf, 4096, 0, 0), 0);
	done(h);
}

static int raw_connect(struct fixture *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", f->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static bool closed(int fd)
{
	uint8_t b;
	int r;
	while ((r = link_read(fd, &b, 1, mc_now() + 10 * MC_SEC, -1)) == 0)
		;
	close(fd);
	return r == -ENODATA || r == -ECONNRESET;
}

/* Negotiates by hand; the descriptor is in the transmission phase. */
static int raw_go(struct fixture *f)
{
	uint8_t buf[200] = {0};
	int fd = raw_connect(f);
	put_be32(buf, 3);
	memcpy(buf + 4, "IHAVEOPT", 8);
	put_be32(buf + 12, NBD_OPT_EXPORT_NAME);
	put_be32(buf + 16, 6);
	memcpy(buf + 20, "disk-a", 6);
	assert_int_equal(link_write(fd, buf, 26, mc_now() + MC_SEC), 0);
	assert_int_equal(link_read(fd, buf, 18 + 10, mc_now() + 10 * MC_SEC, -1), 0);
	assert_int_equal(get_be64(buf + 18), SIZE_A);
	return fd;
}

static void test_garbage_in_the_negotiation_closes(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[64] = {0};
	struct {
		const char *what;
		uint32_t flags;
		const char *magic;
		uint32_t length;
	} bad[] = {
		{"unknown flags", 7, "IHAVEOPT", 0},
		{"wrong magic", 3, "IHAVEOPX", 0},
		{"an endless option", 3, "IHAVEOPT", UINT32_MAX},
		{"a long option", 3, "IHAVEOPT", NBD_MAX_OPTION + 1},
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int fd = raw_connect(f);
		put_be32(buf, bad[i].flags);
		memcpy(buf + 4, bad[i].magic, 8);
		put_be32(buf + 12, 99);
		put_be32(buf + 16, bad[i].length);
		link_write(fd, buf, 20, mc_now() + MC_SEC);
		assert_true(closed(fd));
	}
}

static void test_a_wrong_magic_closes_and_counts_as_a_loss_after_a_write(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[NBD_REQUEST_SIZE];
	struct nbd_request q = {.type = NBD_CMD_FLUSH, .cookie = 5};
	for (int wrote = 0; wrote < 2; wrote++) {
		int fd = raw_go(f);
		if (wrote) {
			struct nbd_request z = {.type = NBD_CMD_TRIM, .length = 512};
			nbd_put_request(buf, &z);
			link_write(fd, buf, sizeof buf, mc_now() + MC_SEC);
		}
		nbd_put_request(buf, &q);
		buf[3] ^= 1;
		link_write(fd, buf, sizeof buf, mc_now() + MC_SEC);
		assert_true(closed(fd));
		/* The loss is told before the close. */
		assert_int_equal(losses(f), wrote);
	}
}

static void test_a_write_of_gigabytes_closes(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[NBD_REQUEST_SIZE];
	struct nbd_request q = {.type = NBD_CMD_WRITE, .length = NBD_MAX_REQUEST + 1};
	int fd = raw_go(f);
	nbd_put_request(buf, &q);
	link_write(fd, buf, sizeof buf, mc_now() + MC_SEC);
	assert_true(closed(fd));
	assert_int_equal(f->d.writes, 0);
}

static void test_half_a_write_is_none(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[NBD_REQUEST_SIZE + 100] = {0};
	struct nbd_request q = {.type = NBD_CMD_WRITE, .length = 4096};
	int fd = raw_go(f);
	nbd_put_request(buf, &q);
	link_write(fd, buf, sizeof buf, mc_now() + MC_SEC);
	shutdown(fd, SHUT_WR);
	assert_true(closed(fd));
	assert_int_equal(f->d.writes, 0);
	assert_int_equal(losses(f), 1);
}

static void test_shut_closes_everyone_and_lets_nobody_in(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *a = client(f, "disk-a"), *b = client(f, "disk-b");
	int fd = raw_connect(f); /* still negotiating, or not even accepted */
	nbd_server_shut(f->s);
	nbd_server_shut(f->s);
	assert_true(closed(fd));
	assert_int_equal(nbd_pwrite(a, "x", 1, 0, 0), -1);
	assert_int_equal(nbd_pwrite(b, "x", 1, 0, 0), -1);
	assert_null(client(f, "disk-a"));
	nbd_close(a);
	nbd_close(b);
}

static void test_places_are_used_again_and_limited(void **state)
{
	struct fixture *f = *state;
	struct nbd_handle *h[NBD_CONNECTIONS_MAX];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < NBD_CONNECTIONS_MAX; i++) {
			/* Those of the last round may still be on their way out. */
			uint64_t until = mc_now() + 10 * MC_SEC;
			while (!(h[i] = client(f, "disk-a")) && mc_now() < until)
				;
			assert_non_null(h[i]);
		}
		assert_int_equal(nbd_server_connections(f->s), NBD_CONNECTIONS_MAX);
		assert_null(client(f, "disk-a"));
		for (int i = 0; i < NBD_CONNECTIONS_MAX; i++)
			done(h[i]);
	}
}

static void test_the_socket_is_ours_alone_and_replaces_a_stale_one_only(void **state)
{
	struct fixture *f = *state;
	struct mc_error err = MC_ERROR_INIT;
	struct nbd_server *s = NULL;
	struct stat st;
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);

	char path[64];
	snprintf(path, sizeof path, "%s/precious", f->dir);
	fclose(fopen(path, "w"));
	assert_int_equal(nbd_server_new(path, exports, 2, &mem_ops, &f->d, &s, &err), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);

	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
	assert_int_equal(nbd_server_new(path, exports, 2, &mem_ops, &f->d, &s, &err), 0);
	nbd_server_free(s); /* never started */

	char name[300];
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_int_equal(
		nbd_server_new(name, exports, 2, &mem_ops, &f->d, &s, &err), -ENAMETOOLONG);
}

static void test_queries_with_lengths_that_do_not_fit_are_refused(void **state)
{
	uint8_t p[32] = {0};
	struct nbd_query q;
	put_be32(p, 6);
	memcpy(p + 4, "disk-a", 6);
	put_be16(p + 10, 1);
	put_be16(p + 12, NBD_INFO_BLOCK_SIZE);
	assert_int_equal(nbd_get_query(p, 14, &q, NULL), 0);
	assert_true(q.block_size && q.name_len == 6);
	for (size_t len = 0; len < sizeof p; len++)
		if (len != 14)
			assert_int_equal(nbd_get_query(p, len, &q, NULL), -EINVAL);
	put_be32(p, UINT32_MAX);
	assert_int_equal(nbd_get_query(p, 14, &q, NULL), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_foreign_client_reads_back_what_it_wrote),
		T(zeroes_and_trim),
		T(exports_are_told_apart_and_listed),
		T(options_of_the_negotiation),
		T(an_old_client_without_go),
		T(bad_requests_are_refused_and_the_rest_goes_on),
		T(garbage_in_the_negotiation_closes),
		T(a_wrong_magic_closes_and_counts_as_a_loss_after_a_write),
		T(a_write_of_gigabytes_closes),
		T(half_a_write_is_none),
		T(shut_closes_everyone_and_lets_nobody_in),
		T(places_are_used_again_and_limited),
		T(the_socket_is_ours_alone_and_replaces_a_stale_one_only),
		cmocka_unit_test(test_queries_with_lengths_that_do_not_fit_are_refused),
	};
	return cmocka_run_group_tests_name("nbd", tests, NULL, NULL);
}
