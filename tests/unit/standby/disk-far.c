/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/standby/disk-far.h"

#include "tests/unit/diskmirror/fake-primary.h"
#include "tests/unit/diskmirror/link-pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <cmocka.h>

struct disk_far {
	struct world w;
	char config[600];
	uint8_t *committed[DISKS];
};

struct disk_far *disk_far_new(void)
{
	struct disk_far *d = calloc(1, sizeof *d);
	assert_non_null(d);
	world_init(&d->w);
	snprintf(d->config, sizeof d->config,
		"[disk disk0]\nimage = %s\n\n[disk disk1]\nimage = %s\n", d->w.disks[0].path,
		d->w.disks[1].path);
	copy_model(&d->w, d->committed);
	return d;
}

void disk_far_free(struct disk_far *d)
{
	free_model(d->committed);
	world_destroy(&d->w);
	free(d);
}

const char *disk_far_config(struct disk_far *d)
{
	return d->config;
}

const char *disk_far_path(struct disk_far *d, int disk)
{
	return d->w.disks[disk].path;
}

struct disklink *disk_far_hello(struct disk_far *d)
{
	int sv[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	d->w.fd = sv[0];
	struct disklink *l = test_disklink(sv[1]);
	send_hello(&d->w, GENERATION, "disk0", SIZE0);
	return l;
}

void disk_far_greeted(struct disk_far *d)
{
	uint8_t *p;
	assert_int_equal(recv_message(&d->w, &p).type, DISK_HELLO_OK);
	free(p);
}

void disk_far_write(struct disk_far *d, uint64_t epoch, uint64_t off, unsigned seed)
{
	send_write(&d->w, epoch, 0, off, 4096, seed);
}

struct disk_epoch_sum disk_far_end(struct disk_far *d, uint64_t epoch)
{
	return send_end(&d->w, epoch, false);
}

void disk_far_committed(struct disk_far *d)
{
	free_model(d->committed);
	copy_model(&d->w, d->committed);
}

void disk_far_expect_committed(struct disk_far *d)
{
	expect_files(&d->w, d->committed);
}
