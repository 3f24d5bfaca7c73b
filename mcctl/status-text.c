/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines are KEY:VALUE words, as cluster administrators know them from DRBD, and the first words of
 * a line ("vm1 role:", "host NAME", "ALARM NAME:") do not change: scripts and completion use them.
 */
#include "mcctl/status-text.h"

#include "mcctl/output.h"
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 40

/* "taking-over" -> "TakingOver". */
static void print_state(const char *key, const char *state)
{
	bool upper = true;
	printf(" %s:", key);
	for (const char *p = state; *p; p++) {
		if (*p != '-' && isalpha((unsigned char)*p))
			putchar(upper ? toupper((unsigned char)*p) : *p);
		upper = *p == '-';
	}
}

static void print_alarm(const json_t *vm)
{
	const char *alarm = get_text(vm, "alarm");
	bool colour = isatty(STDOUT_FILENO);
	if (!*alarm)
		return;
	printf("%sALARM %s: ", colour ? "\033[1;31m" : "", get_text(vm, "name"));
	output_text(stdout, alarm);
	puts(colour ? "\033[0m" : "");
}

static void print_vm(const json_t *vm)
{
	char buf[FORMAT_MAX];
	const char *state = get_text(vm, "state"), *peer = get_text(vm, "peer");
	const json_t *pause = json_object_get(vm, "pause"), *sync = json_object_get(vm, "sync");
	output_text(stdout, get_text(vm, "name"));
	print_state("role", get_text(vm, "role"));
	if (*peer)
		printf(" peer:%s", peer);
	print_state("state", state);
	if (!strcmp(state, "syncing"))
		printf(" sync:%.0f%%", get_number(sync, "percent"));
	if (get_number(vm, "epoch") > 0) {
		printf(" epoch:%.0f", get_number(vm, "epoch"));
		printf(" lag:%s", format_ms(get_number(vm, "lag_ms"), buf));
	}
	if (*peer && !strcmp(get_text(vm, "role"), "primary"))
		printf(" held:%s", format_bytes(get_number(vm, "held_bytes"), buf));
	if (get_number(pause, "count") > 0)
		printf(" pause:%s", format_ms(get_number(pause, "p50_ms"), buf));
	if (get_number(vm, "lost_frames") > 0)
		printf(" lost:%.0f", get_number(vm, "lost_frames"));
	if (*get_text(vm, "host")) /* another one: it has told us no more than this */
		printf(" host:%s", get_text(vm, "host"));
	putchar('\n');
}

/* --- details --- */

static void print_step(const char *name, const json_t *step, double scale)
{
	char p50[FORMAT_MAX], p99[FORMAT_MAX], bar[BAR_WIDTH + 1];
	double a = get_number(step, "p50_ms"), b = get_number(step, "p99_ms");
	size_t full = scale > 0 ? (size_t)(a / scale * BAR_WIDTH + 0.5) : 0;
	size_t all = scale > 0 ? (size_t)(b / scale * BAR_WIDTH + 0.5) : 0;
	all = all > BAR_WIDTH ? BAR_WIDTH : all;
	full = full > all ? all : full;
	memset(bar, '#', full);
	memset(bar + full, '-', all - full);
	bar[all] = '\0';
	printf("    %-8s %8s %8s%s%s\n", name, format_ms(a, p50), format_ms(b, p99),
		all ? "  " : "", bar);
}

static void print_steps(const char *title, const json_t *steps, const char *const *names, size_t n)
{
	double scale = 0;
	for (size_t i = 0; i < n; i++) {
		double ms = get_number(json_object_get(steps, names[i]), "p99_ms");
		scale = ms > scale ? ms : scale;
	}
	if (scale <= 0)
		return;
	printf("    %-13s p50      p99  # to p50, - to p99\n", title);
	for (size_t i = 0; i < n; i++) {
		const json_t *step = json_object_get(steps, names[i]);
		if (step)
			print_step(names[i], step, scale);
	}
}

/* What each step costs.  The pause, which the guest feels, has a scale of its own: sending takes
 * ten times as long and hurts nobody. */
static void print_barometer(const json_t *vm)
{
	static const char *const in_pause[] = {"stop", "barrier", "save", "scan", "copy", "resume"};
	static const char *const after[] = {"inspect", "send", "ack", "release", "apply"};
	const json_t *steps = json_object_get(vm, "steps"), *pause = json_object_get(vm, "pause");
	char p50[FORMAT_MAX], p99[FORMAT_MAX], max[FORMAT_MAX];
	if (get_number(pause, "count") > 0) {
		print_steps("guest paused", steps, in_pause, sizeof in_pause / sizeof *in_pause);
		printf("    = pause  %8s %8s  max %s in %.0f epochs\n",
			format_ms(get_number(pause, "p50_ms"), p50),
			format_ms(get_number(pause, "p99_ms"), p99),
			format_ms(get_number(pause, "max_ms"), max), get_number(pause, "count"));
	}
	print_steps("guest running", steps, after, sizeof after / sizeof *after);
}

static void print_disks(const json_t *disks)
{
	char a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX];
	if (!disks)
		return;
	if (json_object_get(disks, "written_bytes")) /* the primary */
		printf("    disks: %s written, %s sent, %s the standby had already\n",
			format_bytes(get_number(disks, "written_bytes"), a),
			format_bytes(get_number(disks, "sent_bytes"), b),
			format_bytes(get_number(disks, "skipped_bytes"), c));
	else
		printf("    disks: %s received, %s applied, %s held\n",
			format_bytes(get_number(disks, "received_bytes"), a),
			format_bytes(get_number(disks, "applied_bytes"), b),
			format_bytes(get_number(disks, "held_bytes"), c));
}

