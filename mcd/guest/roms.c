/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Firmware is private memory of QEMU's, so it is read and written through /proc/PID/mem.  Where it
 * is, newer QEMUs say themselves ("info ramblock"); of a 7.2 it is asked by the place that firmware
 * has in every PC: the end of the first 4 GiB.
 *
 * Other read-only blocks need nothing: QEMU fills the ROMs of cards and what it hands to the
 * firmware (/rom@...) when it makes them, also under -incoming.
 */
#include "mcd/guest/roms.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/guest/ramblocks-private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define QMP_TIMEOUT (5 * MC_SEC)
#define TOP         (1ull << 32)

static bool is_firmware(const struct ramblock_line *l)
{
	return !strcmp(l->id, "pc.bios") || !strcmp(l->id, "pc.isa-bios") ||
	       !strcmp(l->id, "isa-bios");
}

/* "Host virtual address for 0xfffc0000 (pc.bios) is 0x7f..." */
static uint64_t ask_address(struct qmp *q, const struct ramblock_line *l)
{
	_cleanup_free_ char *text = NULL;
	char line[64], want[RAMBLOCK_ID_MAX + 16];
	snprintf(line, sizeof line, "gpa2hva 0x%" PRIx64, (uint64_t)(TOP - l->used));
	snprintf(want, sizeof want, " (%s) is 0x", l->id);
	if (strcmp(l->id, "pc.bios") || qmp_hmp(q, line, QMP_TIMEOUT, &text, NULL) < 0)
		return 0;
	const char *p = strstr(text, want);
	return p ? strtoull(p + strlen(want), NULL, 16) : 0;
}

static int list_firmware(
	struct qmp *q, struct ramblock_line **ret, size_t *ret_n, struct mc_error *err)
{
	_cleanup_free_ char *text = NULL;
	struct ramblock_line *v;
	size_t n, kept = 0;
	int r = qmp_hmp(q, "info ramblock", QMP_TIMEOUT, &text, err);
	if (r == 0)
		r = ramblocks_parse(text, &v, &n, err);
	if (r < 0)
		return r;
	/* One more than may be: then it is refused, without a question for each. */
	for (size_t i = 0; i < n && kept <= ROMS_MAX; i++)
		if (is_firmware(&v[i])) {
			v[kept] = v[i];
			if (!v[kept].hva)
				v[kept].hva = ask_address(q, &v[i]);
			kept++;
		}
	*ret = v;
	*ret_n = kept;
	return 0;
}

static int open_memory(pid_t pid, int flags, struct mc_error *err)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"the firmware in the memory of QEMU (pid %d) cannot be reached: %s; run "
			"mcd as root or with CAP_SYS_PTRACE",
			(int)pid, strerror(errno));
	return fd;
}

static int no_place(const char *id, struct mc_error *err)
{
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
		"the firmware (%s) is not where a PC has it, so it cannot be copied: use -machine "
		"q35 or pc, and their own firmware or -bios FILE",
		id);
}

static int transfer(
	int fd, bool in, uint8_t *data, uint64_t size, uint64_t addr, struct mc_error *err)
{
	for (uint64_t at = 0; at < size;) {
		ssize_t n = in ? pread(fd, data + at, size - at, (off_t)(addr + at))
			       : pwrite(fd, data + at, size - at, (off_t)(addr + at));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return mc_error_set(err, n < 0 ? -errno : -EIO, MC_ECLASS_FAILED,
				"cannot %s the firmware in the memory of QEMU: %s",
				in ? "read" : "write", n < 0 ? strerror(errno) : "QEMU has ended");
		at += (uint64_t)n;
	}
	return 0;
}

int roms_add(struct roms *r, const char *id, uint8_t *data, uint64_t size, struct mc_error *err)
{
	size_t i = 0;
	assert(data && r->n <= ROMS_MAX);
	while (i < r->n && strcmp(r->v[i].id, id))
		i++;
	if (i == ROMS_MAX) {
		free(data);
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"the VM has more than %d blocks of firmware", ROMS_MAX);
	}
	if (i == r->n)
		r->v[r->n++] = (struct rom){.size = 0};
	free(r->v[i].data);
	snprintf(r->v[i].id, sizeof r->v[i].id, "%s", id);
	r->v[i].size = size;
	r->v[i].data = data;
	return 0;
}

void roms_clear(struct roms *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->v[i].data);
	r->n = 0;
}

int roms_read(struct qmp *q, pid_t pid, struct roms *ret, struct mc_error *err)
{
	_cleanup_free_ struct ramblock_line *v = NULL;
	struct roms roms = {0};
	size_t n;
	int r = list_firmware(q, &v, &n, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open_memory(pid, O_RDONLY, err);
	if (fd < 0)
		return fd;
	for (size_t i = 0; i < n && r == 0; i++) {
		if (v[i].used > ROM_BYTES_MAX)
			r = mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
				"the firmware (%s) has %" PRIu64 " MiB, more than mcd can copy",
				v[i].id, v[i].used >> 20);
		else if (!v[i].hva)
			r = no_place(v[i].id, err);
		if (r < 0)
			break;
		uint8_t *data = malloc(v[i].used);
		if (!data) {
			r = mc_error_set(
				err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for the firmware");
			break;
		}
		r = transfer(fd, true, data, v[i].used, v[i].hva, err);
		if (r < 0)
			free(data);
		else
			r = roms_add(&roms, v[i].id, data, v[i].used, err);
	}
	if (r < 0)
		roms_clear(&roms);
	else
		*ret = roms;
	return r;
}

static const struct rom *find(const struct roms *r, const struct ramblock_line *l)
{
	for (size_t i = 0; i < r->n; i++)
		if (!strcmp(r->v[i].id, l->id) && r->v[i].size == l->used)
			return &r->v[i];
	return NULL;
}

int roms_write(struct qmp *q, pid_t pid, const struct roms *roms, struct mc_error *err)
{
	_cleanup_free_ struct ramblock_line *v = NULL;
	size_t n;
	int r = list_firmware(q, &v, &n, err);
	if (r < 0)
		return r;
	_cleanup_close_ int fd = open_memory(pid, O_WRONLY, err);
	if (fd < 0)
		return fd;
	if (n != roms->n)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_CONFIG,
			"QEMU has %zu blocks of firmware here and %zu on the primary: use the same "
			"QEMU and firmware on both hosts",
			n, roms->n);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct rom *rom = find(roms, &v[i]);
		if (!rom)
			r = mc_error_set(err, -ENOTSUP, MC_ECLASS_CONFIG,
				"the firmware %s has another size here (%" PRIu64 " bytes) than on "
				"the primary: use the same QEMU and firmware on both hosts",
				v[i].id, v[i].used);
		else if (!v[i].hva)
			r = no_place(v[i].id, err);
		else
			r = transfer(fd, false, rom->data, rom->size, v[i].hva, err);
	}
	return r;
}
