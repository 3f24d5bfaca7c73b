/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network and disks in the command line. */
#include "mcd/guest/cmdline/private.h"
#include "common/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static int nic_index(const struct config_vm *vm, const char *id)
{
	for (size_t i = 0; i < vm->n_nics; i++)
		if (!strcmp(vm->nics[i].id, id))
			return (int)i;
	return -1;
}

/* A -netdev that we do not replace would let output out without asking us. */
int cmdline_take_netdev(struct planner *p, const char *arg, bool *keep, struct mc_error *err)
{
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "type", &o, err);
	if (r < 0)
		return r;
	const char *id = qemu_opts_get(&o, "id"), *vhost = qemu_opts_get(&o, "vhost");
	*keep = false;
	if (id && vhost && nic_index(p->vm, id) >= 0)
		p->plan->nic_vhost[nic_index(p->vm, id)] =
			!strcmp(vhost, "on") || !strcmp(vhost, "yes") || !strcmp(vhost, "true");
	if (!id)
		r = cmdline_refuse(err, "netdev", arg,
			"there is no id in it: write id=net0 and a section [nic net0]");
	else if (nic_index(p->vm, id) < 0)
		r = cmdline_refuse(err, "netdev", arg,
			"mcd must hold the output of every NIC: add a section [nic %.64s] with "
			"bridge = ..., or take the NIC out",
			id);
	qemu_opts_clear(&o);
	return r;
}

static char *with_mac(const char *arg, bool json, const uint8_t mac[6])
{
	char text[18], *out = NULL;
	snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		mac[4], mac[5]);
	if (!json)
		return asprintf(&out, "%s,mac=%s", arg, text) < 0 ? NULL : out;
	json_t *j = json_loads(arg, 0, NULL);
	if (j && json_object_set_new(j, "mac", json_string(text)) == 0)
		out = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	return out;
}

int cmdline_take_device(struct planner *p, const char *arg, char **replace, struct mc_error *err)
{
	_cleanup_(qemu_opts_clear) struct qemu_opts o = {.n = 0};
	int r = qemu_opts_parse(arg, "driver", &o, err);
	if (r < 0)
		return r;
	const char *driver = qemu_opts_get(&o, "driver"), *netdev = qemu_opts_get(&o, "netdev");
	if (!driver)
		return cmdline_refuse(err, "device", arg, "there is no driver in it");
	cmdline_look_port(p, &o);
	const char *advice = option_device_advice(driver);
	if (advice)
		return cmdline_refuse(err, "device", arg, "%s", advice);
	const char *drive = qemu_opts_get(&o, "drive");
	for (size_t d = 0; drive && d < p->vm->n_disks; d++)
		if (!strcmp(p->vm->disks[d].id, drive)) {
			if (p->plan->disk_device[d])
				return cmdline_refuse(err, "device", arg,
					"drive=%.64s is already another device's", drive);
			p->plan->disk_device[d] = true;
		}
	if (!netdev)
		return 0;
	int i = nic_index(p->vm, netdev);
	if (i < 0)
		return cmdline_refuse(err, "device", arg,
			"netdev=%.64s is in no section: add [nic %.64s] with bridge = ...", netdev,
			netdev);
	if (p->plan->nic_device[i])
		return cmdline_refuse(
			err, "device", arg, "netdev=%.64s is already another device's", netdev);
	p->plan->nic_device[i] = true;
	if (qemu_opts_get(&o, "mac"))
		return 0;
	/* QEMU would give every such VM the same addresses. */
	*replace = with_mac(arg, o.json, p->vm->nics[i].mac);
	return *replace ? 0 : mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
}

void cmdline_note_disk(struct planner *p, const char *option, const char *arg)
{
	struct cmdline_plan *plan = p->plan;
	if (!plan->foreign_disks)
		snprintf(plan->disk_option, sizeof plan->disk_option, "-%s %s", option, arg);
	plan->foreign_disks = true;
}

void cmdline_find_firmware(struct planner *p)
{
	const struct cmdline_plan *plan = p->plan;
	for (size_t d = 0; d < p->vm->n_disks; d++)
		for (size_t i = 0; i < plan->argc; i++)
			for (int unit = 0; unit < 2; unit++) {
				char text[80];
				int len = snprintf(
					text, sizeof text, "pflash%d=%s", unit, p->vm->disks[d].id);
				const char *at = strstr(plan->argv[i], text);
				if (at && (at[len] == ',' || !at[len]))
					p->plan->disk_device[d] = true;
			}
}

int cmdline_take_drive(struct planner *p, const char *arg, struct mc_error *err)
{
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, NULL, &o, err);
	if (r < 0)
		return r;
	const char *media = qemu_opts_get(&o, "media");
	bool read_only = qemu_opts_on(&o, "readonly") || qemu_opts_on(&o, "read-only") ||
			 (media && !strcmp(media, "cdrom"));
	/* With snapshot=on the guest writes to a temporary file, also on a read-only base. */
	if (!read_only || qemu_opts_on(&o, "snapshot"))
		cmdline_note_disk(p, "drive", arg);
	qemu_opts_clear(&o);
	return 0;
}

int cmdline_take_blockdev(struct planner *p, const char *arg, struct mc_error *err)
{
	struct qemu_opts o;
	int r = qemu_opts_parse(arg, "driver", &o, err);
	if (r < 0)
		return r;
	/* A node below a read-only one is counted too unless it says so itself: whether another
	 * device uses it directly is not ours to work out. */
	if (!qemu_opts_on(&o, "read-only"))
		cmdline_note_disk(p, "blockdev", arg);
	qemu_opts_clear(&o);
	return 0;
}
