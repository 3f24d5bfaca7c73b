/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's memory in the command line.
 *
 * Every backend becomes a memory-backend-file on a memfd of ours, with the id and the size that
 * the user gave, because QEMU names the RAM block after the id and both hosts must agree on it.
 * Whatever the guest could write in memory that we do not hold must be refused here.
 */
#include "mcd/guest/cmdline/private.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define OWN_ID    "mcd-ram"
#define PAGE_SIZE 4096ull

int cmdline_take_memory(struct planner *p, const char *arg, struct mc_error *err)
{
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "size", &o, err);
	if (r < 0)
		return r;
	const char *size = qemu_opts_get(&o, "size");
	uint64_t bytes = 0;
	if (qemu_opts_get(&o, "slots") || qemu_opts_get(&o, "maxmem"))
		r = cmdline_refuse(err, "m", arg,
			"memory that is plugged in later would not be in the checkpoint: take "
			"slots and maxmem out");
	else if (!size)
		r = cmdline_refuse(
			err, "m", arg, "there is no size in it: write one such as -m 4G");
	else if ((r = qemu_size_parse(size, 1ull << 20, &bytes, err)) == 0 &&
		 (bytes == 0 || bytes > (1ull << 50)))
		r = cmdline_refuse(err, "m", arg,
			"no guest can have that much memory: write a size such as 4G");
	qemu_opts_clear(&o);
	if (r < 0)
		return r;
	p->have_m = true;
	p->m_size = (bytes + 8191) & ~8191ull; /* as QEMU rounds it */
	return 0;
}

/* An id that goes into a fixed buffer, and into the stream to the standby. */
static int keep_id(
	char to[64], const char *option, const char *arg, const char *id, struct mc_error *err)
{
	if (!*id || strlen(id) >= 64)
		return cmdline_refuse(
			err, option, arg, "the memory backend's id must have 1 to 63 characters");
	memcpy(to, id, strlen(id) + 1);
	return 0;
}

int cmdline_take_machine(struct planner *p, const char *arg, struct mc_error *err)
{
	static const char *const encrypting[] = {"memory-encryption", "confidential-guest-support"};
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "type", &o, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < 2 && r == 0; i++)
		if (qemu_opts_get(&o, encrypting[i]))
			r = cmdline_refuse(err, "machine", arg,
				"encrypted memory cannot be read from outside: take %s out",
				encrypting[i]);
	if (qemu_opts_get(&o, "accel"))
		cmdline_look_accel(p, qemu_opts_get(&o, "accel"));
	const char *backend = qemu_opts_get(&o, "memory-backend");
	if (r == 0 && backend)
		r = keep_id(p->machine_backend, "machine", arg, backend, err);
	qemu_opts_clear(&o);
	return r;
}

int cmdline_take_numa(struct planner *p, const char *arg, struct mc_error *err)
{
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "type", &o, err);
	if (r < 0)
		return r;
	const char *memdev = qemu_opts_get(&o, "memdev");
	if (qemu_opts_get(&o, "mem"))
		r = cmdline_refuse(err, "numa", arg,
			"mem= leaves the memory to QEMU: write memdev=ID and -object "
			"memory-backend-ram,id=ID,size=...");
	else if (memdev && p->n_numa == CMDLINE_RAM_MAX)
		r = cmdline_refuse(err, "numa", arg, "there are more than %d nodes with memory",
			CMDLINE_RAM_MAX);
	else if (memdev)
		r = keep_id(p->numa_backend[p->n_numa++], "numa", arg, memdev, err);
	qemu_opts_clear(&o);
	return r;
}

/* What becomes of each property of the user's own backend. */
static const struct backend_property {
	const char *name;
	enum { KEPT, REPLACED, MUST_BE_OFF } fate;
} backend_properties[] = {
	{"host-nodes", KEPT},
	{"policy", KEPT},
	{"merge", KEPT},
	{"dump", KEPT},
	{"reserve", KEPT},
	{"qom-type", REPLACED},
	{"id", REPLACED},
	{"size", REPLACED},
	{"share", REPLACED},
	{"mem-path", REPLACED},
	{"seal", REPLACED},
	{"prealloc", REPLACED}, /* our memfd is populated by us */
	{"prealloc-threads", REPLACED},
	{"prealloc-context", REPLACED},
	{"hugetlbsize", REPLACED},
	{"align", REPLACED},
	{"discard-data", REPLACED},
	{"x-use-canonical-path-for-ramblock-id", REPLACED}, /* the block is named after the id */
	{"hugetlb", MUST_BE_OFF},
	{"pmem", MUST_BE_OFF},
	{"readonly", MUST_BE_OFF},
	{"rom", MUST_BE_OFF},
};

static int take_backend_property(
	struct cmdline_ram *ram, const char *arg, const struct qemu_opt *opt, struct mc_error *err)
{
	for (size_t i = 0; i < sizeof backend_properties / sizeof *backend_properties; i++) {
		const struct backend_property *bp = &backend_properties[i];
		if (strcmp(bp->name, opt->key))
			continue;
		if (bp->fate == MUST_BE_OFF && strcmp(opt->value, "off") &&
			strcmp(opt->value, "no") && strcmp(opt->value, "false") &&
			strcmp(opt->value, "n"))
			return cmdline_refuse(err, "object", arg,
				"%s=%.32s is not possible, because mcd puts the memory on a memfd "
				"of ordinary pages: take it out",
				opt->key, opt->value);
		if (bp->fate == KEPT && qemu_opts_append(&ram->extra, opt->key, opt->value) < 0)
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
		return 0;
	}
	return cmdline_refuse(err, "object", arg,
		"mcd does not know \"%.64s\" of a memory backend, so it might not carry it over: "
		"take it out",
		opt->key);
}

