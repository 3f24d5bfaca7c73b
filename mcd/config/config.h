/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mcd.conf and vms.d/NAME.conf: INI, units required, every error with file:line and the nearest
 * known key.  The sections and keys are documented in configs/mcd.conf and configs/vms.d/.
 */
#pragma once
#include "common/error.h"
#include "common/link.h"
#include "common/rdma/rdma.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_HOSTS_MAX 16
#define CONFIG_VMS_MAX   64
#define CONFIG_NICS_MAX  16
#define CONFIG_DISKS_MAX 16
#define CONFIG_KEYS_MAX  24

#define CONFIG_DELAY_MIN      (1 * 1000000ull)
#define CONFIG_DELAY_MAX      (10 * 1000000000ull)
#define CONFIG_MAX_BUFFER_MIN (16ull << 20)
#define CONFIG_HOLD_LIMIT_MIN (1ull << 20)
#define CONFIG_BYTES_MAX      (1ull << 50)

/* Keys with a choice of words.  The words by their number, with
 * NULL at the end, are what those are called that others ask for. */
enum config_netbuf { CONFIG_NETBUF_AUTO, CONFIG_NETBUF_PLUG, CONFIG_NETBUF_RELAY };
enum config_dirty { CONFIG_DIRTY_AUTO, CONFIG_DIRTY_PAGEMAP_SCAN, CONFIG_DIRTY_SOFT_DIRTY };
enum config_cluster { CONFIG_CLUSTER_STATIC, CONFIG_CLUSTER_COROSYNC, CONFIG_CLUSTER_AUTO };
enum config_panic { CONFIG_PANIC_REBOOT, CONFIG_PANIC_STOP, CONFIG_PANIC_HOLD };
enum config_durability {
	CONFIG_DURABILITY_FLUSH,
	CONFIG_DURABILITY_COMMIT,
	CONFIG_DURABILITY_NONE
};
enum config_guest_time { CONFIG_TIME_AGENT, CONFIG_TIME_NONE };
extern const char *const config_netbuf_names[], *const config_cluster_names[],
							*const config_panic_names[];

/* `lines` members: the line of the file that gave each key, 0 for a default, in the order of the
 * key table; only config_dump and config_vm_dump read them. */

struct config_host { /* [host NAME] */
	char name[LINK_NAME_MAX + 1];
	char address[64];           /* numeric IPv4 or IPv6 */
	uint16_t port;              /* default [mcd] port */
	char keepalive_address[64]; /* of a second network, for keep-alives; default: address */
	unsigned line;              /* of the section; 0: not from this file */
	bool from_corosync;         /* the address is that of its node list */
	unsigned lines[3];
};

struct config {
	char path[256];
	/* [mcd] name: which of the hosts we are; default: hostname */
	char name[LINK_NAME_MAX + 1];
	/* default /run/mcd: control socket, QMP sockets (sun_path!) */
	char run_dir[200];
	char state_dir[256];         /* default /var/lib/mcd: votes */
	char vms_dir[256];           /* default DIR(mcd.conf)/vms.d */
	char key_file[256];          /* default DIR(mcd.conf)/cluster.key */
	enum config_netbuf netbuf;   /* default auto */
	enum config_dirty dirty;     /* default auto */
	enum rd_mode transport;      /* default auto */
	uint64_t keepalive_interval; /* default 50 ms; 5 ms .. 10 s */
	unsigned keepalive_misses;   /* default 5; 2 .. 100 */
	uint16_t port;               /* of hosts that say nothing else; default 7801 */
	enum config_cluster cluster; /* default auto */
	bool failover_automatic;     /* failover = automatic | manual; default automatic */
	bool reprotect_auto;         /* reprotect = auto | manual; default auto */
	size_t n_hosts;              /* the voters, this host included */
	struct config_host hosts[CONFIG_HOSTS_MAX];
	/* defaults for VMs ([defaults]) */
	uint64_t delay;      /* default 100 ms; 1 ms .. 10 s */
	uint64_t max_buffer; /* checkpoint memory of one VM; default 256 MiB; >= 16 MiB */
	uint64_t hold_limit; /* held network output of one VM; default 64 MiB; >= 1 MiB */
	unsigned lines[CONFIG_KEYS_MAX];
};

enum config_mac_origin { CONFIG_MAC_KEY, CONFIG_MAC_COMMAND, CONFIG_MAC_DERIVED };

struct config_nic { /* [nic ID]: ID is QEMU's netdev id */
	char id[64];
	char bridge[16];
	uint8_t mac[6]; /* from mac =, else from the -device, else derived from VM name and id */
	enum config_mac_origin mac_origin;
	bool vhost; /* the kernel moves its frames */
	unsigned lines[3];
};

struct config_disk { /* [disk ID]: ID is QEMU's block node */
	char id[64];
	char image[256]; /* where the VM's disk is before mcd first makes a replica here */
	char format[16]; /* of the image, a QEMU driver such as raw or qcow2; default raw */
	/* raw, written by mcd on a standby; default: a raw image itself, else IMAGE.replica */
	char replica[256];
	unsigned lines[3];
};

struct config_vm {                    /* vms.d/NAME.conf */
	char name[LINK_NAME_MAX + 1]; /* the file's name without .conf */
	char path[256];
	/* [vm] command: the user's QEMU command line, shell-like words */
	char *command;
	uint64_t delay, max_buffer, hold_limit;
	enum config_panic on_panic;        /* default reboot */
	enum config_durability durability; /* disk-durability; default flush */
	char user[64]; /* that QEMU runs as, a name or uid:gid; "" = mcd's own */
	/* who sets the guest's clock after a takeover; default agent */
	enum config_guest_time guest_time;
	/* pin-all: all checkpoint memory is registered with RDMA at once */
	bool pin_all;
	size_t n_nics;
	struct config_nic nics[CONFIG_NICS_MAX];
	size_t n_disks;
	struct config_disk disks[CONFIG_DISKS_MAX];
	unsigned lines[9];
	char defaults_path[256]; /* mcd.conf, and the lines of its [defaults] */
	unsigned defaults_lines[3];
};

/* Reads mcd.conf.  Only with cluster = static the hosts are final: otherwise corosync may have more
 * to say, they need no address, and the name may still be empty. */
int config_load(const char *path, struct config *ret, struct mc_error *err);
/* That the hosts are a whole list of voters, of which we (c->name, or the hostname) are one.  Warns
 * in the log where their number leaves no majority after a loss. */
int config_check_hosts(struct config *c, struct mc_error *err);
/* Reads one VM's file from cfg->vms_dir; unknown VM: class UnknownVm with the nearest name. */
int config_load_vm(
	const struct config *cfg, const char *name, struct config_vm **ret, struct mc_error *err);
/* Names of all VMs with a file, sorted; a malloc'd array of malloc'd strings. */
int config_list_vms(
	const struct config *cfg, char ***ret_names, size_t *ret_n, struct mc_error *err);
void config_vm_free(struct config_vm *vm);
void config_vm_freep(struct config_vm **vm);
/* Where its keep-alives come from and go to. */
const char *config_keepalive_address(const struct config_host *h);
const struct config_host *config_find_host(const struct config *cfg, const char *name);

/* The effective configuration with the origin (file:line or "default") of every value, for mcctl
 * dump. */
json_t *config_dump(const struct config *cfg);
json_t *config_vm_dump(const struct config_vm *vm);

/* A delay as given by configuration or `mcctl --delay`: 1 ms .. 10 s, unit required. */
int config_parse_delay(const char *text, uint64_t *ret, struct mc_error *err);
