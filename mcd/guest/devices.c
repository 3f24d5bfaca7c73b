/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state out of a paused QEMU, and into a waiting one.
 *
 * Both ways go through a memory file that QEMU inherited at its start, so that no file system and
 * no extra round trip is needed.  For saving it is named as /proc/self/fd/N: QEMU opens that anew
 * each time, which truncates it and starts at offset 0.  (add-fd with /dev/fdset/N works too, but
 * shares one offset and does not truncate.)  For loading it is given as fd:N; QEMU closes its copy.
 */
#include "mcd/guest/guest-private.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES_MAX (64u << 20) /* refuses nonsense; real states have 30 KiB to a few MiB */

static int grow(uint8_t **buf, size_t *cap, size_t len, struct mc_error *err)
{
	if (len <= *cap)
		return 0;
	size_t want = len + len / 4;
	uint8_t *p = realloc(*buf, want);
	if (!p)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"no memory for %zu bytes of device state", want);
	*buf = p;
	*cap = want;
	return 0;
}

int qemu_save_devices(struct guest *g, uint64_t timeout_ns, uint8_t **buf, size_t *cap,
	size_t *ret_len, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	char name[32];
	snprintf(name, sizeof name, "/proc/self/fd/%d", q->devices_number);
	/* live:false, or QEMU gives its disks away as if the VM had moved. */
	int r = qmp_command(q->qmp, "xen-save-devices-state",
		json_pack("{s:s, s:b}", "filename", name, "live", 0), timeout_ns, NULL, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	/* A reset that is told before this answer was done before the state was saved: it is in
	 * it. */
	qemu_absorb(q, GUEST_EVENT_NONE);
	q->was_reset = false;

	struct stat st;
	if (fstat(q->devices_fd, &st) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot read the device state: %s", strerror(errno));
	if (st.st_size <= 0 || st.st_size > (off_t)DEVICES_MAX)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_QMP,
			"QEMU saved %lld bytes of device state, which cannot be right",
			(long long)st.st_size);
	size_t len = (size_t)st.st_size;
	r = grow(buf, cap, len, err);
	if (r < 0)
		return r;
	ssize_t n = pread(q->devices_fd, *buf, len, 0);
	if (n != (ssize_t)len)
		return mc_error_set(err, n < 0 ? -errno : -EIO, MC_ECLASS_FAILED,
			"cannot read the device state");
	*ret_len = len;
	return 0;
}

/* Until QEMU has taken the state in and runs.  MIGRATION "completed" is sent with everything
 * loaded, a few microseconds behind RESUME; RESUME alone would leave a failed load unseen. */
static int wait_running(
	struct qemu *q, uint64_t deadline, uint64_t *ret_loaded_at, struct mc_error *err)
{
	bool done = false;
	while (!done) {
		json_t *data = NULL;
		int r = qmp_wait_event(q->qmp, "MIGRATION", deadline, &data, err);
		if (r < 0)
			return r;
		const char *status = json_string_value(json_object_get(data, "status"));
		bool failed = status && !strcmp(status, "failed");
		done = status && !strcmp(status, "completed");
		json_decref(data);
		if (failed)
			return mc_error_set(
				err, -EIO, MC_ECLASS_QMP, "QEMU failed to load the device state");
	}
	uint64_t loaded_at = mc_now();
	int r = q->stay_stopped ? 0 : qmp_wait_event(q->qmp, "RESUME", deadline, NULL, err);
	if (r < 0)
		return r;
	if (ret_loaded_at)
		*ret_loaded_at = loaded_at;
	return 0;
}

int qemu_stay_stopped(struct guest *g, uint64_t timeout_ns, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	/* To a waiting QEMU `stop` means: do not start by yourself. */
	int r = qmp_command(q->qmp, "stop", NULL, timeout_ns, NULL, err);
	if (r < 0)
		return qemu_explain(q, r, err);
	q->stay_stopped = true;
	return 0;
}

int qemu_activate(struct guest *g, const uint8_t *state, size_t len, uint64_t timeout_ns,
	uint64_t *ret_loaded_at, struct mc_error *err)
{
	struct qemu *q = qemu_of(g);
	if (q->incoming_fd < 0)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"%s is no standby, or was activated before", q->name);
	uint64_t deadline = mc_now() + timeout_ns;
	for (size_t at = 0; at < len;) { /* pwrite: QEMU reads at the offset we share with it */
		ssize_t n = pwrite(q->incoming_fd, state + at, len - at, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
				"no memory to pass the device state on: %s", strerror(errno));
		at += (size_t)n;
	}
	char uri[32];
	snprintf(uri, sizeof uri, "fd:%d", q->incoming_number);
	close(mc_steal_fd(&q->incoming_fd)); /* once only, whatever comes of it */

	qemu_absorb(q, GUEST_EVENT_NONE);
	int r = qmp_command(
		q->qmp, "migrate-incoming", json_pack("{s:s}", "uri", uri), timeout_ns, NULL, err);
	if (r == 0)
		r = wait_running(q, deadline, ret_loaded_at, err);
	if (r < 0) {
		qemu_explain(q, r, err);
		mc_error_wrap(err, "%s did not take the device state", q->name);
	}
	return r;
}
