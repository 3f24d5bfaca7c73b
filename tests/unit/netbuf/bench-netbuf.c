/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the relay costs: the barrier is inside the VM's pause, the rest is not.  `meson test
 * --benchmark`; prints medians and the 10th and 90th percentile. */
#include "testnet.h"

#include "common/clock.h"

#include <linux/if_tun.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#define ROUNDS 300

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void report(const char *what, uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof *ns, compare);
	printf("%-58s %8.1f us  [%.1f .. %.1f]\n", what, (double)ns[n / 2] / 1e3,
		(double)ns[n / 10] / 1e3, (double)ns[n * 9 / 10] / 1e3);
}

static struct tn_frame got;

static void measure_barrier(unsigned frames, bool drained, const char *what)
{
	static uint64_t barrier[ROUNDS], release[ROUNDS];
	struct tn *t = tn_open(1, "", 64 << 20, NULL);
	netbuf_hold(t->nb, 1, NULL);
	for (unsigned e = 1; e <= ROUNDS; e++) {
		for (unsigned i = 0; i < frames; i++)
			tn_send(t, 0, i);
		if (drained)
			tn_wait_held(t, frames);
		uint64_t a = mc_now();
		netbuf_barrier(t->nb, e, NULL);
		uint64_t b = mc_now();
		netbuf_release(t->nb, e, NULL);
		release[e - 1] = mc_now() - b;
		barrier[e - 1] = b - a;
		while (tn_read(t, &got, 0))
			;
	}
	report(what, barrier, ROUNDS);
	if (frames)
		report("  and its release", release, ROUNDS);
	tn_close(t);
}

/* All frames of a barrier still in the kernel: the limit makes the relay's thread stop reading. */
static void measure_cold_barrier(unsigned frames)
{
	static uint64_t barrier[ROUNDS];
	struct tn *t = tn_open(1, "", 1, NULL);
	netbuf_hold(t->nb, 1, NULL);
	for (unsigned e = 1; e <= ROUNDS; e++) {
		tn_send(t, 0, 0);
		tn_wait_held(t, 1);
		for (unsigned i = 0; i < frames; i++)
			tn_send(t, 0, i);
		uint64_t a = mc_now();
		netbuf_barrier(t->nb, e, NULL);
		barrier[e - 1] = mc_now() - a;
		netbuf_release(t->nb, e, NULL);
		while (tn_read(t, &got, 0))
			;
	}
	report("barrier, 1000 small frames all still in the kernel", barrier, ROUNDS);
	tn_close(t);
}

static void measure_pass(size_t payload, unsigned count, const char *what)
{
	static uint8_t f[TN_FRAME_MAX];
	struct virtio_net_hdr h, *hp = NULL;
	struct tn *t = tn_open(1, "", 64 << 20, NULL);
	netbuf_pass(t->nb, NULL);
	size_t len = 60;
	if (payload) {
		len = tn_build_tso(f, payload, 1448, false, &h);
		hp = &h;
	} else {
		tn_build(f, len, tn_peer, TN_LOCAL, 0);
	}
	int fd = netbuf_guest_fd(t->nb, 0);
	uint64_t a = mc_now();
	/* 500 at a time: what is in flight fits into the watch's buffer. */
	for (unsigned done = 0; done < count;) {
		unsigned end = done + 500, from = done;
		for (; done < end; done++)
			tn_guest_raw(fd, hp, 10, f, len);
		for (; from < end; from++)
			if (!tn_read(t, &got, 1000))
				fail_msg("lost");
	}
	double s = (double)(mc_now() - a) / 1e9;
	printf("%-58s %8.0f frames/s  %.2f Gbit/s\n", what, count / s,
		count * (double)len * 8 / s / 1e9);
	tn_close(t);
}

static void measure_rtt(void)
{
	static uint64_t ns[2000];
	struct tn *t = tn_open(1, "", 64 << 20, NULL);
	netbuf_pass(t->nb, NULL);
	for (int i = 0; i < 2000; i++) {
		uint64_t a = mc_now();
		tn_send(t, 0, 0);
		tn_read(t, &got, 1000);
		ns[i] = mc_now() - a;
	}
	report("one small frame, guest to bridge, passing", ns, 2000);
	tn_close(t);
}

static void bench(void **state)
{
	measure_barrier(0, false, "barrier, nothing held");
	measure_barrier(1000, true, "barrier, 1000 small frames already queued");
	measure_barrier(1000, false, "barrier right after the guest sent 1000 small frames");
	measure_cold_barrier(1000);
	measure_rtt();
	measure_pass(0, 100000, "passing, 60-byte frames");
	measure_pass(60000, 20000, "passing, 60 kB segments");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(bench)};
	return cmocka_run_group_tests_name("netbuf bench", tests, tn_enter, NULL);
}
