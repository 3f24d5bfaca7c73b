/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd: reads its configuration, brings up its parts in order of dependency, runs the control loop.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "mcd/daemon.h"
#include "mcd/failpoint.h"
#include "mcd/guest/dirty/dirty.h"
#include "mcd/hosts/membership.h"
#include "mcd/vm/vm.h"
#include "netbuf/netbuf.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

static const char usage[] =
	"Usage: mcd [--config FILE] [--log-level error|warning|notice|info|debug]\n"
	"The fault-tolerance daemon; see mcd(8). It stays in the foreground: start it from "
	"systemd.\n"
	"  --config FILE   default /etc/mcd/mcd.conf\n"
	"  --check         read the configuration, say whether it is good, and end\n"
	"  --version, --help\n";

int daemon_find_vm(struct daemon *d, const char *name, struct vm **ret, struct mc_error *err)
{
	struct vm *vm = daemon_known_vm(d, name);
	if (vm) {
		*ret = vm;
		return 0;
	}
	struct config_vm *cfg;
	int r = config_load_vm(&d->cfg, name, &cfg, err);
	if (r < 0)
		return r;
	config_vm_free(cfg);
	/* Two locks: making a VM asks the voter, which may at that moment tell us of a record, for
	 * which it needs to look at the list. */
	pthread_mutex_lock(&d->making);
	vm = daemon_known_vm(d, name); /* made meanwhile? */
	if (!vm && d->n_vms == CONFIG_VMS_MAX)
		r = mc_error_set(err, -ENOSPC, MC_ECLASS_CONFIG, "more than %d VMs on one host",
			CONFIG_VMS_MAX);
	else if (!vm && (r = vm_new(d, name, &vm, err)) == 0) {
		pthread_mutex_lock(&d->lock);
		d->vms[d->n_vms++] = vm;
		pthread_mutex_unlock(&d->lock);
	}
	pthread_mutex_unlock(&d->making);
	if (r == 0)
		*ret = vm;
	return r;
}

struct vm *daemon_known_vm(struct daemon *d, const char *name)
{
	struct vm *vm = NULL;
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->n_vms; i++)
		if (!strcmp(d->vms[i]->name, name))
			vm = d->vms[i];
	pthread_mutex_unlock(&d->lock);
	return vm;
}

void daemon_timing(const struct daemon *d, uint64_t delay, struct timing *ret)
{
	struct timing_inputs in = {
		.keepalive_interval = d->cfg.keepalive_interval,
		.keepalive_misses = d->cfg.keepalive_misses,
		.delay = delay,
		.round_trip = MC_MSEC,
	};
	timing_derive(&in, ret);
}

/* --- what the parts tell us, from their threads ------------------------------------------------
 */

static void ring_all(struct daemon *d, unsigned bit)
{
	pthread_mutex_lock(&d->lock);
	for (size_t i = 0; i < d->n_vms; i++)
		vm_ring(d->vms[i], bit);
	pthread_mutex_unlock(&d->lock);
}

static void on_suspect(void *ctx, const char *peer, uint64_t last_heard)
{
	struct daemon *d = ctx;
	ring_all(d, WAKE_SUSPECT); /* first: the takeover is in a hurry, the log is not */
	if (last_heard)
		log_warn("keep-alives of %s stopped: last heard %.0f ms ago", peer,
			(double)(mc_now() - last_heard) / 1e6);
	else
		log_warn("keep-alives of %s were never heard since mcd started", peer);
	control_emit(d->control, "KEEPALIVE_LOST",
		json_pack("{s:s, s:I}", "peer", peer, "last_heard", (json_int_t)last_heard));
}

static void on_alive(void *ctx, const char *peer)
{
	struct daemon *d = ctx;
	log_info("keep-alives of %s are heard", peer);
	control_emit(d->control, "KEEPALIVE_BACK", json_pack("{s:s}", "peer", peer));
}

static uint64_t on_heard_age(void *ctx, const char *host)
{
	struct daemon *d = ctx;
	return d->keepalive ? keepalive_age(d->keepalive, host) : UINT64_MAX;
}

static bool on_may_grant(void *ctx)
{
	struct daemon *d = ctx;
	return cluster_quorate(d->cluster);
}

static void on_learned(void *ctx, const char *name, const struct own_record *rec)
{
	struct vm *vm = daemon_known_vm(ctx, name);
	if (vm)
		vm_learned(vm, rec);
}

