/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vms.d/NAME.conf: one VM's command, its NICs and what differs from [defaults]. */
#include "mcd/config/config.h"
#include "common/cleanup.h"
#include "common/parse.h"
#include "mcd/config/private.h"
#include "mcd/config/qemu-opts.h"
#include "mcd/config/words.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define VM(key, kind, member, ...)                                                                 \
	CONFIG_KEY("vm", key, kind, struct config_vm, member, __VA_ARGS__)
#define NIC(key, kind, member, ...)                                                                \
	CONFIG_KEY("nic", key, kind, struct config_nic, member, __VA_ARGS__)

const char *const config_panic_names[] = {[CONFIG_PANIC_REBOOT] = "reboot",
	[CONFIG_PANIC_STOP] = "stop",
	[CONFIG_PANIC_HOLD] = "hold",
	NULL};
static const char *const guest_times[] = {
	[CONFIG_TIME_AGENT] = "agent", [CONFIG_TIME_NONE] = "none", NULL};
static const char *const yes_no[] = {"yes", "no", NULL};
static const char *const switches[] = {"on", "off", NULL};
static const char *const durabilities[] = {[CONFIG_DURABILITY_FLUSH] = "flush",
	[CONFIG_DURABILITY_COMMIT] = "commit",
	[CONFIG_DURABILITY_NONE] = "none",
	NULL};

const struct config_key config_vm_keys[CONFIG_VM_KEYS] = {
	VM("command", CONFIG_TEXT, command, 0),
	VM("delay", CONFIG_DURATION, delay, CONFIG_DELAY_MIN, CONFIG_DELAY_MAX),
	VM("max-buffer", CONFIG_SIZE, max_buffer, CONFIG_MAX_BUFFER_MIN, CONFIG_BYTES_MAX),
	VM("hold-limit", CONFIG_SIZE, hold_limit, CONFIG_HOLD_LIMIT_MIN, CONFIG_BYTES_MAX),
	VM("on-panic", CONFIG_CHOICE, on_panic, 0, 0, config_panic_names),
	VM("disk-durability", CONFIG_CHOICE, durability, 0, 0, durabilities),
	VM("user", CONFIG_USER, user, 0),
	VM("guest-time", CONFIG_CHOICE, guest_time, 0, 0, guest_times),
	VM("pin-all", CONFIG_SWITCH, pin_all, 0, 0, yes_no),
};

const struct config_key config_nic_keys[CONFIG_NIC_KEYS] = {
	NIC("bridge", CONFIG_NAME, bridge, 0),
	NIC("mac", CONFIG_MAC, mac, 0),
	NIC("vhost", CONFIG_SWITCH, vhost, 0, 0, switches),
};

static int add_nic(struct config_vm *vm, const struct conf_file *f, const struct conf_item *it,
	const char *id, struct mc_error *err)
{
	/* QEMU's own rule for ids, and our buffer. */
	if (!config_name_ok(id, sizeof vm->nics[0].id - 1) || !isalpha((unsigned char)id[0]))
		return conf_file_error(f, it->line, err,
			"[%.80s] needs the id of the NIC's netdev, as in [nic net0]: a letter, "
			"then up to %zu of the characters A-Z a-z 0-9 . _ -",
			it->section, sizeof vm->nics[0].id - 2);
	if (vm->n_nics == CONFIG_NICS_MAX)
		return conf_file_error(
			f, it->line, err, "a VM can have %d NICs at most", CONFIG_NICS_MAX);
	struct config_nic *nic = &vm->nics[vm->n_nics++];
	snprintf(nic->id, sizeof nic->id, "%s", id);
	return 0;
}

static int take_item(struct config_vm *vm, const struct conf_file *f, const struct conf_item *it,
	struct mc_error *err)
{
	static const char *const sections[] = {"vm", "nic", "disk"};
	const char *nic = config_section_arg(it->section, "nic");
	const char *disk = config_section_arg(it->section, "disk");
	if (disk && !it->key)
		return config_add_disk(vm, f, it, disk, err);
	if (disk) {
		struct config_disk *d = &vm->disks[vm->n_disks - 1];
		return config_keys_apply(
			config_disk_keys, CONFIG_DISK_KEYS, f, it, d, d->lines, err);
	}
	if (nic && !it->key)
		return add_nic(vm, f, it, nic, err);
	if (nic) {
		struct config_nic *n = &vm->nics[vm->n_nics - 1];
		return config_keys_apply(config_nic_keys, CONFIG_NIC_KEYS, f, it, n, n->lines, err);
	}
	if (strcmp(it->section, "vm"))
		return config_unknown_section(f, it, sections, 3, err);
	if (!it->key)
		return 0;
	return config_keys_apply(config_vm_keys, CONFIG_VM_KEYS, f, it, vm, vm->lines, err);
}

static unsigned section_line(const struct conf_file *f, const char *nic)
{
	for (size_t i = 0; i < f->n; i++) {
		const char *id = config_section_arg(f->items[i].section, "nic");
		if (id && !strcmp(id, nic))
			return f->items[i].line;
	}
	return 0;
}

