/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netbuf/netns.h"

#include "common/cleanup.h"
#include "common/thread.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct ns_job {
	int ns; /* -1: a new one */
	int (*fn)(void *arg, struct mc_error *err);
	void *arg;
	struct mc_error *err;
	int r;
};

static void *ns_main(void *p)
{
	struct ns_job *job = p;
	if (job->ns < 0 ? unshare(CLONE_NEWNET) : setns(job->ns, CLONE_NEWNET)) {
		job->r = mc_error_set(job->err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot enter a network namespace for the VM's tap (%m): mcd needs root or "
			"CAP_SYS_ADMIN and CAP_NET_ADMIN");
		return NULL;
	}
	job->r = job->fn(job->arg, job->err);
	return NULL;
}

/* In a thread of its own, which ends: a namespace is a property of the thread, and coming back
 * could fail halfway. */
int netns_run(int ns, int (*fn)(void *, struct mc_error *), void *arg, struct mc_error *err)
{
	struct ns_job job = {ns, fn, arg, err, 0};
	pthread_t t;
	int r = mc_thread_start(&t, "netbuf-netns", ns_main, &job);
	if (r < 0)
		return mc_error_set(
			err, r, MC_ECLASS_MEMORY, "cannot start a thread: %s", strerror(-r));
	pthread_join(t, NULL);
	return job.r;
}

int netns_of_tap(int tap, struct mc_error *err)
{
	int ns = ioctl(tap, TUNGETDEVNETNS);
	if (ns < 0 && errno != EPERM && errno != EINVAL)
		return mc_error_set(err, -errno, MC_ECLASS_GUEST,
			"the descriptor taken from QEMU is not a tap (%m): this QEMU was not "
			"started by mcd");
	if (ns < 0)
		return mc_error_set(err, -errno,
			errno == EPERM ? MC_ECLASS_PERMISSION : MC_ECLASS_KERNEL,
			"cannot find the namespace of QEMU's tap (%m): this needs Linux 5.3 and "
			"CAP_NET_ADMIN");
	return ns;
}

int netns_has_tap(int tap, struct mc_error *err)
{
	_cleanup_close_ int ns = netns_of_tap(tap, err);
	struct stat theirs, ours;
	if (ns < 0)
		return ns;
	if (fstat(ns, &theirs) || stat("/proc/thread-self/ns/net", &ours))
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "cannot compare namespaces: %m");
	return theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev;
}
