/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this host has of RDMA, and what keeps this process from using it. */
#include "common/rdma/private.h"

#include "common/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int rd_address(const char *text, uint16_t port, struct sockaddr_storage *ret, struct mc_error *err)
{
	struct sockaddr_storage ss = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
	if (text && inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
	} else if (text && inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
	} else {
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"'%.80s' is not a numeric address, which RDMA needs to find a device",
			text ? text : "");
	}
	*ret = ss;
	return 0;
}

static int no_cm(int code, struct mc_error *err)
{
	if (code == EACCES || code == EPERM)
		return mc_error_set(err, -code, MC_ECLASS_PERMISSION,
			"this process may not open /dev/infiniband/rdma_cm: %s", strerror(code));
	return mc_error_set(err, -ENODEV, MC_ECLASS_KERNEL,
		"this host has no RDMA: there is no RDMA device, or no /dev/infiniband/rdma_cm "
		"('modprobe rdma_ucm'); 'rdma link' shows the devices");
}

static int no_device(int code, const char *local, struct mc_error *err)
{
	if (code == EADDRNOTAVAIL)
		return mc_error_set(err, -code, MC_ECLASS_CONFIG,
			"no interface here has the address %s", local);
	return mc_error_set(err, -ENODEV, MC_ECLASS_KERNEL,
		"no RDMA device has the address %s: 'rdma link' shows the devices; an Ethernet "
		"interface gets a software one by 'rdma link add rxe0 type rxe netdev INTERFACE'",
		local);
}

static unsigned mtu_bytes(enum ibv_mtu m)
{
	return m >= IBV_MTU_256 && m <= IBV_MTU_4096 ? 128u << m : 0;
}

int rd_probe(const char *local, struct rd_device *ret, struct mc_error *err)
{
	struct sockaddr_storage ss;
	struct rd_device d = {0};
	struct ibv_port_attr port;
	int r = rd_address(local, 0, &ss, err);
	if (r < 0)
		return r;
	struct rdma_event_channel *events = rdma_create_event_channel();
	if (!events)
		return no_cm(errno, err);
	struct rdma_cm_id *id = NULL;
	if (rdma_create_id(events, &id, NULL, RDMA_PS_TCP) < 0) {
		r = no_cm(errno, err);
	} else if (rdma_bind_addr(id, (struct sockaddr *)&ss) < 0 || !id->verbs) {
		r = no_device(id->verbs                ? errno
			      : errno == EADDRNOTAVAIL ? errno
						       : ENODEV,
			local, err);
	} else {
		snprintf(d.name, sizeof d.name, "%s", ibv_get_device_name(id->verbs->device));
		d.port = id->port_num;
		if (ibv_query_port(id->verbs, id->port_num, &port) == 0) {
			d.mtu = mtu_bytes(port.active_mtu);
			if (port.state != IBV_PORT_ACTIVE)
				r = mc_error_set(err, -ENETDOWN, MC_ECLASS_UNREACHABLE,
					"port %u of RDMA device %s is %s: is its network interface "
					"up?",
					d.port, d.name, ibv_port_state_str(port.state));
		}
	}
	if (id)
		rdma_destroy_id(id);
	rdma_destroy_event_channel(events);
	if (r == 0)
		*ret = d;
	return r;
}

/* The kernel does not count against the limit what this capability pins. */
static bool may_pin_anything(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {0};
	return syscall(SYS_capget, &h, d) == 0 && (d[0].effective & 1u << CAP_IPC_LOCK);
}

static uint64_t pinned_already(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/status", "re");
	char line[160];
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "VmPin:", 6))
			return strtoull(line + 6, NULL, 10) << 10;
	return 0;
}

int rd_memlock_check(uint64_t bytes, struct mc_error *err)
{
	struct rlimit l;
	uint64_t have = pinned_already();
	if (may_pin_anything() || getrlimit(RLIMIT_MEMLOCK, &l) < 0 ||
		l.rlim_cur == RLIM_INFINITY || have + bytes <= l.rlim_cur)
		return 0;
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
		"RDMA needs %llu KiB of locked memory, and this process may lock %llu KiB (%llu "
		"KiB are in use): set LimitMEMLOCK=%lluM or more in the unit of mcd (ulimit -l), "
		"or give it CAP_IPC_LOCK",
		(unsigned long long)(bytes + 1023) >> 10, (unsigned long long)l.rlim_cur >> 10,
		(unsigned long long)have >> 10,
		(unsigned long long)((have + bytes + (1u << 20) - 1) >> 20));
}
