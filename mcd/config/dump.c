/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The effective configuration, for `mcctl dump`: every value as one would write it, and where it
 * comes from.
 *   {"path":P, "mcd":{KEY:{"value":V,"origin":O}..}, "defaults":{..}, "hosts":{NAME:{..}}}
 *   {"path":P, "vm":NAME, "keys":{..}, "nics":{ID:{..}}}
 */
#include "common/parse.h"
#include "mcd/config/private.h"

#include <string.h>

/* A file or a path may hold any bytes, a JSON string may not. */
static json_t *text(const char *s)
{
	json_t *j = json_string(s);
	return j ? j : json_string("(not UTF-8)");
}

static json_t *value_of(const struct config_key *k, const void *base)
{
	const void *at = (const char *)base + k->offset;
	const uint8_t *b = at;
	char buf[MC_QUANTITY_MAX];

	switch (k->type) {
	case CONFIG_NAME:
	case CONFIG_USER:
	case CONFIG_PATH:
	case CONFIG_ADDRESS:
		return text(at);
	case CONFIG_TEXT:
		return text(*(char *const *)at);
	case CONFIG_DURATION:
		return json_string(mc_format_duration(*(const uint64_t *)at, buf));
	case CONFIG_SIZE:
		return json_string(mc_format_size(*(const uint64_t *)at, buf));
	case CONFIG_UINT:
		return json_integer(*(const unsigned *)at);
	case CONFIG_PORT:
		return json_integer(*(const uint16_t *)at);
	case CONFIG_MAC:
		return json_sprintf(
			"%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
	case CONFIG_CHOICE:
		return json_string(k->choices[*(const unsigned *)at]);
	case CONFIG_SWITCH:
		return json_string(k->choices[*(const bool *)at ? 0 : 1]);
	case CONFIG_FIXED:
		return json_string(k->choices[0]);
	}
	return json_null();
}

static json_t *origin_of(const char *path, unsigned line)
{
	char origin[300];
	snprintf(origin, sizeof origin, "%s:%u", path, line);
	return line ? text(origin) : json_string("default");
}

static void add(json_t *to, const struct config_key *k, const void *base, json_t *origin)
{
	json_object_set_new(
		to, k->name, json_pack("{s:o, s:o}", "value", value_of(k, base), "origin", origin));
}

json_t *config_dump(const struct config *cfg)
{
	json_t *mcd = json_object(), *defaults = json_object(), *hosts = json_object();
	for (size_t i = 0; i < CONFIG_MAIN_KEYS; i++) {
		const struct config_key *k = &config_main_keys[i];
		json_t *origin = i == 0 && !cfg->lines[0] ? json_string("hostname")
							  : origin_of(cfg->path, cfg->lines[i]);
		add(i < CONFIG_DEFAULTS_FIRST ? mcd : defaults, k, cfg, origin);
	}
	for (size_t i = 0; i < cfg->n_hosts; i++) {
		json_t *host = json_object();
		for (size_t k = 0; k < CONFIG_HOST_KEYS; k++)
			add(host, &config_host_keys[k], &cfg->hosts[i],
				k == 0 && cfg->hosts[i].from_corosync
					? json_string("corosync")
					: origin_of(cfg->path, cfg->hosts[i].lines[k]));
		if (!cfg->hosts[i].lines[2])
			json_object_set_new(json_object_get(host, "keepalive-address"), "value",
				json_string(config_keepalive_address(&cfg->hosts[i])));
		json_object_set_new(hosts, cfg->hosts[i].name, host);
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "path", text(cfg->path), "mcd", mcd, "defaults",
		defaults, "hosts", hosts);
}

json_t *config_vm_dump(const struct config_vm *vm)
{
	json_t *keys = json_object(), *nics = json_object();
	for (size_t i = 0; i < CONFIG_VM_KEYS; i++)
		add(keys, &config_vm_keys[i], vm,
			/* command, and what comes after hold-limit, has no row in [defaults] */
			vm->lines[i] || i == 0 || i > 3
				? origin_of(vm->path, vm->lines[i])
				: origin_of(vm->defaults_path, vm->defaults_lines[i - 1]));
	for (size_t i = 0; i < vm->n_nics; i++) {
		const struct config_nic *n = &vm->nics[i];
		json_t *nic = json_object();
		add(nic, &config_nic_keys[0], n, origin_of(vm->path, n->lines[0]));
		json_t *mac = n->mac_origin == CONFIG_MAC_KEY ? origin_of(vm->path, n->lines[1])
			      : n->mac_origin == CONFIG_MAC_COMMAND
				      ? json_string("command")
				      : json_string("derived from the names");
		add(nic, &config_nic_keys[1], n, mac);
		add(nic, &config_nic_keys[2], n, origin_of(vm->path, n->lines[2]));
		json_object_set_new(nics, n->id, nic);
	}
	json_t *disks = json_object();
	for (size_t i = 0; i < vm->n_disks; i++) {
		const struct config_disk *d = &vm->disks[i];
		json_t *disk = json_object();
		for (size_t k = 0; k < CONFIG_DISK_KEYS; k++)
			add(disk, &config_disk_keys[k], d, origin_of(vm->path, d->lines[k]));
		json_object_set_new(disks, d->id, disk);
	}
	return json_pack("{s:o, s:s, s:o, s:o, s:o}", "path", text(vm->path), "vm", vm->name,
		"keys", keys, "nics", nics, "disks", disks);
}
