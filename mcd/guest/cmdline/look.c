/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What mcd leaves in the command as it is, but has to know: the accelerator, the CPU, the user, and
 * where the guest's agent is reached. */
#include "mcd/guest/cmdline/private.h"
#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "kvm", "kvm:tcg", "kvm,kernel-irqchip=split": which of the list it will be is not known here. */
void cmdline_look_accel(struct planner *p, const char *list)
{
	for (const char *w = list; *w;) {
		size_t n = strcspn(w, ":,");
		if (n == 3 && !strncmp(w, "kvm", 3))
			p->plan->kvm = true;
		if (w[n] != ':')
			return;
		w += n + 1;
	}
}

void cmdline_look_cpu(struct planner *p, const char *arg)
{
	size_t n = strcspn(arg, ",");
	bool host = n == 4 && !strncmp(arg, "host", 4), max = n == 3 && !strncmp(arg, "max", 3);
	snprintf(p->plan->host_cpu, sizeof p->plan->host_cpu, "%s",
		host  ? "host"
		: max ? "max"
		      : "");
}

int cmdline_take_runas(struct planner *p, const char *name, const char *arg, struct mc_error *err)
{
	_cleanup_(qemu_opts_clear) struct qemu_opts o = {.n = 0};
	const char *user = arg;
	if (!strcmp(name, "run-with")) {
		int r = qemu_opts_parse(arg, NULL, &o, err);
		if (r < 0)
			return r;
		if (qemu_opts_get(&o, "chroot"))
			return cmdline_refuse(err, name, arg,
				"QEMU reaches its memory and sockets by path; take chroot out");
		user = qemu_opts_get(&o, "user");
		if (!user)
			return 0;
	}
	if (!*user || strlen(user) >= sizeof p->plan->runas)
		return cmdline_refuse(err, name, arg, "that is no user");
	snprintf(p->plan->runas, sizeof p->plan->runas, "%s", user);
	return 0;
}

void cmdline_look_port(struct planner *p, const struct qemu_opts *o)
{
	const char *driver = qemu_opts_get(o, "driver"), *name = qemu_opts_get(o, "name"),
		   *chardev = qemu_opts_get(o, "chardev");
	if (!driver || strcmp(driver, "virtserialport") || !name || !chardev ||
		strcmp(name, "org.qemu.guest_agent.0"))
		return;
	p->plan->agent_port = true;
	snprintf(p->agent_chardev, sizeof p->agent_chardev, "%s", chardev);
}

/* Of the form that libvirt and the manuals have: QEMU listens, and whoever wants connects. */
static bool is_agent(const struct planner *p, const struct qemu_opts *o)
{
	const char *backend = qemu_opts_get(o, "backend"), *id = qemu_opts_get(o, "id");
	return backend && id && !strcmp(backend, "socket") && !strcmp(id, p->agent_chardev) &&
	       qemu_opts_on(o, "server") && !qemu_opts_on(o, "abstract");
}

void cmdline_find_agent(struct planner *p)
{
	struct cmdline_plan *plan = p->plan;
	for (size_t i = 0; plan->agent_port && i + 1 < plan->argc; i++) {
		_cleanup_(qemu_opts_clear) struct qemu_opts o = {.n = 0};
		const char *w = plan->argv[i];
		if ((strcmp(w, "-chardev") && strcmp(w, "--chardev")) ||
			qemu_opts_parse(plan->argv[i + 1], "backend", &o, NULL) < 0)
			continue;
		const char *path = is_agent(p, &o) ? qemu_opts_get(&o, "path") : NULL;
		/* Relative to the directory that mcd, and so QEMU, was started in: nobody means
		 * that. */
		if (path && *path == '/' && strlen(path) < sizeof plan->agent)
			snprintf(plan->agent, sizeof plan->agent, "%s", path);
	}
}