/* mac= of the -device that uses the netdev.  1 = found, 0 = the device has none. */
static int mac_of_device(
	const char *const *words, size_t n, const char *netdev, char ret[64], struct mc_error *err)
{
	for (size_t i = 0; i + 1 < n; i++) {
		const char *w = words[i];
		if (strcmp(w, "-device") && strcmp(w, "--device"))
			continue;
		_cleanup_(qemu_opts_clear) struct qemu_opts o = {.n = 0};
		int r = qemu_opts_parse(words[i + 1], "driver", &o, err);
		if (r < 0)
			return r;
		const char *id = qemu_opts_get(&o, "netdev"), *mac = qemu_opts_get(&o, "mac");
		if (!id || strcmp(id, netdev) || !mac)
			continue;
		snprintf(ret, 64, "%s", mac);
		return 1;
	}
	return 0;
}

/* The same on every host and at every start, so that the guest's NIC never changes. */
static void derive_mac(const char *vm, const char *nic, uint8_t mac[6])
{
	char text[LINK_NAME_MAX + 80];
	int len = snprintf(text, sizeof text, "%s/%s", vm, nic);
	uint64_t h = XXH3_64bits(text, (size_t)len);
	const uint8_t derived[6] = {
		0x52, 0x54, 0x00, (uint8_t)(h >> 16), (uint8_t)(h >> 8), (uint8_t)h};
	memcpy(mac, derived, 6);
}

static int decide_mac(struct config_vm *vm, struct config_nic *nic, const struct conf_file *f,
	const char *const *words, size_t n, struct mc_error *err)
{
	char text[64];
	struct mc_error why = MC_ERROR_INIT;
	int r = mac_of_device(words, n, nic->id, text, &why);
	if (r < 0)
		return conf_file_error(f, vm->lines[0], err, "command: %s", why.msg);
	if (r == 0) {
		nic->mac_origin = nic->lines[1] ? CONFIG_MAC_KEY : CONFIG_MAC_DERIVED;
		if (!nic->lines[1])
			derive_mac(vm->name, nic->id, nic->mac);
		return 0;
	}
	uint8_t given[6];
	memcpy(given, nic->mac, 6);
	unsigned lines[CONFIG_NIC_KEYS];
	char key[] = "mac", section[] = "nic";
	struct conf_item it = {vm->lines[0], section, key, text, false};
	memcpy(lines, nic->lines, sizeof lines);
	r = config_keys_apply(config_nic_keys, CONFIG_NIC_KEYS, f, &it, nic, lines, &why);
	if (r < 0)
		return conf_file_error(f, vm->lines[0], err,
			"command: the -device with netdev=%s has mac=%s, which is not a MAC "
			"address of one NIC: write one such as 52:54:00:12:34:56",
			nic->id, text);
	if (nic->lines[1] && memcmp(given, nic->mac, 6) != 0)
		return conf_file_error(f, nic->lines[1], err,
			"mac: the -device with netdev=%s in the command has mac=%s: take one of "
			"the two out",
			nic->id, text);
	nic->mac_origin = nic->lines[1] ? CONFIG_MAC_KEY : CONFIG_MAC_COMMAND;
	return 0;
}

static int check_nics(struct config_vm *vm, const struct conf_file *f, struct mc_error *err)
{
	char **words;
	size_t n;
	struct mc_error why = MC_ERROR_INIT;
	if (words_split(vm->command, &words, &n, &why) < 0)
		return conf_file_error(f, vm->lines[0], err, "command: %s", why.msg);
	int r = 0;
	for (size_t i = 0; i < vm->n_nics && r == 0; i++) {
		struct config_nic *nic = &vm->nics[i];
		unsigned line = section_line(f, nic->id);
		r = decide_mac(vm, nic, f, (const char *const *)words, n, err);
		if (r == 0 && !nic->bridge[0])
			r = conf_file_error(f, line, err,
				"[nic %s] has no bridge: add a line such as \"bridge = br0\"",
				nic->id);
		for (size_t j = 0; j < i && r == 0; j++)
			if (memcmp(nic->mac, vm->nics[j].mac, 6) == 0)
				r = conf_file_error(f, line, err,
					"[nic %s] has the MAC address of [nic %s]: every NIC needs "
					"its own",
					nic->id, vm->nics[j].id);
	}
	words_free(words);
	return r;
}

static int unknown_vm(const struct config *cfg, const char *name, struct mc_error *err)
{
	char **names;
	size_t n;
	int r = config_list_vms(cfg, &names, &n, err);
	if (r < 0)
		return r;
	const char *near = mc_nearest(name, (const char *const *)names, n);
	char hint[120] = "";
	if (near)
		snprintf(hint, sizeof hint, "; did you mean \"%s\"?", near);
	mc_error_set(err, -ENOENT, MC_ECLASS_UNKNOWN_VM,
		"there is no VM \"%.64s\": it would be described in %s/%.64s.conf%s", name,
		cfg->vms_dir, name, hint);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return -ENOENT;
}