static int take_backend(
	struct planner *p, const char *arg, const struct qemu_opts *o, struct mc_error *err)
{
	struct cmdline_plan *plan = p->plan;
	const char *id = qemu_opts_get(o, "id"), *size = qemu_opts_get(o, "size");
	const char *path = qemu_opts_get(o, "mem-path");
	if (!id || !size)
		return cmdline_refuse(err, "object", arg, "a memory backend needs id= and size=");
	if (path && strstr(path, "huge"))
		return cmdline_refuse(err, "object", arg,
			"memory on hugetlbfs cannot be tracked page by page: use "
			"memory-backend-memfd without hugetlb");
	if (plan->n_ram == CMDLINE_RAM_MAX)
		return cmdline_refuse(err, "object", arg, "there are more than %d memory backends",
			CMDLINE_RAM_MAX);
	for (size_t i = 0; i < plan->n_ram; i++)
		if (!strcmp(plan->ram[i].id, id))
			return cmdline_refuse(
				err, "object", arg, "the id is already another backend's");

	_Static_assert(sizeof plan->ram / sizeof *plan->ram == CMDLINE_RAM_MAX, "room for as many");
	assert(plan->n_ram < CMDLINE_RAM_MAX);
	struct cmdline_ram *ram = &plan->ram[plan->n_ram];
	*ram = (struct cmdline_ram){.size = 0};
	int r = keep_id(ram->id, "object", arg, id, err);
	if (r == 0)
		r = qemu_size_parse(size, 1, &ram->size, err);
	if (r < 0)
		return r;
	if (ram->size == 0 || ram->size % PAGE_SIZE || ram->size > (1ull << 50))
		return cmdline_refuse(err, "object", arg,
			"the size must be whole pages of %llu bytes, and not 0: write one such as "
			"4G",
			PAGE_SIZE);
	plan->n_ram++; /* from here on cmdline_plan_clear frees extra */
	for (size_t i = 0; i < o->n && r == 0; i++)
		r = take_backend_property(ram, arg, &o->v[i], err);
	return r;
}

int cmdline_take_object(struct planner *p, const char *arg, bool *keep, struct mc_error *err)
{
	static const char *const ours[] = {"ram", "memfd", "file", "shm"};
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "qom-type", &o, err);
	if (r < 0)
		return r;
	const char *type = qemu_opts_get(&o, "qom-type");
	const char *advice = type ? option_object_advice(type) : NULL;
	size_t prefix = strlen("memory-backend-");
	if (!type) {
		r = cmdline_refuse(err, "object", arg, "there is no type in it");
	} else if (advice) {
		r = cmdline_refuse(err, "object", arg, "%s", advice);
	} else if (!strncmp(type, "memory-backend-", prefix)) {
		bool known = false;
		for (size_t i = 0; i < 4; i++)
			known |= !strcmp(type + prefix, ours[i]);
		*keep = false;
		r = known ? take_backend(p, arg, &o, err)
			  : cmdline_refuse(err, "object", arg,
				    "mcd does not know this kind of memory: use "
				    "memory-backend-memfd");
	}
	qemu_opts_clear(&o);
	return r;
}

static bool used(const struct planner *p, const char *id)
{
	for (size_t i = 0; i < p->n_numa; i++)
		if (!strcmp(p->numa_backend[i], id))
			return true;
	return !strcmp(p->machine_backend, id);
}

static const struct cmdline_ram *find_ram(const struct cmdline_plan *plan, const char *id)
{
	for (size_t i = 0; i < plan->n_ram; i++)
		if (!strcmp(plan->ram[i].id, id))
			return &plan->ram[i];
	return NULL;
}

int cmdline_settle_ram(struct planner *p, struct mc_error *err)
{
	struct cmdline_plan *plan = p->plan;
	uint64_t total = 0;

	for (size_t i = 0; i < plan->n_ram; i++) {
		total += plan->ram[i].size;
		if (!used(p, plan->ram[i].id))
			return cmdline_refuse(err, "object", plan->ram[i].id,
				"nothing uses this memory backend: add -machine memory-backend=%s, "
				"or take it out",
				plan->ram[i].id);
	}
	for (size_t i = 0; i < p->n_numa; i++)
		if (!find_ram(plan, p->numa_backend[i]))
			return cmdline_refuse(err, "numa", p->numa_backend[i],
				"there is no such memory backend: add -object "
				"memory-backend-ram,id=%s,size=...",
				p->numa_backend[i]);
	if (*p->machine_backend && !find_ram(plan, p->machine_backend))
		return cmdline_refuse(err, "machine", p->machine_backend,
			"there is no such memory backend: add -object "
			"memory-backend-ram,id=%s,size=..., or take memory-backend out",
			p->machine_backend);
	if (plan->n_ram) {
		if (p->have_m && p->m_size != total)
			return cmdline_refuse(err, "m", "",
				"it is %" PRIu64 " bytes, but the memory backends have %" PRIu64
				" together: make them equal",
				p->m_size, total);
		return 0;
	}
	if (!p->have_m)
		return cmdline_refuse(err, "m", "",
			"it is missing, so the guest's memory would be QEMU's default: write one "
			"such as -m 4G");
	plan->own_ram = true;
	plan->ram[0] = (struct cmdline_ram){.id = OWN_ID, .size = p->m_size};
	plan->n_ram = 1;
	return 0;
}
