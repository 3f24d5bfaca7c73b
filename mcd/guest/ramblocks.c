/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/guest/ramblocks.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/memory.h"
#include "mcd/guest/ramblocks-private.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#define TIMEOUT  (10 * MC_SEC) /* for all questions together */
#define MAPS_MAX (16u << 20)   /* bytes of /proc/PID/maps, whose names QEMU chooses */

/* What the parts of ramblocks_open share; all of it is released there. */
struct finder {
	struct qmp *q;
	pid_t pid;
	uint64_t deadline;
	struct ramblock_line *line;
	size_t n_line;
	json_t *memdev;
	struct ram_mapping *map;
	size_t n_map;
};

static void finder_clear(struct finder *f)
{
	free(f->line);
	free(f->map);
	json_decref(f->memdev);
}

static uint64_t time_left(const struct finder *f)
{
	uint64_t now = mc_now();
	return now < f->deadline ? f->deadline - now : 0;
}

static int read_maps(pid_t pid, char **ret, struct mc_error *err)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t n = 0, cap = 0;
	for (;;) {
		if (n > MAPS_MAX)
			return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
				"QEMU (process %d) has more mappings than mcd reads", (int)pid);
		if (cap - n < 65536) {
			cap += 262144;
			char *bigger = realloc(text, cap);
			if (!bigger)
				return mc_error_set(
					err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
			text = bigger;
		}
		ssize_t got = fd < 0 ? -1 : read(fd, text + n, cap - n - 1);
		if (got < 0 && (errno == ENOENT || errno == ESRCH))
			return mc_error_set(err, -ESRCH, MC_ECLASS_QMP,
				"QEMU (process %d) has ended", (int)pid);
		if (got < 0)
			return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
				"%s cannot be read (%s); run mcd as root", path, strerror(errno));
		if (!got)
			break;
		n += (size_t)got;
	}
	text[n] = '\0';
	*ret = mc_steal_ptr(text);
	return 0;
}

static int finder_fill(struct finder *f, struct mc_error *err)
{
	_cleanup_free_ char *text = NULL, *maps = NULL;
	int r = qmp_hmp(f->q, "info ramblock", time_left(f), &text, err);
	if (!r)
		r = ramblocks_parse(text, &f->line, &f->n_line, err);
	if (!r)
		r = qmp_command(f->q, "query-memdev", NULL, time_left(f), &f->memdev, err);
	if (!r)
		r = read_maps(f->pid, &maps, err);
	if (!r)
		r = ramblocks_parse_maps(maps, &f->map, &f->n_map, err);
	return r;
}

/* Blocks of old machine types (before 4.0) are named by the whole path of their backend. */
static const char *backend_id(const struct ramblock_line *l)
{
	return strncmp(l->id, "/objects/", 9) ? l->id : l->id + 9;
}

static json_t *find_memdev(const struct finder *f, const char *id)
{
	size_t i;
	json_t *m;
	json_array_foreach(f->memdev, i, m) {
		const char *s = json_string_value(json_object_get(m, "id"));
		if (s && !strcmp(s, id))
			return m;
	}
	return NULL;
}

/* The descriptor of QEMU's that the backend has its memory from: /proc/self/fd/N is what mcd gives
 * it, and what QEMU says of it is but a hint, to be compared with what it maps. */
static bool file_known(const struct finder *f, const char *id, char path[64], struct memory_id *ret)
{
	char object[RAMBLOCK_ID_MAX + 32], *end = NULL;
	snprintf(object, sizeof object, "/objects/%s", id);
	json_t *result = NULL;
	/* A memory-backend-memfd has no such property: any answer but a path means "unknown". */
	if (qmp_command(f->q, "qom-get",
		    json_pack("{s:s, s:s}", "path", object, "property", "mem-path"), time_left(f),
		    &result, NULL))
		return false;
	const char *name = json_string_value(result);
	const char *digits = !name                                  ? NULL
			     : !strncmp(name, "/proc/self/fd/", 14) ? name + 14
			     : !strncmp(name, "/dev/fd/", 8)        ? name + 8
								    : NULL;
	unsigned long number =
		digits && isdigit((unsigned char)*digits) ? strtoul(digits, &end, 10) : 0;
	bool good = end && !*end && number <= INT_MAX;
	json_decref(result);
	if (!good)
		return false;
	snprintf(path, 64, "/proc/%d/fd/%lu", (int)f->pid, number);
	return memory_identify(path, ret) == 0;
}

