/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * RUN_DIR/NAME/takeover, little-endian:
 *
 *	  0   8  "mcd-take"
 *	  8   4  version, 1
 *	 12   4  guest: what it did at the end of that epoch, enum wire_guest
 *	 16   8  generation
 *	 24   8  epoch
 *	 32   8  length of the device state
 *	 40   8  XXH3-64 of the device state
 *	 48  64  the primary's name, padded with zeros
 *	112   8  XXH3-64 of bytes 0..111
 *	120      the device state
 *
 * Valid when (1) magic and version match, (2) the header's digest does, (3) the length is that of
 * the rest of the file and at most WIRE_DEVICES_MAX, (4) the state's digest matches, (5) the name
 * ends with a zero, (6) guest is at most WIRE_GUEST_MAX.
 */
/* clang-format on */
#include "mcd/vm/takeover-file.h"

#include "common/cleanup.h"
#include "common/le.h"
#include "mcd/wire/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <xxhash.h>

#define HEADER_SIZE 120
#define VERSION     1
#define ROOM_STEP   (64u << 10)

_Static_assert(LINK_NAME_MAX + 1 == 64, "the name's field");

static const char magic[8] = "mcd-take";

static void path_of(const char *dir, const char *leaf, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s/%s", dir, leaf);
}

int takeover_file_reserve(
	const char *dir, size_t len, struct takeover_room *room, struct mc_error *err)
{
	char path[400];
	size_t want = (HEADER_SIZE + len + len / 2 + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP;
	if (room->fd >= 0 && HEADER_SIZE + len <= room->size)
		return 0;
	path_of(dir, "takeover.room", path, sizeof path);
	if (room->fd < 0)
		room->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = room->fd < 0 ? errno : posix_fallocate(room->fd, 0, (off_t)want);
	if (r)
		return mc_error_set(err, -r, MC_ECLASS_FAILED,
			"%s has no room for the device state that a takeover would keep there: %s; "
			"free some space",
			dir, strerror(r));
	room->size = want;
	return 0;
}

void takeover_room_close(struct takeover_room *room)
{
	if (room->fd >= 0)
		close(room->fd);
	*room = (struct takeover_room){.fd = -1};
}

/* Where it is written, open: into its room, if there is one. */
static int open_new(const char *tmp, struct takeover_room *room)
{
	if (!room || room->fd < 0)
		return open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int fd = room->fd;
	*room = (struct takeover_room){.fd = -1};
	return fd;
}

int takeover_file_save(const char *dir, const struct takeover_state *t, struct takeover_room *room,
	struct mc_error *err)
{
	char path[400], tmp[400];
	uint8_t head[HEADER_SIZE] = {0};
	bool fits = room && room->fd >= 0 && sizeof head + t->len <= room->size;
	path_of(dir, "takeover", path, sizeof path);
	path_of(dir, fits ? "takeover.room" : "takeover.new", tmp, sizeof tmp);
	memcpy(head, magic, sizeof magic);
	put_le32(head + 8, VERSION);
	put_le32(head + 12, t->guest_state);
	put_le64(head + 16, t->generation);
	put_le64(head + 24, t->epoch);
	put_le64(head + 32, t->len);
	put_le64(head + 40, XXH3_64bits(t->devices, t->len));
	snprintf((char *)head + 48, 64, "%s", t->primary);
	put_le64(head + 112, XXH3_64bits(head, 112));
	struct iovec iov[2] = {{head, sizeof head}, {t->devices, t->len}};
	_cleanup_close_ int fd = open_new(tmp, fits ? room : NULL);
	/* No fsync: it is to outlive mcd, not the host, whose QEMU would be gone as well. */
	ssize_t len = (ssize_t)(sizeof head + t->len);
	if (fd < 0 || pwritev(fd, iov, 2, 0) != len || ftruncate(fd, (off_t)len) < 0 ||
		rename(tmp, path) < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED,
			"cannot keep the device state in %s: %s", path, strerror(errno));
	return 0;
}

static int damaged(const char *path, struct mc_error *err)
{
	return mc_error_set(err, -EBADMSG, MC_ECLASS_FAILED,
		"%s is damaged or of another version of mcd: the takeover it belongs to cannot be "
		"finished",
		path);
}

int takeover_file_load(const char *dir, struct takeover_state *ret, struct mc_error *err)
{
	char path[400];
	uint8_t head[HEADER_SIZE];
	struct stat st;
	path_of(dir, "takeover", path, sizeof path);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof head);
	if (n < 0)
		return mc_error_set(
			err, -errno, MC_ECLASS_FAILED, "cannot read %s: %s", path, strerror(errno));
	if (n != sizeof head || memcmp(head, magic, sizeof magic) ||
		get_le32(head + 8) != VERSION || get_le64(head + 112) != XXH3_64bits(head, 112) ||
		head[111] || get_le32(head + 12) > WIRE_GUEST_MAX || fstat(fd, &st) < 0)
		return damaged(path, err);
	uint64_t len = get_le64(head + 32);
	if (!len || len > WIRE_DEVICES_MAX || st.st_size != (off_t)(HEADER_SIZE + len))
		return damaged(path, err);
	_cleanup_free_ uint8_t *devices = malloc(len);
	if (!devices)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the device state");
	if (read(fd, devices, len) != (ssize_t)len ||
		XXH3_64bits(devices, len) != get_le64(head + 40))
		return damaged(path, err);
	*ret = (struct takeover_state){
		.generation = get_le64(head + 16),
		.epoch = get_le64(head + 24),
		.guest_state = get_le32(head + 12),
		.devices = mc_steal_ptr(devices),
		.len = len,
	};
	memcpy(ret->primary, head + 48, sizeof ret->primary);
	return 0;
}

void takeover_file_remove(const char *dir)
{
	char path[400];
	path_of(dir, "takeover", path, sizeof path);
	unlink(path);
	path_of(dir, "takeover.room", path, sizeof path);
	unlink(path);
}
