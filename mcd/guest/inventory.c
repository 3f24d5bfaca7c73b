/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a standby's QEMU has from its start, and this one may have no more: its devices, and what
 * is in its drives.
 *
 * A device that was taken out and put in again under its old name, with other properties, has the
 * same name and type as before: what tells is that QEMU said DEVICE_DELETED of one that it was
 * started with.  Media are asked for, since not every drive says that its medium was changed, and
 * only of a QEMU that has such a drive, since asking costs a tenth of a millisecond in each epoch.
 */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define ANON "/machine/peripheral-anon"

static void jansson_decref(json_t **j)
{
	json_decref(*j);
}

static void feed(XXH3_state_t *h, const char *s)
{
	XXH3_64bits_update(h, s ? s : "", s ? strlen(s) + 1 : 0);
}

static int add_names(struct qemu *q, const char *path, XXH3_state_t *h, json_t *names,
	uint64_t timeout_ns, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *list = NULL;
	int r = qmp_command(
		q->qmp, "qom-list", json_pack("{s:s}", "path", path), timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));
		const char *type = json_string_value(json_object_get(item, "type"));
		feed(h, name);
		feed(h, type);
		char full[300];
		snprintf(full, sizeof full, "%s/%s", path, name ? name : "");
		if (names)
			json_object_set_new(names, full, json_true());
	}
	return 0;
}

static void add_medium(json_t *drive, XXH3_state_t *h, char *words, size_t cap)
{
	json_t *in = json_object_get(drive, "inserted");
	const char *qdev = json_string_value(json_object_get(drive, "qdev"));
	const char *name = json_string_value(json_object_get(drive, "device"));
	const char *file = json_string_value(json_object_get(in, "file"));
	if (!name || !*name)
		name = qdev;
	feed(h, name);
	feed(h, file);
	/* The same file in another way is another medium; its node may have any name. */
	feed(h, json_string_value(json_object_get(in, "drv")));
	feed(h, json_is_true(json_object_get(in, "ro")) ? "ro" : "");
	size_t n = strlen(words);
	snprintf(words + n, cap - n, "%s%s: %s", n ? ", " : "", name ? name : "?",
		file ? file : "nothing");
}

static int add_media(
	struct qemu *q, struct guest_inventory *inv, uint64_t timeout_ns, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *list = NULL;
	if (q->no_drives)
		return 0;
	int r = qmp_command(q->qmp, "query-block", NULL, timeout_ns, &list, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	XXH3_state_t *h = XXH3_createState();
	if (!h)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	XXH3_64bits_reset(h);
	size_t i, n = 0;
	json_t *item;
	json_array_foreach(list, i, item) {
		if (!json_is_true(json_object_get(item, "removable")))
			continue;
		add_medium(item, h, inv->words, sizeof inv->words);
		n++;
	}
	if (n)
		inv->media = XXH3_64bits_digest(h);
	XXH3_freeState(h);
	/* One that comes later is a device that was plugged. */
	q->no_drives = !n;
	return 0;
}

static int add_devices(
	struct qemu *q, struct guest_inventory *inv, uint64_t timeout_ns, struct mc_error *err)
{
	_cleanup_(jansson_decref) json_t *names = q->first_devices ? NULL : json_object();
	XXH3_state_t *h = XXH3_createState();
	if (!h || (!names && !q->first_devices)) {
		XXH3_freeState(h);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
	}
	XXH3_64bits_reset(h);
	int r = add_names(q, "/machine/peripheral", h, names, timeout_ns, err);
	if (r == 0)
		r = add_names(q, ANON, h, names, timeout_ns, err);
	if (r == 0)
		inv->devices = XXH3_64bits_digest(h);
	XXH3_freeState(h);
	if (r == 0 && names)
		q->first_devices = mc_steal_ptr(names);
	return r;
}

int qemu_inventory(
	struct guest *g, uint64_t timeout_ns, struct guest_inventory *ret, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	struct guest_inventory inv = {0};
	int r = add_devices(q, &inv, timeout_ns, err);
	if (r == 0)
		r = add_media(q, &inv, timeout_ns, err);
	if (r < 0)
		return r;
	/* What was deleted before an answer was told before it. */
	qemu_absorb(q, GUEST_EVENT_NONE);
	inv.replaced = q->replaced;
	if (q->replaced)
		memcpy(inv.device, q->replaced_device, sizeof inv.device);
	*ret = inv;
	return 0;
}

bool guest_inventory_changed(const struct guest_inventory *then, const struct guest_inventory *now,
	char *what, size_t cap)
{
	if (now->devices != then->devices)
		snprintf(what, cap, "a device was plugged or unplugged");
	else if (now->replaced != then->replaced)
		snprintf(what, cap,
			"the device %s was taken out, and another was plugged in its place",
			now->device);
	else if (now->media != then->media)
		snprintf(what, cap, "a medium was changed or ejected (now %s)", now->words);
	else
		return false;
	return true;
}