static void print_details(const json_t *vm)
{
	char a[FORMAT_MAX], b[FORMAT_MAX], c[FORMAT_MAX];
	const char *reason = get_text(vm, "reason"), *owner = get_text(vm, "owner");
	const char *standby = get_text(vm, "standby");
	const json_t *dirty = json_object_get(vm, "dirty"), *buffer = json_object_get(vm, "buffer");
	const json_t *sync = json_object_get(vm, "sync");
	if (*get_text(vm, "host")) {
		printf("    generation:%.0f\n", get_number(vm, "generation"));
		return;
	}
	if (*reason) {
		fputs("    reason: ", stdout);
		output_text(stdout, reason);
		putchar('\n');
	}
	printf("    generation:%.0f owner:%s standby:%s", get_number(vm, "generation"),
		*owner ? owner : "none", *standby ? standby : "none");
	if (get_number(vm, "qemu_pid") > 0)
		printf(" qemu:%.0f", get_number(vm, "qemu_pid"));
	putchar('\n');
	if (!strcmp(get_text(vm, "state"), "syncing"))
		printf("    sync: round %.0f, %.0f%%, %.0f s left\n", get_number(sync, "round"),
			get_number(sync, "percent"), get_number(sync, "eta_s"));
	if (get_number(vm, "delay_ms") > 0)
		printf("    delay:%s held-frames:%.0f lost-frames:%.0f\n",
			format_ms(get_number(vm, "delay_ms"), a), get_number(vm, "held_frames"),
			get_number(vm, "lost_frames"));
	if (*get_text(vm, "transport")) {
		printf("    transport:%s", get_text(vm, "transport"));
		if (*get_text(vm, "transport_reason")) {
			fputs(", not rdma: ", stdout);
			output_text(stdout, get_text(vm, "transport_reason"));
		}
		putchar('\n');
	}
	if (get_number(dirty, "max_bytes") > 0)
		printf("    dirty an epoch: p50 %s, max %s\n",
			format_bytes(get_number(dirty, "p50_bytes"), a),
			format_bytes(get_number(dirty, "max_bytes"), b));
	if (get_number(buffer, "budget") > 0)
		printf("    buffer: %s of %s in use, peak %s\n",
			format_bytes(get_number(buffer, "in_use"), a),
			format_bytes(get_number(buffer, "budget"), b),
			format_bytes(get_number(buffer, "peak"), c));
	print_disks(json_object_get(vm, "disks"));
	print_barometer(vm);
}

/* --- hosts --- */

static void print_host(const json_t *host)
{
	char a[FORMAT_MAX], b[FORMAT_MAX];
	const json_t *ka = json_object_get(host, "keepalive");
	const char *name = get_text(host, "name");
	double age = get_number(ka, "age_ms"), jitter = get_number(ka, "jitter_max_ms");
	double limit = get_number(ka, "interval_ms") * get_number(ka, "misses");
	if (json_is_true(json_object_get(host, "self"))) {
		printf("host %s state:Self\n", name);
		return;
	}
	bool up = json_is_true(json_object_get(ka, "up"));
	printf("host %s state:%s", name, up ? "Up" : "Lost");
	if (ka && age >= 0)
		printf(" heard:%s", format_ms(age, a));
	else
		fputs(" heard:never", stdout);
	if (up && *get_text(ka, "path"))
		printf(" path:%s", get_text(ka, "path"));
	if (up)
		printf(" jitter-p99:%s jitter-max:%s",
			format_ms(get_number(ka, "jitter_p99_ms"), a), format_ms(jitter, b));
	if (limit > 0)
		printf(" limit:%s", format_ms(limit, a));
	putchar('\n');
	if (up && limit > 0 && jitter > limit / 2)
		printf("WARNING host %s: its keep-alives came up to %s late and %s counts as lost; "
		       "raise keep-alive or keep-alive-misses, or find what delays them.\n",
			name, format_ms(jitter, a), format_ms(limit, b));
}

void status_print(const json_t *status, bool details)
{
	const json_t *vms = json_object_get(status, "vms");
	const json_t *hosts = json_object_get(status, "hosts");
	const json_t *voters = json_object_get(status, "voters");
	for (size_t i = 0; i < json_array_size(vms); i++)
		print_alarm(json_array_get(vms, i));
	if (*get_text(status, "cluster_alarm")) {
		fputs("WARNING ", stdout);
		output_text(stdout, get_text(status, "cluster_alarm"));
		putchar('\n');
	}
	if (voters && 2 * get_number(voters, "connected") <= get_number(voters, "total"))
		printf("WARNING %.0f of %.0f voters are connected: without a majority no VM starts "
		       "or fails over.\n",
			get_number(voters, "connected"), get_number(voters, "total"));
	for (size_t i = 0; i < json_array_size(vms); i++) {
		print_vm(json_array_get(vms, i));
		if (details)
			print_details(json_array_get(vms, i));
	}
	if (json_array_size(vms) == 0)
		puts("No VM is configured here.");
	if (*get_text(status, "cluster"))
		printf("cluster %s\n", get_text(status, "cluster"));
	for (size_t i = 0; i < json_array_size(hosts); i++)
		print_host(json_array_get(hosts, i));
	if (details)
		printf("netbuf:%s dirty:%s mcd:%s\n", get_text(status, "netbuf"),
			get_text(status, "dirty"), get_text(status, "version"));
}
