/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A network namespace of the test's own with loopback up, so that tests need no free port of the
 * machine and cannot disturb it.  Call before threads are started. */
#pragma once
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static inline bool own_netns(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_flags = IFF_UP | IFF_RUNNING};
	strcpy(ifr.ifr_name, "lo");
	bool ok = s >= 0 && ioctl(s, SIOCSIFFLAGS, &ifr) == 0;
	if (s >= 0)
		close(s);
	return ok;
}
