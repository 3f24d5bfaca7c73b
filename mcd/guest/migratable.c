/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether QEMU could save this guest at all.
 *
 * xen-save-devices-state, by which an epoch is saved, does not ask what `migrate` asks: with a
 * device that has no saved form QEMU 7.2 to 10.0 dies of it (nvme, usb-serial, rocker, amd-iommu),
 * or saves what no QEMU loads (virtio-crypto, usb-uas, ivshmem).  query-migrate names these
 * beforehand, in words.  It does not name what is in the table of types.
 */
#include "mcd/guest/migratable.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "mcd/guest/guest-private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void jansson_decref(json_t **j)
{
	json_decref(*j);
}

static bool begins(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

enum guest_blocker guest_blocker_of(const char *reason)
{
	/* The format's driver keeps things in memory that two QEMUs would disagree on.  The standby
	 * has a disk of its own, which its QEMU opens when the first one is gone. */
	if (strstr(reason, " format used by node ") &&
		strstr(reason, " does not support live migration"))
		return GUEST_BLOCKER_NONE;
	/* A device without a saved form; ivshmem's peer mode, a mounted 9p export, a vhost device
	 * whose writes to memory nobody would see; a mapped device of the host. */
	if (begins(reason, "non-migratable device: ") || begins(reason, "Migration is disabled") ||
		begins(reason, "Migration disabled") || strstr(reason, "VFIO"))
		return GUEST_BLOCKER_REFUSE;
	return GUEST_BLOCKER_WARN;
}

const char *guest_type_blocks(const char *type)
{
	static const struct {
		const char *type, *why;
	} types[] = {
		{"vmbus-bridge", "QEMU aborts when it saves it"},
		{"edu", "QEMU leaves its state out without a word"},
		{"scsi-block", "it hands the guest's commands to a device of this host"},
		{"scsi-generic", "it hands the guest's commands to a device of this host"},
	};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(type, types[i].type))
			return types[i].why;
	return NULL;
}

static int refuse(struct mc_error *err, const char *what)
{
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
		"its QEMU cannot be saved (%s), so that no standby could go on: take that out of "
		"the VM's command on both hosts and restart the VM, or let it run unprotected",
		what);
}

static int ask_reasons(struct qemu *q, uint64_t timeout_ns, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *answer = NULL;
	int r = qmp_command(q->qmp, "query-migrate", NULL, timeout_ns, &answer, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	size_t i;
	json_t *item, *list = json_object_get(answer, "blocked-reasons");
	json_array_foreach(list, i, item) {
		const char *reason = json_string_value(item);
		enum guest_blocker b = reason ? guest_blocker_of(reason) : GUEST_BLOCKER_NONE;
		if (b == GUEST_BLOCKER_REFUSE)
			return refuse(err, reason);
		if (b == GUEST_BLOCKER_WARN)
			log_warn("%s: QEMU would not migrate it (%s); whether a standby can go on "
				 "from what it saves is not known",
				q->name, reason);
	}
	return 0;
}

static int ask_types(struct qemu *q, const char *path, uint64_t timeout_ns, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = qmp_command(
		q->qmp, "qom-list", json_pack("{s:s}", "path", path), timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		char type[64], what[160];
		const char *s = json_string_value(json_object_get(item, "type"));
		if (!s || sscanf(s, "child<%63[^>]", type) != 1 || !guest_type_blocks(type))
			continue;
		snprintf(what, sizeof what, "%s: %s", type, guest_type_blocks(type));
		return refuse(err, what);
	}
	return 0;
}

int qemu_migratable(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	int r = ask_reasons(q, timeout_ns, err);
	if (r == 0)
		r = ask_types(q, "/machine/peripheral", timeout_ns, err);
	if (r == 0)
		r = ask_types(q, "/machine/peripheral-anon", timeout_ns, err);
	return r;
}