static int read_vm(const struct config *cfg, struct config_vm *vm, struct mc_error *err)
{
	struct conf_file f;
	int r = conf_file_load(vm->path, &f, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f.n && r == 0; i++)
		r = take_item(vm, &f, &f.items[i], err);
	if (r == 0 && !vm->command)
		r = mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s: there is no command in [vm]: write \"command = qemu-system-x86_64 "
			"...\"",
			vm->path);
	if (r == 0)
		r = check_nics(vm, &f, err);
	if (r == 0)
		r = config_check_disks(vm, &f, err);
	/* Unix socket addresses hold 107 bytes: RUN_DIR/NAME/SOCKET, with room for the socket's
	 * name. */
	if (r == 0 && strlen(cfg->run_dir) + strlen(vm->name) + 22 > 107)
		r = mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"%s: the VM's name and the run-dir %s are too long together for the "
			"sockets there: shorten one of them",
			vm->path, cfg->run_dir);
	conf_file_clear(&f);
	return r;
}

int config_load_vm(
	const struct config *cfg, const char *name, struct config_vm **ret, struct mc_error *err)
{
	if (!config_name_ok(name, LINK_NAME_MAX))
		return mc_error_set(err, -EINVAL, MC_ECLASS_UNKNOWN_VM,
			"\"%.64s\" is no VM's name: it has 1 to %d of the characters A-Z a-z 0-9 . "
			"_ -, and none of . and - in front",
			name, LINK_NAME_MAX);
	_cleanup_(config_vm_freep) struct config_vm *vm = calloc(1, sizeof *vm);
	if (!vm)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to read VM %s", name);
	snprintf(vm->name, sizeof vm->name, "%s", name);
	int len = snprintf(vm->path, sizeof vm->path, "%s/%s.conf", cfg->vms_dir, name);
	if (len < 0 || (size_t)len >= sizeof vm->path)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the path of VM %s in %.200s is too long: use a shorter vms-dir", name,
			cfg->vms_dir);
	if (access(vm->path, F_OK) < 0 && errno == ENOENT)
		return unknown_vm(cfg, name, err);

	vm->delay = cfg->delay;
	vm->max_buffer = cfg->max_buffer;
	vm->hold_limit = cfg->hold_limit;
	vm->on_panic = CONFIG_PANIC_REBOOT;
	vm->durability = CONFIG_DURABILITY_FLUSH;
	vm->guest_time = CONFIG_TIME_AGENT;
	snprintf(vm->defaults_path, sizeof vm->defaults_path, "%s", cfg->path);
	memcpy(vm->defaults_lines, cfg->lines + CONFIG_DEFAULTS_FIRST, sizeof vm->defaults_lines);
	int r = read_vm(cfg, vm, err);
	if (r < 0)
		return r;
	assert(vm->command && vm->delay >= CONFIG_DELAY_MIN && vm->delay <= CONFIG_DELAY_MAX);
	assert(vm->max_buffer >= CONFIG_MAX_BUFFER_MIN && vm->hold_limit >= CONFIG_HOLD_LIMIT_MIN);
	assert(vm->n_nics <= CONFIG_NICS_MAX && vm->n_disks <= CONFIG_DISKS_MAX);
	*ret = mc_steal_ptr(vm);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int config_list_vms(
	const struct config *cfg, char ***ret_names, size_t *ret_n, struct mc_error *err)
{
	char **names = calloc(CONFIG_VMS_MAX + 1, sizeof *names);
	size_t n = 0;
	int r = 0;
	if (!names)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to list the VMs");
	DIR *d = opendir(cfg->vms_dir);
	if (!d && errno != ENOENT) /* a voter without VMs needs no directory */
		r = mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"the VMs' directory %s cannot be read: %s", cfg->vms_dir, strerror(errno));
	struct dirent *e;
	while (d && r == 0 && (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		if (e->d_name[0] == '.' || len < 6 || strcmp(e->d_name + len - 5, ".conf"))
			continue; /* editors' files, backups */
		char name[LINK_NAME_MAX + 2];
		snprintf(name, sizeof name, "%.*s", (int)(len - 5), e->d_name);
		if (!config_name_ok(name, LINK_NAME_MAX))
			r = mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
				"%s/%.100s: a VM's name has 1 to %d of the characters A-Z a-z 0-9 "
				". _ -: rename the file",
				cfg->vms_dir, e->d_name, LINK_NAME_MAX);
		else if (n == CONFIG_VMS_MAX)
			r = mc_error_set(err, -E2BIG, MC_ECLASS_CONFIG,
				"%s has more than %d VMs: move some of the files away",
				cfg->vms_dir, CONFIG_VMS_MAX);
		else if (!(names[n] = strdup(name)))
			r = mc_error_set(
				err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to list the VMs");
		else
			n++;
	}
	if (d)
		closedir(d);
	if (r < 0) {
		while (n)
			free(names[--n]);
		free(names);
		return r;
	}
	qsort(names, n, sizeof *names, by_name);
	*ret_names = names;
	*ret_n = n;
	return 0;
}

void config_vm_free(struct config_vm *vm)
{
	if (!vm)
		return;
	free(vm->command);
	free(vm);
}

void config_vm_freep(struct config_vm **vm)
{
	config_vm_free(*vm);
}