/* --- bringing up -------------------------------------------------------------------------------
 */

static int make_dir(const char *path, struct mc_error *err)
{
	if (mkdir(path, 0700) == 0 || errno == EEXIST)
		return 0;
	return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "cannot make the directory %s: %s", path,
		strerror(errno));
}

static int open_voter(struct daemon *d, struct mc_error *err)
{
	struct voter_peer peers[CONFIG_HOSTS_MAX];
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		memcpy(peers[i].name, d->cfg.hosts[i].name, sizeof peers[i].name);
		memcpy(peers[i].address, d->cfg.hosts[i].address, sizeof peers[i].address);
		peers[i].port = d->cfg.hosts[i].port;
	}
	struct voter_config vc = {
		.self = d->cfg.name,
		.voters = peers,
		.n_voters = d->cfg.n_hosts,
		.state_dir = d->cfg.state_dir,
		.key = &d->key,
		.instance = d->instance,
		.local_address = d->self->address,
		.heard_age = on_heard_age,
		.learned = on_learned,
		.may_grant = on_may_grant,
		.ctx = d,
	};
	return voter_open(&vc, &d->voter, err);
}

static int open_keepalive(struct daemon *d, struct mc_error *err)
{
	struct keepalive_peer peers[CONFIG_HOSTS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		if (&d->cfg.hosts[i] == d->self)
			continue;
		memcpy(peers[n].name, d->cfg.hosts[i].name, sizeof peers[n].name);
		snprintf(peers[n].address, sizeof peers[n].address, "%s",
			config_keepalive_address(&d->cfg.hosts[i]));
		peers[n++].port = d->cfg.hosts[i].port;
	}
	struct keepalive_config kc = {
		.self = d->cfg.name,
		.local_address = config_keepalive_address(d->self),
		.key = &d->key,
		.instance = d->instance,
		.interval = d->cfg.keepalive_interval,
		.misses = d->cfg.keepalive_misses,
		.mode = rd_mode_parse(d->cfg.transport),
		.peers = peers,
		.n_peers = n,
		.suspect = on_suspect,
		.alive = on_alive,
		.ctx = d,
	};
	return keepalive_new(&kc, &d->keepalive, err);
}

static void probe(struct daemon *d)
{
	struct mc_error err = MC_ERROR_INIT;
	enum dirty_backend b;
	d->dirty_name = d->netbuf_name = "none";
	if (dirty_probe(DIRTY_AUTO, &b, &err) == 0)
		d->dirty_name = b == DIRTY_PAGEMAP_SCAN ? "pagemap-scan" : "soft-dirty";
	else
		log_warn("no VM can be protected from this host: %s", err.msg);
	if (netbuf_probe(d->cfg.netbuf, &d->netbuf_name, &err) < 0)
		log_warn("no VM can run on this host: %s", err.msg);
}

static int make_vms(struct daemon *d, struct mc_error *err)
{
	char **names;
	size_t n;
	int r = config_list_vms(&d->cfg, &names, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		struct vm *vm;
		struct mc_error why = MC_ERROR_INIT;
		/* One bad file must not keep the other VMs' protection from coming up. */
		if (daemon_find_vm(d, names[i], &vm, &why) < 0)
			log_error("%s", why.msg);
		free(names[i]);
	}
	free(names);
	return 0;
}

static int bring_up(struct daemon *d, struct mc_error *err)
{
	char path[300];
	snprintf(path, sizeof path, "%s/control.sock", d->cfg.run_dir);
	int r = link_key_load(d->cfg.key_file, &d->key, err);
	if (r < 0 || (r = make_dir(d->cfg.run_dir, err)) < 0 ||
		(r = make_dir(d->cfg.state_dir, err)) < 0)
		return r;
	if ((r = membership_open(d, err)) < 0) /* who we are, and who votes */
		return r;
	daemon_timing(d, d->cfg.delay, &d->timing);
	probe(d);
	if ((r = control_new(d->loop, path, d->cfg.name, daemon_verbs, d, &d->control, err)) < 0)
		return r;
	if ((r = open_voter(d, err)) < 0 || (r = open_keepalive(d, err)) < 0)
		return r;
	/* VMs before the listener: a peer that connects at once must find its VM. */
	if ((r = make_vms(d, err)) < 0)
		return r;
	cluster_start(d->cluster);
	return listener_new(d, &d->listener, err);
}

