/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/verify-disk.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/vm/disks.h"
#include "mcd/vm/range-digest.h"
#include "mcd/vm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define QMP_WAIT (2 * MC_SEC)

struct verify_disk {
	struct guest *guest;
	char id[64];
	uint64_t size;
	int fd;                 /* raw */
	struct nbd_handle *nbd; /* others */
};

static int connect_qemu(struct vm *vm, struct verify_disk *d, struct mc_error *err)
{
	char path[400];
	vm_run_dir(vm, path, sizeof path - 16);
	strcat(path, "/qemu/read.sock"); /* where its user may make one */
	int r = guest_export_begin(vm->guest, d->id, path, QMP_WAIT, err);
	if (r < 0)
		return r;
	d->nbd = nbd_create();
	if (d->nbd && nbd_set_export_name(d->nbd, d->id) == 0 &&
		nbd_connect_unix(d->nbd, path) == 0)
		return 0;
	return mc_error_set(err, -EIO, MC_ECLASS_QMP, "disk %s cannot be read through QEMU: %s",
		d->id, nbd_get_error());
}

int verify_disk_open(struct vm *vm, size_t disk, struct verify_disk **ret, struct mc_error *err)
{
	struct cmdline_disk where[CONFIG_DISKS_MAX];
	struct verify_disk *d = calloc(1, sizeof *d);
	if (!d)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	d->fd = -1;
	d->guest = vm->guest;
	snprintf(d->id, sizeof d->id, "%s", vm->cfg->disks[disk].id);
	int r = guest_disk_size(vm->guest, d->id, QMP_WAIT, &d->size, err);
	if (r == 0)
		r = disks_locate(vm, false, where, err);
	if (r == 0 && !strcmp(where[disk].format, "raw")) {
		d->fd = open(where[disk].path, O_RDONLY | O_CLOEXEC);
		if (d->fd < 0)
			r = mc_error_set(err, -errno, MC_ECLASS_FAILED, "%s cannot be read: %s",
				where[disk].path, strerror(errno));
	} else if (r == 0) {
		r = connect_qemu(vm, d, err);
	}
	if (r < 0) {
		verify_disk_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

void verify_disk_close(struct verify_disk *d)
{
	if (!d)
		return;
	if (d->fd >= 0)
		close(d->fd);
	if (d->nbd) {
		nbd_close(d->nbd);
		guest_export_end(d->guest, d->id, QMP_WAIT);
	}
	free(d);
}

uint64_t verify_disk_size(const struct verify_disk *d)
{
	return d->size;
}

static int digest_nbd(
	struct verify_disk *d, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(len);
	if (!buf || nbd_pread(d->nbd, buf, len, off, 0) < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_QMP,
			"disk %s cannot be read through QEMU: %s", d->id,
			buf ? nbd_get_error() : "no memory left");
	*ret = XXH3_64bits(buf, len);
	return 0;
}

int verify_disk_digest(
	struct verify_disk *d, uint64_t off, uint64_t len, uint64_t *ret, struct mc_error *err)
{
	return d->nbd ? digest_nbd(d, off, len, ret, err)
		      : range_digest_file(d->fd, off, len, ret, err);
}
