/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's half of mirroring a disk: a block job in write-blocking mode to an NBD export of ours.
 *
 * write-blocking, because only then `stop` returns after every write that the guest saw completed
 * has reached the server; in background mode it may be late.  on-target-error=report: when the
 * server goes away the job ends and the guest goes on.  reconnect-delay 0, QEMU's default, for the
 * same reason.
 */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/guest/dirty/trace.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define NODE_QEMU_MAX 31 /* QEMU's own limit, so that longer names are shortened by a digest */
#define NODE_MAX      40 /* "mcd-" and a disk's name */
#define POLL          (10 * MC_MSEC)

/* One name for the job and its node: derived, so that a later mcd finds what this one left. */
static void name_of(const char *disk, char buf[NODE_MAX])
{
	if (strlen(disk) <= NODE_QEMU_MAX - strlen("mcd-"))
		snprintf(buf, NODE_MAX, "mcd-%s", disk);
	else
		snprintf(buf, NODE_MAX, "mcd-%016llx",
			(unsigned long long)XXH3_64bits(disk, strlen(disk)));
	assert(strlen(buf) <= NODE_QEMU_MAX);
}

static void jansson_decref(json_t **j)
{
	json_decref(*j);
}

static json_t *find(json_t *list, const char *key, const char *value)
{
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		const char *have = json_string_value(json_object_get(item, key));
		if (have && !strcmp(have, value))
			return item;
	}
	return NULL;
}

static int nodes(struct qemu *q, uint64_t timeout_ns, json_t **ret, struct mc_error *err)
{
	int r = qmp_command(q->qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1),
		timeout_ns, ret, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}

int qemu_disk_size(
	struct guest *g, const char *disk, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = nodes(q, timeout_ns, &list, err);
	if (r < 0)
		return r;
	json_t *size = json_object_get(
		json_object_get(find(list, "node-name", disk), "image"), "virtual-size");
	if (!json_is_integer(size) || json_integer_value(size) <= 0)
		return mc_error_set(err, -ENOENT, MC_ECLASS_GUEST,
			"%s has no block node %s any more: was the disk unplugged? Take its "
			"section out of the VM's file, or plug it in again",
			q->name, disk);
	*ret = (uint64_t)json_integer_value(size);
	return 0;
}

static int find_job(struct qemu *q, const char *job, uint64_t timeout_ns, bool *ret_there,
	struct guest_mirror *ret, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = qmp_command(q->qmp, "query-block-jobs", NULL, timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	json_t *j = find(list, "device", job);
	*ret_there = j != NULL;
	if (j && ret)
		*ret = (struct guest_mirror){
			.done = (uint64_t)json_integer_value(json_object_get(j, "offset")),
			.total = (uint64_t)json_integer_value(json_object_get(j, "len")),
			.ready = json_is_true(json_object_get(j, "ready")),
		};
	return 0;
}

int qemu_mirror_end(struct guest *g, const char *disk, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	char name[NODE_MAX];
	uint64_t deadline = mc_now() + timeout_ns;
	bool there = true, cancelled = false;
	name_of(disk, name);
	while (there) {
		int r = find_job(q, name, timeout_ns, &there, NULL, err);
		if (r < 0)
			return r;
		if (!there)
			break;
		if (mc_now() > deadline)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_QMP,
				"QEMU of %s does not end the mirror of %s", q->name, disk);
		/* A job that lost its server ends by itself, at its next write; or now. */
		if (!cancelled)
			qmp_command(q->qmp, "block-job-cancel",
				json_pack("{s:s, s:b}", "device", name, "force", 1), timeout_ns,
				NULL, NULL);
		cancelled = true;
		nanosleep(&(struct timespec){.tv_nsec = (long)POLL}, NULL);
	}
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = nodes(q, timeout_ns, &list, err);
	if (r < 0 || !find(list, "node-name", name))
		return r;
	r = qmp_command(q->qmp, "blockdev-del", json_pack("{s:s}", "node-name", name), timeout_ns,
		NULL, err);
	return r < 0 ? qemu_explain(q, r, err) : 0;
}

/* Our socket has to be that of the user that QEMU runs as now, whatever the configuration says. */
static int let_connect(const struct qemu *q, const char *socket, struct mc_error *err)
{
	int64_t uid = trace_status_field(q->guest.pid, "Uid", 10);
	if (uid <= 0) /* root's, or gone */
		return 0;
	if (lchown(socket, (uid_t)uid, (gid_t)-1) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_PERMISSION,
			"cannot give %s to user %lld, whose QEMU has to connect to it: %s; mcd "
			"needs CAP_CHOWN",
			socket, (long long)uid, strerror(errno));
	return 0;
}

int qemu_mirror_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	char name[NODE_MAX];
	int r = qemu_mirror_end(&q->guest, disk, timeout_ns, err);
	if (r < 0)
		return r;
	name_of(disk, name);
	r = let_connect(q, socket, err);
	if (r < 0)
		return r;
	r = qmp_command(q->qmp, "blockdev-add",
		json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "driver", "nbd", "node-name", name,
			"export", disk, "server", "type", "unix", "path", socket),
		timeout_ns, NULL, err);
	if (r == 0)
		r = qmp_command(q->qmp, "blockdev-mirror",
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "job-id", name, "device", disk,
				"target", name, "sync", "full", "copy-mode", "write-blocking",
				"on-target-error", "report"),
			timeout_ns, NULL, err);
	if (r < 0) {
		qemu_explain(q, r, err);
		mc_error_wrap(err, "the mirror of disk %s cannot be started", disk);
	}
	return r;
}