static void take_down(struct daemon *d)
{
	struct vm *vms[CONFIG_VMS_MAX];
	pthread_mutex_lock(&d->lock);
	size_t n = d->n_vms;
	memcpy(vms, d->vms, sizeof vms);
	d->n_vms = 0; /* nobody finds them any more */
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < n; i++)
		vm_free(vms[i]);
	if (d->cluster)
		cluster_shutdown(d->cluster);
	if (d->voter)
		voter_shutdown(d->voter);
	listener_free(d->listener); /* its threads use voter and keep-alive */
	keepalive_free(d->keepalive);
	voter_close(d->voter); /* asks the cluster to the last */
	cluster_close(d->cluster);
	control_free(d->control);
}

static int parse_level(const char *s, enum mc_log_level *ret)
{
	static const struct {
		const char *name;
		enum mc_log_level level;
	} levels[] = {
		{"error", MC_LOG_ERROR},
		{"warning", MC_LOG_WARN},
		{"notice", MC_LOG_NOTICE},
		{"info", MC_LOG_INFO},
		{"debug", MC_LOG_DEBUG},
	};
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (!strcmp(s, levels[i].name)) {
			*ret = levels[i].level;
			return 0;
		}
	return -EINVAL;
}

/* What is freed goes back, or the bound of max-buffer is one on paper: glibc learns from each large block that
 * it frees to keep such ones, and keeps them for each of a dozen arenas, one a thread. */
static void bound_malloc(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_ARENA_MAX, 2);
}

int main(int argc, char **argv)
{
	bound_malloc();
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"log-level", required_argument, NULL, 'l'},
		{"foreground", no_argument, NULL, 'f'},
		{"check", no_argument, NULL, 'n'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *path = "/etc/mcd/mcd.conf";
	enum mc_log_level level = MC_LOG_INFO;
	bool only_check = false;
	for (int o; (o = getopt_long(argc, argv, "c:l:fh", options, NULL)) != -1;) {
		switch (o) {
		case 'c':
			path = optarg;
			break;
		case 'l':
			if (parse_level(optarg, &level) < 0) {
				fprintf(stderr, "mcd: no log level \"%s\"\n%s", optarg, usage);
				return 2;
			}
			break;
		case 'f':
			break;
		case 'n':
			only_check = true;
			break;
		case 'V':
			puts("mcd " MCD_VERSION);
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	mc_log_setup(level, "mcd");
	failpoint_setup();

	static struct daemon d = {
		.lock = PTHREAD_MUTEX_INITIALIZER, .making = PTHREAD_MUTEX_INITIALIZER};
	struct mc_error err = MC_ERROR_INIT;
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	pthread_sigmask(SIG_BLOCK, &mask, NULL); /* before any thread: the loop takes them */
	signal(SIGPIPE, SIG_IGN);
	int r = config_load(path, &d.cfg, &err);
	if (r == 0 && only_check) {
		if ((r = membership_open(&d, &err)) < 0)
			log_error("%s", err.msg);
		else
			printf("%s is good\n", path);
		cluster_close(d.cluster);
		return r < 0 ? 1 : 0;
	}
	if (r == 0 && getrandom(&d.instance, sizeof d.instance, 0) != sizeof d.instance)
		r = mc_error_set(&err, -EIO, MC_ECLASS_FAILED, "no random numbers");
	if (r == 0 && sd_event_default(&d.loop) < 0)
		r = mc_error_set(&err, -ENOMEM, MC_ECLASS_FAILED, "cannot make the event loop");
	if (r == 0) {
		sd_event_add_signal(
			d.loop, NULL, SIGTERM, NULL, NULL); /* NULL handler: end the loop */
		sd_event_add_signal(d.loop, NULL, SIGINT, NULL, NULL);
		sd_event_set_watchdog(d.loop, true);
		r = bring_up(&d, &err);
	}
	if (r == 0) {
		log_notice("host %s, %zu voters (%s), network hold: %s, dirty tracking: %s",
			d.cfg.name, d.cfg.n_hosts, cluster_managed(d.cluster) ? "corosync" : "static",
			d.netbuf_name, d.dirty_name);
		sd_notifyf(0, "READY=1\nSTATUS=host %s, %zu voters", d.cfg.name, d.cfg.n_hosts);
		r = sd_event_loop(d.loop);
		sd_notify(0, "STOPPING=1");
	} else {
		log_error("%s", err.msg);
	}
	take_down(&d);
	sd_event_unref(d.loop);
	return r < 0 ? 1 : 0;
}
