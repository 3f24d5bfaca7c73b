/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of `mcctl check` about holding the VMs' output. */
#include "mcd/verbs/check.h"
#include "mcd/hosts/daemon.h"
#include "mcd/vm/published.h"
#include "netbuf/netbuf.h"

#include <string.h>

void check_network(struct daemon *d, json_t *checks)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *name;
	char text[sizeof err.msg + 40];
	if (netbuf_probe(config_netbuf_names[d->cfg.netbuf], &name, &err) < 0) {
		check_add(checks, "network hold", false, err.msg, "");
		return;
	}
	bool second = d->cfg.netbuf == CONFIG_NETBUF_AUTO && strcmp(name, "plug");
	if (second && netbuf_probe("plug", NULL, &err) < 0)
		snprintf(text, sizeof text, "%s; not plug: %s", name, err.msg);
	else
		snprintf(text, sizeof text, "%s", name);
	check_add(checks, "network hold", true, text, "");
}

static bool runs_here(struct daemon *d, const char *name)
{
	struct vm *vm = table_known(d->vms, name);
	return vm && vm_has_network(vm);
}

void check_leftovers(struct daemon *d, json_t *checks)
{
	struct netbuf_interface found[256];
	struct mc_error err = MC_ERROR_INIT;
	size_t n = 0;
	if (netbuf_find_interfaces(found, sizeof found / sizeof *found, &n, &err) < 0) {
		check_add(checks, "interfaces", false, err.msg, "");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		char name[40], text[300], hint[300];
		if (runs_here(d, found[i].vm))
			continue;
		snprintf(name, sizeof name, "interface %.15s", found[i].ifname);
		snprintf(text, sizeof text,
			"a former mcd left it for the output of VM %.99s, which this mcd does not "
			"run",
			found[i].vm);
		snprintf(hint, sizeof hint,
			"when no QEMU of %.99s runs on this host any more: ip link del %.15s",
			found[i].vm, found[i].ifname);
		check_add(checks, name, false, text, hint);
	}
}
