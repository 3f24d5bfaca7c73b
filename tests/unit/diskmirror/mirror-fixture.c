/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mirror-fixture.h"

#include "tests/unit/diskmirror/link-pair.h"

#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void count_broken(void *ctx)
{
	((struct fixture *)ctx)->broken++;
}

static void count_pressed(void *ctx)
{
	((struct fixture *)ctx)->pressed++;
}

struct fixture *fixture_open(uint64_t budget, uint64_t stall_after)
{
	struct fixture *x = calloc(1, sizeof *x);
	struct mc_error err = MC_ERROR_INIT;
	struct disklink *link;
	int fd[2], size = 65536;

	x->hello = (struct disk_hello){.generation = 7,
		.seed = "a random seed..",
		.n_disks = 2,
		.disks = {{"big", BIG_SIZE}, {"small", SMALL_SIZE}}};
	strcpy(x->dir, "/tmp/test-mirror.XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->path, sizeof x->path, "%s/nbd.sock", x->dir);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	/* So that a standby that reads nothing is felt soon. */
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	x->f = fake_start(fd[1]);
	link = test_disklink(fd[0]);
	struct mirror_config c = {.socket_path = x->path,
		.hello = &x->hello,
		.budget = budget,
		.stall_after = stall_after,
		.broken = count_broken,
		.pressure = count_pressed,
		.ctx = x};
	if (mirror_open(&c, link, mc_now() + 10 * MC_SEC, &x->m, &err) < 0)
		fail_msg("%s", err.msg);
	return x;
}

void fixture_close(struct fixture *x)
{
	mirror_close(x->m);
	assert_string_equal(fake_complaint(x->f), "");
	fake_stop(x->f);
	assert_int_equal(access(x->path, F_OK), -1);
	rmdir(x->dir);
	free(x);
}

struct nbd_handle *fixture_client(struct fixture *x, const char *disk)
{
	struct nbd_handle *h = nbd_create();
	nbd_set_export_name(h, disk);
	nbd_set_strict_mode(h, 0);
	if (nbd_connect_unix(h, x->path) == 0)
		return h;
	nbd_close(h);
	return NULL;
}

void fixture_client_done(struct nbd_handle *h)
{
	nbd_shutdown(h, 0);
	nbd_close(h);
}

void fixture_settle(struct fixture *x, struct nbd_handle *h)
{
	char one;
	assert_int_equal(nbd_pread(h, &one, 1, 0, 0), 0);
}

void fixture_wait_broken(struct fixture *x)
{
	struct timespec ms = {0, 1000000};
	for (int i = 0; i < 10000 && !x->broken; i++)
		nanosleep(&ms, NULL);
	assert_int_equal(x->broken, 1);
}
