/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `mcctl check`, for one VM: what its QEMU's user may do, KVM, and the guest's clock. */
#include "mcd/verbs/check.h"

#include "mcd/vm/disks.h"
#include "mcd/guest/dirty/trace.h"
#include "mcd/guest/user.h"
#include "mcd/vm/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/timex.h>

struct subject {
	struct vm *vm;
	const struct config_vm *cfg;
	const struct cmdline_plan *plan;
	struct guest_user user;
	json_t *checks;
};

static void say(
	const struct subject *s, const char *what, bool ok, const char *detail, const char *hint)
{
	char name[100];
	snprintf(name, sizeof name, "VM %s, %s", s->vm->name, what);
	check_add(s->checks, name, ok, detail, hint);
}

/* --- the user --------------------------------------------------------------------------------- */

/* The first disk that QEMU could not open as its user; NULL: all are well, or not there yet. */
static const char *closed_disk(const struct subject *s, int *ret)
{
	for (size_t i = 0; i < s->cfg->n_disks; i++) {
		const struct config_disk *d = &s->cfg->disks[i];
		const char *paths[] = {d->image, d->replica};
		for (size_t k = 0; k < 2; k++) {
			int r = guest_user_try(&s->user, GUEST_MAY_WRITE, paths[k]);
			/* A file of root's is made over when QEMU starts.  One that hangs is asked
			 * nothing more. */
			if (r == -ENOENT || r == 0 ||
				(r != -ETIMEDOUT && guest_user_would_give(&s->user, paths[k])))
				continue;
			*ret = r;
			return paths[k];
		}
	}
	return NULL;
}

static void check_user(struct subject *s)
{
	struct mc_error err = MC_ERROR_INIT;
	char text[400], hint[300];
	const struct guest_user *u = &s->user;
	enum dirty_backend backend;
	if (guest_user_of(s->cfg, s->plan, &s->user, &err) < 0) {
		say(s, "user", false, err.msg, "");
		return;
	}
	if (!u->other)
		return;
	int r = 0;
	if (dirty_probe(DIRTY_AUTO, &backend, NULL) == 0 && backend == DIRTY_PAGEMAP_SCAN)
		r = guest_user_try(u, GUEST_MAY_USERFAULTFD, NULL);
	if (r < 0) {
		snprintf(text, sizeof text, "userfaultfd(2) answers %s (%d) to %s (%u:%u)",
			strerror(-r), -r, u->name, u->uid, u->gid);
		say(s, "user", false, text,
			r == -EPERM || r == -EACCES
				? "a seccomp filter or a security module forbids it, also to mcd: "
				  "allow it there, or set dirty-tracking = soft-dirty in mcd.conf"
				: "set dirty-tracking = soft-dirty in mcd.conf");
		return;
	}
	const char *disk = u->at_start ? closed_disk(s, &r) : NULL;
	if (disk) {
		snprintf(text, sizeof text, "%s (%u:%u) cannot open %s for writing: %s", u->name,
			u->uid, u->gid, disk, strerror(-r));
		snprintf(hint, sizeof hint,
			"chown %u:%u %.200s; the directories above it need the x bit", u->uid,
			u->gid, disk);
		say(s, "user", false, text, hint);
		return;
	}
	snprintf(text, sizeof text, "QEMU runs as %s (%u:%u)%s", u->name, u->uid, u->gid,
		u->at_start ? "" : ", once it has opened its files as root");
	say(s, "user", true, text, "");
}

/* --- KVM -------------------------------------------------------------------------------------- */

static void cpu_model(char *buf, size_t cap)
{
	char line[256];
	snprintf(buf, cap, "unknown");
	FILE *f = fopen("/proc/cpuinfo", "re");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
			snprintf(buf, cap, "%.100s", strchr(line, ':') + 2);
			buf[strcspn(buf, "\n")] = 0;
			break;
		}
	if (f)
		fclose(f);
}

static void check_kvm(struct subject *s)
{
	char text[300], model[128];
	const struct guest_user *u = &s->user;
	struct guest_user at_start = s->user;
	if (!s->plan->kvm)
		return;
	at_start.other = u->other && u->at_start; /* -runas: it is opened as root */
	int r = guest_user_try(&at_start, GUEST_MAY_WRITE, "/dev/kvm");
	if (r < 0) {
		snprintf(text, sizeof text, "/dev/kvm cannot be opened%s%s: %s",
			at_start.other ? " by " : "", at_start.other ? u->name : "", strerror(-r));
		say(s, "KVM", false, text,
			r == -EACCES || r == -EPERM
				? "add the user to the group of /dev/kvm (usermod -aG kvm USER; "
				  "with uid:gid, make gid that group), or set its mode by a udev "
				  "rule"
				: "load kvm_intel or kvm_amd, and switch virtualization on in the "
				  "firmware; if this host is a VM itself, its own host has to "
				  "allow nesting");
		return;
	}
	if (!*s->plan->host_cpu) {
		say(s, "KVM", true, "/dev/kvm can be used", "");
		return;
	}
	cpu_model(model, sizeof model);
	snprintf(text, sizeof text,
		"/dev/kvm can be used; -cpu %s gives the guest this host's CPU (%s)",
		s->plan->host_cpu, model);
	say(s, "KVM", true, text,
		"both hosts must have the same CPU, microcode and kernel, or the guest may crash "
		"after a takeover: better name a model that both have (qemu-system-x86_64 -cpu "
		"help)");
}

/* --- the guest's clock ------------------------------------------------------------------------ */

static void check_time(struct subject *s)
{
	char text[300];
	bool none = s->cfg->guest_time == CONFIG_TIME_NONE;
	struct timex tx = {0};
	if (none || !s->plan->agent_port) {
		say(s, "guest's clock", true,
			none ? "nobody sets it after a takeover (guest-time = none)"
			     : "nobody sets it after a takeover: there is no guest agent's port in "
			       "the command",
			none ? ""
			     : "it is late by the outage: run chrony in the guest, or the guest "
			       "agent (mcd.conf(5), guest-time)");
		return;
	}
	if (!s->plan->agent[0]) {
		say(s, "guest's clock", false,
			"the guest agent's port is on no unix socket of QEMU's own",
			"write -chardev socket,id=...,path=/ABSOLUTE,server=on,wait=off for it, or "
			"set guest-time = none");
		return;
	}
	snprintf(text, sizeof text, "the guest's agent sets it after a takeover, by %s",
		s->plan->agent);
	if (adjtimex(&tx) < 0 || tx.status & STA_UNSYNC)
		say(s, "guest's clock", false, "this host's own clock is not synchronized",
			"after a takeover the guest is given this host's time: run chrony or "
			"systemd-timesyncd here");
	else
		say(s, "guest's clock", true, text, "");
}

void check_vm_host(
	struct vm *vm, const struct config_vm *cfg, const struct cmdline_plan *plan, json_t *checks)
{
	struct subject s = {.vm = vm, .cfg = cfg, .plan = plan, .checks = checks};
	check_user(&s);
	check_kvm(&s);
	check_time(&s);
}
