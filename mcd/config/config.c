/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd.conf.  The VMs' files: vm-file.c; what both mean by a key: keys.c. */
#include "mcd/config/config.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/parse.h"
#include "mcd/config/private.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

const char *const config_netbuf_names[] = {[CONFIG_NETBUF_AUTO] = "auto",
	[CONFIG_NETBUF_PLUG] = "plug",
	[CONFIG_NETBUF_RELAY] = "relay",
	NULL};
static const char *const dirty_names[] = {[CONFIG_DIRTY_AUTO] = "auto",
	[CONFIG_DIRTY_PAGEMAP_SCAN] = "pagemap-scan",
	[CONFIG_DIRTY_SOFT_DIRTY] = "soft-dirty",
	NULL};
static const char *const transport_names[] = {
	[RD_AUTO] = "auto", [RD_TCP] = "tcp", [RD_RDMA] = "rdma", NULL};
const char *const config_cluster_names[] = {[CONFIG_CLUSTER_STATIC] = "static",
	[CONFIG_CLUSTER_COROSYNC] = "corosync",
	[CONFIG_CLUSTER_AUTO] = "auto",
	NULL};
static const char *const failover_choices[] = {"automatic", "manual", NULL};
static const char *const reprotect_choices[] = {"auto", "manual", NULL};

#define MCD(key, kind, member, ...) CONFIG_KEY("mcd", key, kind, struct config, member, __VA_ARGS__)
#define DEFAULTS(key, kind, member, ...)                                                           \
	CONFIG_KEY("defaults", key, kind, struct config, member, __VA_ARGS__)

/* dump.c prints in this order; the three of [defaults] come last (CONFIG_DEFAULTS_FIRST). */
const struct config_key config_main_keys[CONFIG_MAIN_KEYS] = {
	MCD("name", CONFIG_NAME, name, 0),
	MCD("run-dir", CONFIG_PATH, run_dir, 0),
	MCD("state-dir", CONFIG_PATH, state_dir, 0),
	MCD("vms-dir", CONFIG_PATH, vms_dir, 0),
	MCD("key-file", CONFIG_PATH, key_file, 0),
	MCD("netbuf", CONFIG_CHOICE, netbuf, 0, 0, config_netbuf_names),
	MCD("dirty-tracking", CONFIG_CHOICE, dirty, 0, 0, dirty_names),
	MCD("transport", CONFIG_CHOICE, transport, 0, 0, transport_names),
	MCD("keep-alive", CONFIG_DURATION, keepalive_interval, 5 * MC_MSEC, 10 * MC_SEC),
	MCD("keep-alive-misses", CONFIG_UINT, keepalive_misses, 2, 100),
	MCD("failover", CONFIG_SWITCH, failover_automatic, 0, 0, failover_choices),
	MCD("reprotect", CONFIG_SWITCH, reprotect_auto, 0, 0, reprotect_choices),
	MCD("port", CONFIG_PORT, port, 0),
	MCD("cluster", CONFIG_CHOICE, cluster, 0, 0, config_cluster_names),
	DEFAULTS("delay", CONFIG_DURATION, delay, CONFIG_DELAY_MIN, CONFIG_DELAY_MAX),
	DEFAULTS("max-buffer", CONFIG_SIZE, max_buffer, CONFIG_MAX_BUFFER_MIN, CONFIG_BYTES_MAX),
	DEFAULTS("hold-limit", CONFIG_SIZE, hold_limit, CONFIG_HOLD_LIMIT_MIN, CONFIG_BYTES_MAX),
};

const struct config_key config_host_keys[CONFIG_HOST_KEYS] = {
	CONFIG_KEY("host", "address", CONFIG_ADDRESS, struct config_host, address, 0),
	CONFIG_KEY("host", "port", CONFIG_PORT, struct config_host, port, 0),
	CONFIG_KEY("host", "keepalive-address", CONFIG_ADDRESS, struct config_host,
		keepalive_address, 0),
};

int config_parse_delay(const char *text, uint64_t *ret, struct mc_error *err)
{
	uint64_t ns;
	int r = mc_parse_duration(text, &ns, err);
	if (r < 0)
		return r;
	if (ns < CONFIG_DELAY_MIN || ns > CONFIG_DELAY_MAX)
		return mc_error_set(err, -ERANGE, MC_ECLASS_INVALID,
			"the delay %.64s is out of range: it must be 1ms to 10s", text);
	*ret = ns;
	return 0;
}

const char *config_keepalive_address(const struct config_host *h)
{
	return h->keepalive_address[0] ? h->keepalive_address : h->address;
}

const struct config_host *config_find_host(const struct config *cfg, const char *name)
{
	for (size_t i = 0; i < cfg->n_hosts; i++)
		if (strcmp(cfg->hosts[i].name, name) == 0)
			return &cfg->hosts[i];
	return NULL;
}

