/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qmpfloor: what a pause costs when nothing but QEMU works in it.  Each --delay it stops the guest,
 * saves the device state and lets it run again, over a QMP socket of the administrator's own, while
 * the VM is not protected.  mcd's pause is measured against this (bench/pause).
 *
 *   qmpfloor --socket PATH --file PATH [--delay MS] [--seconds S]
 *
 * --file is a path as QEMU sees it, on a tmpfs.  Prints one sample a line:
 *   {"total_ms","stop_ms","save_ms","cont_ms"}
 */
#include "common/clock.h"
#include "common/error.h"
#include "common/qmp.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TIMEOUT (5 * MC_SEC)

static int sample(struct qmp *q, const char *file, struct mc_error *err)
{
	uint64_t t[4];
	int r;

	t[0] = mc_now();
	r = qmp_command(q, "stop", NULL, TIMEOUT, NULL, err);
	t[1] = mc_now();
	if (!r)
		r = qmp_command(q, "xen-save-devices-state",
			json_pack("{s:s, s:b}", "filename", file, "live", 0), TIMEOUT, NULL, err);
	t[2] = mc_now();
	if (!r)
		r = qmp_command(q, "cont", NULL, TIMEOUT, NULL, err);
	t[3] = mc_now();
	if (!r)
		printf("{\"total_ms\":%.4f,\"stop_ms\":%.4f,\"save_ms\":%.4f,\"cont_ms\":%.4f}\n",
			(double)(t[3] - t[0]) / 1e6, (double)(t[1] - t[0]) / 1e6,
			(double)(t[2] - t[1]) / 1e6, (double)(t[3] - t[2]) / 1e6);
	return r;
}

static void sleep_until(uint64_t at)
{
	struct timespec t = {(time_t)(at / MC_SEC), (long)(at % MC_SEC)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
		;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"socket", 1, 0, 's'}, {"file", 1, 0, 'f'},
		{"delay", 1, 0, 'd'}, {"seconds", 1, 0, 'n'}, {0}};
	const char *socket = NULL, *file = NULL;
	double delay_ms = 100, seconds = 10;
	struct mc_error err = MC_ERROR_INIT;
	struct qmp *q = NULL;
	uint64_t next, end;
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			socket = optarg;
			break;
		case 'f':
			file = optarg;
			break;
		case 'd':
			delay_ms = atof(optarg);
			break;
		case 'n':
			seconds = atof(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!socket || !file || !(delay_ms >= 1) || !(seconds > 0) || optind != argc) {
		fprintf(stderr,
			"usage: qmpfloor --socket PATH --file PATH [--delay MS] [--seconds S]\n");
		return 2;
	}
	r = qmp_open(socket, false, mc_now() + TIMEOUT, &q, &err);
	next = mc_now();
	end = next + (uint64_t)(seconds * 1e9);
	while (!r && (next += (uint64_t)(delay_ms * 1e6)) < end) {
		sleep_until(next);
		r = sample(q, file, &err);
	}
	if (r)
		fprintf(stderr, "qmpfloor: %s\n", err.msg);
	qmp_close(q);
	return r ? 1 : 0;
}