int qemu_mirror_look(struct guest *g, const char *disk, uint64_t timeout_ns,
	struct guest_mirror *ret, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	char name[NODE_MAX];
	bool there;
	struct guest_mirror m;
	name_of(disk, name);
	int r = find_job(q, name, timeout_ns, &there, &m, err);
	if (r < 0)
		return r;
	if (!there)
		return mc_error_set(err, -ENOENT, MC_ECLASS_QMP,
			"QEMU's mirror of disk %s ended by itself, after an error", disk);
	*ret = m;
	return 0;
}

int qemu_mirror_check(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = qmp_command(q->qmp, "query-block-jobs", NULL, timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	for (size_t i = 0; i < vm->n_disks; i++) {
		char name[NODE_MAX];
		name_of(vm->disks[i].id, name);
		if (!json_is_true(json_object_get(find(list, "device", name), "ready")))
			return mc_error_set(err, -EIO, MC_ECLASS_QMP,
				"QEMU does not mirror disk %s any more: its job was cancelled, or "
				"ended after an error of the image (see %s/qemu.log)",
				vm->disks[i].id, q->run_dir);
	}
	return 0;
}

int qemu_mirror_yank(
	struct guest *g, const struct config_vm *vm, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	int result = 0;
	for (size_t i = 0; i < vm->n_disks; i++) {
		char name[NODE_MAX];
		name_of(vm->disks[i].id, name);
		/* One call for each: an instance that is gone makes QEMU refuse the whole list. */
		int r = qmp_oob(q->oob, "yank",
			json_pack("{s:[{s:s, s:s}]}", "instances", "type", "block-node",
				"node-name", name),
			timeout_ns, NULL, err);
		if (r < 0 && r != -EREMOTEIO)
			result = r;
	}
	return result;
}

int qemu_export_begin(struct guest *g, const char *disk, const char *socket, uint64_t timeout_ns,
	struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	char name[NODE_MAX];
	_cleanup_(jansson_decref) json_t *threads = NULL;
	name_of(disk, name);
	/* QEMU 7.2 ends itself (assertion in nbd_blockdev_client_closed) when a client of an export
	 * that an iothread serves goes away. */
	int r = qmp_command(q->qmp, "query-iothreads", NULL, timeout_ns, &threads, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	if (json_array_size(threads))
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"disk %s is not raw, and can be read only through QEMU, which is not safe "
			"with an iothread: compare it after the next failover, when it is raw, or "
			"run the VM without -object iothread",
			disk);
	/* One server for all disks: the second time QEMU says that it runs already, and then it
	 * does. */
	qmp_command(q->qmp, "nbd-server-start",
		json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data", "path", socket),
		timeout_ns, NULL, NULL);
	r = qmp_command(q->qmp, "block-export-add",
		json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", name, "node-name", disk,
			"name", disk, "writable", 0),
		timeout_ns, NULL, err);
	if (r < 0) {
		qemu_explain(q, r, err);
		mc_error_wrap(err, "disk %s cannot be read through QEMU", disk);
	}
	return r;
}

void qemu_export_end(struct guest *g, const char *disk, uint64_t timeout_ns)
{
	struct qemu *q = qemu_of(g);
	char name[NODE_MAX];
	name_of(disk, name);
	if (!guest_alive(&q->guest))
		return;
	qmp_command(q->qmp, "block-export-del", json_pack("{s:s, s:s}", "id", name, "mode", "hard"),
		timeout_ns, NULL, NULL);
	qmp_command(q->qmp, "nbd-server-stop", NULL, timeout_ns, NULL, NULL);
}

/* Where each completed write is a promise, and no flush follows that would be counted: with the
 * device's write cache off (the guest may switch it), and where the guest may force single writes
 * through (FUA), of which QEMU 10 makes no flush any more. */
static bool writes_are_promises(struct qemu *q, const json_t *block, uint64_t timeout_ns)
{
	_cleanup_(jansson_decref) json_t *fua = NULL;
	const json_t *inserted = json_object_get(block, "inserted");
	const char *device = json_string_value(json_object_get(block, "qdev"));
	if (json_is_false(json_object_get(json_object_get(inserted, "cache"), "writeback")))
		return true;
	/* Only a SCSI disk has that property. */
	return device && !json_is_true(json_object_get(inserted, "ro")) &&
	       qmp_command(q->qmp, "qom-get",
		       json_pack("{s:s, s:s}", "path", device, "property", "dpofua"), timeout_ns,
		       &fua, NULL) == 0 &&
	       json_is_true(fua);
}

int qemu_disk_flushes(struct guest *g, uint64_t timeout_ns, uint64_t *ret, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	_cleanup_(jansson_decref) json_t *list = NULL, *blocks = NULL;
	int r = qmp_command(q->qmp, "query-block", NULL, timeout_ns, &blocks, err);
	if (r == 0)
		r = qmp_command(q->qmp, "query-blockstats", NULL, timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	uint64_t sum = 0;
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		json_t *stats = json_object_get(item, "stats");
		const char *device = json_string_value(json_object_get(item, "qdev"));
		json_t *block = device ? find(blocks, "qdev", device) : NULL;
		sum += (uint64_t)json_integer_value(json_object_get(stats, "flush_operations"));
		if (block && writes_are_promises(q, block, timeout_ns))
			sum += (uint64_t)json_integer_value(
				json_object_get(stats, "wr_operations"));
	}
	*ret = sum;
	return 0;
}