static int set_defaults(const char *path, struct config *c, struct mc_error *err)
{
	/* An absolute path: whoever reads a dump may be in another directory. */
	_cleanup_free_ char *full = realpath(path, NULL);
	if (!full)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"%s cannot be read: %s (mcctl and mcd take another one with --config)",
			path, strerror(errno));
	int dir = (int)(strrchr(full, '/') - full);
	if (strlen(full) >= sizeof c->path ||
		(size_t)dir + sizeof "/cluster.key" > sizeof c->key_file)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the path %.200s... is too long: use one of at most %zu bytes", full,
			sizeof c->path - sizeof "/cluster.key");
	snprintf(c->path, sizeof c->path, "%s", full);
	snprintf(c->run_dir, sizeof c->run_dir, "/run/mcd");
	snprintf(c->state_dir, sizeof c->state_dir, "/var/lib/mcd");
	snprintf(c->vms_dir, sizeof c->vms_dir, "%.*s/vms.d", dir, full);
	snprintf(c->key_file, sizeof c->key_file, "%.*s/cluster.key", dir, full);
	c->netbuf = CONFIG_NETBUF_AUTO;
	c->dirty = CONFIG_DIRTY_AUTO;
	c->transport = RD_AUTO;
	c->cluster = CONFIG_CLUSTER_AUTO;
	c->port = 7801;
	c->keepalive_interval = 50 * MC_MSEC;
	c->keepalive_misses = 5;
	c->failover_automatic = true;
	c->reprotect_auto = true;
	c->delay = 100 * MC_MSEC;
	c->max_buffer = 256ull << 20;
	c->hold_limit = 64ull << 20;
	return 0;
}

static int add_host(struct config *c, const struct conf_file *f, const struct conf_item *it,
	const char *name, struct mc_error *err)
{
	if (!config_name_ok(name, LINK_NAME_MAX))
		return conf_file_error(f, it->line, err,
			"[%.80s] needs the host's name, as in [host hostA]: 1 to %d of the "
			"characters A-Z a-z 0-9 . _ -, and none of . and - in front",
			it->section, LINK_NAME_MAX);
	if (c->n_hosts == CONFIG_HOSTS_MAX)
		return conf_file_error(f, it->line, err,
			"there are more than %d hosts: three to five voters are enough for any "
			"cluster",
			CONFIG_HOSTS_MAX);
	struct config_host *h = &c->hosts[c->n_hosts++];
	snprintf(h->name, sizeof h->name, "%s", name);
	h->line = it->line;
	return 0;
}

static int take_item(struct config *c, const struct conf_file *f, const struct conf_item *it,
	struct mc_error *err)
{
	static const char *const sections[] = {"mcd", "host", "defaults"};
	const char *host = config_section_arg(it->section, "host");
	if (host && !it->key)
		return add_host(c, f, it, host, err);
	if (host) { /* of the section begun last: a section comes once */
		struct config_host *h = &c->hosts[c->n_hosts - 1];
		return config_keys_apply(
			config_host_keys, CONFIG_HOST_KEYS, f, it, h, h->lines, err);
	}
	if (strcmp(it->section, "mcd") && strcmp(it->section, "defaults"))
		return config_unknown_section(f, it, sections, 3, err);
	if (!it->key)
		return 0;
	return config_keys_apply(config_main_keys, CONFIG_MAIN_KEYS, f, it, c, c->lines, err);
}

/* As conf_file_error, long after the file was read. */
static int host_error(
	const struct config *c, unsigned line, struct mc_error *err, const char *fmt, ...)
{
	char text[560];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (!line)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG, "%s: %s", c->path, text);
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG, "%s:%u: %s", c->path, line, text);
}

static int check_addresses(const struct config *c, struct mc_error *err)
{
	if (c->n_hosts == 0)
		return host_error(c, 0, err,
			"there is no [host NAME] section: add one for every voter, this host "
			"included");
	for (size_t i = 0; i < c->n_hosts; i++) {
		const struct config_host *h = &c->hosts[i];
		if (!h->address[0])
			return host_error(c, h->line, err,
				"[host %s] has no address: add a line such as \"address = "
				"10.0.0.1\"",
				h->name);
		if (!h->keepalive_address[0] != !c->hosts[0].keepalive_address[0])
			return host_error(c, h->keepalive_address[0] ? h->lines[2] : h->line, err,
				"[host %s] has %s keepalive-address, but [host %s] has %s: either "
				"all hosts have one or none",
				h->name, h->keepalive_address[0] ? "a" : "no", c->hosts[0].name,
				h->keepalive_address[0] ? "none" : "one");
		for (size_t j = 0; j < i; j++)
			if (h->keepalive_address[0] && h->port == c->hosts[j].port &&
				!strcmp(h->keepalive_address, c->hosts[j].keepalive_address))
				return host_error(c, h->lines[2], err,
					"[host %s] has the keepalive-address of [host %s]: every "
					"host needs its own",
					h->name, c->hosts[j].name);
		for (size_t j = 0; j < i; j++)
			if (!strcmp(h->address, c->hosts[j].address) && h->port == c->hosts[j].port)
				return host_error(c, h->line, err,
					"[host %s] has the address and port of [host %s]: every "
					"host needs its own",
					h->name, c->hosts[j].name);
	}
	return 0;
}

