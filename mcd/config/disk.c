/* SPDX-License-Identifier: GPL-2.0-or-later */
/* [disk ID] sections of vms.d/NAME.conf. */
#include "mcd/config/private.h"

#include <ctype.h>
#include <string.h>

#define DISK(key, kind, member, ...)                                                               \
	CONFIG_KEY("disk", key, kind, struct config_disk, member, __VA_ARGS__)

const struct config_key config_disk_keys[CONFIG_DISK_KEYS] = {
	DISK("image", CONFIG_PATH, image, 0),
	DISK("format", CONFIG_NAME, format, 0),
	DISK("replica", CONFIG_PATH, replica, 0),
};

int config_add_disk(struct config_vm *vm, const struct conf_file *f, const struct conf_item *it,
	const char *id, struct mc_error *err)
{
	/* QEMU's node names have 31 characters at most. */
	if (!config_name_ok(id, 31) || !isalpha((unsigned char)id[0]))
		return conf_file_error(f, it->line, err,
			"[%.80s] needs the name of the disk's block node, as in [disk disk0]: a "
			"letter, then up to 30 of the characters A-Z a-z 0-9 . _ -",
			it->section);
	if (vm->n_disks == CONFIG_DISKS_MAX)
		return conf_file_error(
			f, it->line, err, "a VM can have %d disks at most", CONFIG_DISKS_MAX);
	struct config_disk *d = &vm->disks[vm->n_disks++];
	snprintf(d->id, sizeof d->id, "%s", id);
	snprintf(d->format, sizeof d->format, "raw");
	return 0;
}

static unsigned section_line(const struct conf_file *f, const char *disk)
{
	for (size_t i = 0; i < f->n; i++) {
		const char *id = config_section_arg(f->items[i].section, "disk");
		if (id && !strcmp(id, disk))
			return f->items[i].line;
	}
	return 0;
}

static int check_disk(struct config_disk *d, const struct conf_file *f, struct mc_error *err)
{
	bool raw = !strcmp(d->format, "raw");
	unsigned line = section_line(f, d->id);
	if (!d->image[0])
		return conf_file_error(f, line, err,
			"[disk %s] has no image: add a line such as \"image = /srv/vm/%s.img\"",
			d->id, d->id);
	if (!d->replica[0]) {
		int n = snprintf(
			d->replica, sizeof d->replica, "%s%s", d->image, raw ? "" : ".replica");
		if (n < 0 || (size_t)n >= sizeof d->replica)
			return conf_file_error(f, line, err,
				"[disk %s]: the image's path is too long to add \".replica\" to it",
				d->id);
	}
	if (!raw && !strcmp(d->replica, d->image))
		return conf_file_error(f, d->lines[2], err,
			"replica: mcd writes replicas as raw images, so the %s image cannot be its "
			"own: give another path",
			d->format);
	return 0;
}

static bool same_file(const struct config_disk *a, const struct config_disk *b)
{
	return !strcmp(a->image, b->image) || !strcmp(a->image, b->replica) ||
	       !strcmp(a->replica, b->image) || !strcmp(a->replica, b->replica);
}

int config_check_disks(struct config_vm *vm, const struct conf_file *f, struct mc_error *err)
{
	for (size_t i = 0; i < vm->n_disks; i++) {
		struct config_disk *d = &vm->disks[i];
		int r = check_disk(d, f, err);
		for (size_t j = 0; j < i && r == 0; j++) {
			const struct config_disk *other = &vm->disks[j];
			if (!strcmp(other->id, d->id))
				r = conf_file_error(f, section_line(f, d->id), err,
					"[disk %s] is there twice", d->id);
			else if (same_file(d, other))
				r = conf_file_error(f, section_line(f, d->id), err,
					"[disk %s] and [disk %s] name the same file", d->id,
					other->id);
		}
		if (r < 0)
			return r;
	}
	return 0;
}