/* How many backends of that size have no file that we could know them by. */
static size_t count_same_size(const struct finder *f, uint64_t size)
{
	size_t n = 0;
	char path[64];
	struct memory_id id;
	for (size_t i = 0; i < f->n_line; i++)
		if (f->line[i].used == size && find_memdev(f, backend_id(&f->line[i])) &&
			!file_known(f, backend_id(&f->line[i]), path, &id))
			n++;
	return n;
}

static int open_memory(const char *path, const char *id, const struct ram_mapping *m, int *ret,
	struct mc_error *err)
{
	struct stat st;
	struct memory_id want = {makedev(m->dev_major, m->dev_minor), m->ino};
	_cleanup_close_ int fd = -1;
	int r = memory_open(path, O_RDWR, &want, &fd, err);
	if (r < 0)
		return mc_error_wrap(err, "the memory of backend \"%s\"", id);
	if (fstat(fd, &st) || (uint64_t)st.st_size < m->len)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"backend \"%s\": the file is smaller than what QEMU maps of it; let mcd "
			"supply the memory",
			id);
	/* An earlier mcd's has none, and takes none: then memory_try is what there is. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	*ret = mc_steal_fd(&fd);
	return 0;
}

static int add_block(
	struct finder *f, const struct ramblock_line *l, struct ramblocks *b, struct mc_error *err)
{
	const char *id = backend_id(l);
	char path[96];
	struct memory_id file;
	struct ram_wanted w = {.id = id, .size = l->used, .hva = l->hva};
	if (file_known(f, id, path, &file)) {
		w.by_file = true;
		w.dev = file.dev;
		w.ino = file.ino;
	} else {
		w.same_size = count_same_size(f, l->used);
	}
	const struct ram_mapping *m = NULL;
	int r = ramblocks_choose(&w, f->map, f->n_map, &m, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < b->n; i++)
		if (b->v[i].qemu_addr == m->addr)
			return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
				"backends \"%s\" and \"%s\" are the same memory; give each its own "
				"file",
				b->v[i].id, id);
	if (b->n == RAMBLOCKS_MAX)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"the VM has more than %d memory backends; use fewer, larger ones",
			RAMBLOCKS_MAX);
	_cleanup_close_ int fd = -1;
	if (!w.by_file)
		snprintf(path, sizeof path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, (int)f->pid,
			m->addr, m->first_end);
	r = open_memory(path, id, m, &fd, err);
	if (r < 0)
		return r;
	uint8_t *map = mmap(NULL, l->used, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
			"%" PRIu64 " bytes of guest memory (\"%s\") cannot be mapped: %s", l->used,
			id, strerror(errno));
	assert(m->len == l->used && m->addr % 4096 == 0); /* ramblocks_choose took care of it */
	struct ramblock *v = &b->v[b->n++];
	*v = (struct ramblock){
		.size = l->used, .qemu_addr = m->addr, .map = map, .fd = mc_steal_fd(&fd)};
	snprintf(v->id, sizeof v->id, "%s", id);
	return 0;
}

static int add_all(struct finder *f, struct ramblocks *b, struct mc_error *err)
{
	int r = finder_fill(f, err);
	for (size_t i = 0; !r && i < f->n_line; i++) {
		const struct ramblock_line *l = &f->line[i];
		json_t *m = find_memdev(f, backend_id(l));
		/* A backend may have any name, so it is asked for before the names of ROMs. */
		if (m && json_is_true(json_object_get(m, "share")))
			r = add_block(f, l, b, err);
		else if (m || !ramblocks_is_rom(l))
			r = ramblocks_refuse(l->id, m != NULL, err);
	}
	if (!r && !b->n)
		r = mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"the VM has no shared memory; give the size by -m and let mcd supply the "
			"memory");
	return r;
}

int ramblocks_open(struct qmp *q, pid_t pid, struct ramblocks *ret, struct mc_error *err)
{
	struct finder f = {.q = q, .pid = pid, .deadline = mc_now() + TIMEOUT};
	struct ramblocks b = {0};
	int r = add_all(&f, &b, err);
	finder_clear(&f);
	if (r < 0) {
		ramblocks_close(&b);
		return r;
	}
	*ret = b;
	return 0;
}

void ramblocks_close(struct ramblocks *b)
{
	for (size_t i = 0; i < b->n; i++) {
		munmap(b->v[i].map, b->v[i].size);
		close(b->v[i].fd);
	}
	b->n = 0;
}