/* Which of the hosts we are: the name given, else the hostname, whole or up to its first dot. */
static int find_self(struct config *c, struct mc_error *err)
{
	bool given = c->name[0] != '\0';
	char name[sizeof c->name];
	memcpy(name, c->name, sizeof name);
	if (!given) {
		char full[HOST_NAME_MAX + 1] = "";
		gethostname(full, sizeof full - 1);
		snprintf(name, sizeof name, "%.*s", LINK_NAME_MAX, full);
		if (!config_find_host(c, name))
			name[strcspn(name, ".")] = '\0';
	}
	if (config_find_host(c, name)) {
		memcpy(c->name, name, sizeof name);
		return 0;
	}
	const char *names[CONFIG_HOSTS_MAX];
	for (size_t i = 0; i < c->n_hosts; i++)
		names[i] = c->hosts[i].name;
	const char *near = mc_nearest(name, names, c->n_hosts);
	char hint[120] = "";
	if (near)
		snprintf(hint, sizeof hint, "; did you mean \"%s\"?", near);
	if (given)
		return host_error(c, c->lines[0], err,
			"name: there is no [host %s], and this host must be one of the voters%s",
			name, hint);
	return host_error(c, 0, err,
		"no [host NAME] section has this host's name, \"%s\": add one, or say which one is "
		"meant by \"name = ...\" in [mcd]%s",
		name, hint);
}

/* sockaddr_un holds 107 bytes; RUN_DIR/NAME/SOCKET is checked for each VM in vm-file.c. */
static int check_run_dir(const struct config *c, const struct conf_file *f, struct mc_error *err)
{
	if (strlen(c->run_dir) + strlen("/control.sock") <= 107)
		return 0;
	return conf_file_error(f, c->lines[1], err,
		"run-dir: the path is too long for the sockets in it: use one of at most %zu bytes",
		107 - strlen("/control.sock"));
}

static void warn_about_voters(const struct config *c)
{
	if (c->n_hosts < 3)
		log_warn("%s: with %zu host%s there is no majority once one is lost, so nothing "
			 "fails over by itself: add a third [host], it needs no VM",
			c->path, c->n_hosts, c->n_hosts == 1 ? "" : "s");
	else if (c->n_hosts % 2 == 0)
		log_warn("%s: %zu hosts survive the loss of no more of them than %zu do: an odd "
			 "number is better",
			c->path, c->n_hosts, c->n_hosts - 1);
}

int config_check_hosts(struct config *c, struct mc_error *err)
{
	int r = check_addresses(c, err);
	if (r == 0)
		r = find_self(c, err);
	if (r < 0)
		return r;
	assert(c->n_hosts >= 1 && c->n_hosts <= CONFIG_HOSTS_MAX && config_find_host(c, c->name));
	warn_about_voters(c);
	return 0;
}

/* What the tables, the defaults and the checks have made sure of, and others count on. */
static void assert_limits(const struct config *c)
{
	assert(c->delay >= CONFIG_DELAY_MIN && c->delay <= CONFIG_DELAY_MAX);
	assert(c->max_buffer >= CONFIG_MAX_BUFFER_MIN && c->max_buffer <= CONFIG_BYTES_MAX);
	assert(c->hold_limit >= CONFIG_HOLD_LIMIT_MIN && c->hold_limit <= CONFIG_BYTES_MAX);
	assert(c->keepalive_interval && c->keepalive_misses >= 2);
	assert(c->keepalive_interval <= UINT64_MAX / c->keepalive_misses); /* the suspicion time */
	assert(c->port && c->n_hosts <= CONFIG_HOSTS_MAX);
	for (size_t i = 0; i < c->n_hosts; i++)
		assert(c->hosts[i].name[0] && c->hosts[i].port);
}

int config_load(const char *path, struct config *ret, struct mc_error *err)
{
	_cleanup_free_ struct config *c = calloc(1, sizeof *c);
	if (!c)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to read %s", path);
	int r = set_defaults(path, c, err);
	if (r < 0)
		return r;
	struct conf_file f;
	r = conf_file_load(c->path, &f, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < f.n && r == 0; i++)
		r = take_item(c, &f, &f.items[i], err);
	for (size_t i = 0; i < c->n_hosts; i++)
		if (!c->hosts[i].port)
			c->hosts[i].port = c->port;
	if (r == 0 && c->cluster == CONFIG_CLUSTER_STATIC)
		r = config_check_hosts(c, err);
	if (r == 0)
		r = check_run_dir(c, &f, err);
	conf_file_clear(&f);
	if (r < 0)
		return r;
	assert_limits(c);
	*ret = *c;
	return 0;
}
