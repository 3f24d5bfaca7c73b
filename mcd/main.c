/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcd: reads its configuration, brings up its parts, runs the control loop. */
#include "common/log.h"
#include "mcd/bringup.h"
#include "common/failpoint.h"
#include "mcd/hosts/hosts.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <systemd/sd-daemon.h>

static const char usage[] =
	"Usage: mcd [--config FILE] [--log-level error|warning|notice|info|debug]\n"
	"The fault-tolerance daemon; see mcd(8). It stays in the foreground: start it from "
	"systemd.\n"
	"  --config FILE   default /etc/mcd/mcd.conf\n"
	"  --check         read the configuration, say whether it is good, and end\n"
	"  --version, --help\n";

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

/* What is freed goes back, or the bound of max-buffer is one on paper: glibc learns from each
 * large block that it frees to keep such ones, and keeps them for each of a dozen arenas, one a
 * thread. */
static void bound_malloc(void)
{
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_ARENA_MAX, 2);
}

struct arguments {
	const char *path;
	enum mc_log_level level;
	bool only_check;
};

/* 0: go on; else 1 + the exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"log-level", required_argument, NULL, 'l'},
		{"check", no_argument, NULL, 'n'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	for (int o; (o = getopt_long(argc, argv, "c:l:h", options, NULL)) != -1;) {
		switch (o) {
		case 'c':
			a->path = optarg;
			break;
		case 'l':
			if (parse_level(optarg, &a->level) < 0) {
				fprintf(stderr, "mcd: no log level \"%s\"\n%s", optarg, usage);
				return 3;
			}
			break;
		case 'n':
			a->only_check = true;
			break;
		case 'V':
			puts("mcd " MCD_VERSION);
			return 1;
		case 'h':
			fputs(usage, stdout);
			return 1;
		default:
			fputs(usage, stderr);
			return 3;
		}
	}
	return 0;
}

static int check_only(struct daemon *d, const char *path)
{
	struct mc_error err = MC_ERROR_INIT;
	int r = membership_open(d, &err);
	if (r < 0)
		log_error("%s", err.msg);
	else
		printf("%s is good\n", path);
	cluster_close(d->cluster);
	return r < 0 ? 1 : 0;
}

/* The loop takes the signals, and no other thread does: before any is made. */
static void take_signals(void)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int start(struct daemon *d, struct mc_error *err)
{
	if (getrandom(&d->link.instance, sizeof d->link.instance, 0) != sizeof d->link.instance)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED, "no random numbers");
	if (sd_event_default(&d->loop) < 0)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_FAILED, "cannot make the event loop");
	sd_event_add_signal(d->loop, NULL, SIGTERM, NULL, NULL); /* NULL handler: end the loop */
	sd_event_add_signal(d->loop, NULL, SIGINT, NULL, NULL);
	sd_event_set_watchdog(d->loop, true);
	return bring_up(d, err);
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct arguments a = {.path = "/etc/mcd/mcd.conf", .level = MC_LOG_INFO};
	struct mc_error err = MC_ERROR_INIT;
	bound_malloc();
	int r = parse_arguments(argc, argv, &a);
	if (r)
		return r - 1;
	mc_log_setup(a.level, "mcd");
	failpoint_setup();
	take_signals();
	r = config_load(a.path, &d.cfg, &err);
	if (r == 0 && a.only_check)
		return check_only(&d, a.path);
	if (r == 0)
		r = start(&d, &err);
	if (r == 0) {
		log_notice("host %s, %zu voters (%s), network hold: %s, dirty tracking: %s",
			d.cfg.name, d.cfg.n_hosts,
			cluster_managed(d.cluster) ? "corosync" : "static", d.netbuf_name,
			d.dirty_name);
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
