/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of the control socket. They run on the control loop and never block: what takes time
 * goes to the VM's thread as a vm_call, which answers. */
#include "mcd/verbs/verbs.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/parse.h"
#include "mcd/hosts/hosts.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/published.h"
#include "mcd/vm/status.h"
#include "mcd/vm/vm.h"

#include <errno.h>
#include <string.h>

static const char *text(const json_t *args, const char *name)
{
	return json_string_value(json_object_get(args, name));
}

static bool flag(const json_t *args, const char *name, bool missing)
{
	const json_t *v = json_object_get(args, name);
	return v ? json_is_true(v) : missing;
}

/* The VM that "vm" names; answers the request itself on failure. */
static struct vm *find(struct daemon *d, struct control_request *req, const json_t *args)
{
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm;
	if (table_find(d->vms, text(args, "vm"), &vm, &err) == 0)
		return vm;
	control_fail(req, &err);
	return NULL;
}

static void pass_on(struct vm *vm, struct vm_call *c)
{
	struct vm_call *copy = malloc(sizeof *copy);
	if (!copy) {
		struct mc_error err = MC_ERROR_INIT;
		mc_error_set(&err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
		control_fail(c->req, &err);
		return;
	}
	*copy = *c;
	vm_call(vm, copy);
}

static void simple(void *ctx, struct control_request *req, const json_t *args, enum vm_verb verb)
{
	struct vm *vm = find(ctx, req, args);
	if (vm)
		pass_on(vm, &(struct vm_call){
				    .verb = verb, .req = req, .force = flag(args, "force", false)});
}

static void verb_start(void *ctx, struct control_request *req, const json_t *args)
{
	simple(ctx, req, args, VM_START);
}
static void verb_stop(void *ctx, struct control_request *req, const json_t *args)
{
	simple(ctx, req, args, VM_STOP);
}
static void verb_unprotect(void *ctx, struct control_request *req, const json_t *args)
{
	simple(ctx, req, args, VM_UNPROTECT);
}
static void verb_takeover(void *ctx, struct control_request *req, const json_t *args)
{
	const char *confirm = text(args, "confirm"), *vm = text(args, "vm");
	if (!flag(args, "force", false) || (confirm && !strcmp(confirm, vm))) {
		simple(ctx, req, args, VM_TAKEOVER);
		return;
	}
	struct mc_error err = MC_ERROR_INIT;
	mc_error_set(&err, -EINVAL, MC_ECLASS_INVALID,
		"force needs \"confirm\" with the name of the VM, \"%s\": it can make two copies "
		"of it run",
		vm);
	control_fail(req, &err);
}
static void verb_failover(void *ctx, struct control_request *req, const json_t *args)
{
	simple(ctx, req, args, VM_FAILOVER);
}

static void verb_verify(void *ctx, struct control_request *req, const json_t *args)
{
	simple(ctx, req, args, VM_VERIFY);
}

/* "delay" and "max-buffer", where given. */
static int knobs(const json_t *args, struct vm_call *c, struct mc_error *err)
{
	const char *delay = text(args, "delay"), *buffer = text(args, "max-buffer");
	if (delay && config_parse_delay(delay, &c->delay, err) < 0)
		return -EINVAL;
	if (buffer && mc_parse_size(buffer, &c->max_buffer, err) < 0)
		return -EINVAL;
	if (buffer && c->max_buffer < (16u << 20))
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"max-buffer = %s is too small: 16MiB at least", buffer);
	return 0;
}

static int check_peer(const struct daemon *d, const char *peer, struct mc_error *err)
{
	if (!strcmp(peer, d->cfg.name))
		return mc_error_set(err, -EINVAL, MC_ECLASS_UNKNOWN_PEER,
			"--peer %s is this host itself: name another one", peer);
	if (!config_find_host(&d->cfg, peer)) {
		char known[400] = "";
		for (size_t i = 0; i < d->cfg.n_hosts; i++)
			if (strcmp(d->cfg.hosts[i].name, d->cfg.name))
				snprintf(known + strlen(known), sizeof known - strlen(known),
					"%s%s", *known ? ", " : "", d->cfg.hosts[i].name);
		return mc_error_set(err, -ENOENT, MC_ECLASS_UNKNOWN_PEER,
			"no host %s in %s: known are %s", peer, d->cfg.path, known);
	}
	return 0;
}

static void verb_protect(void *ctx, struct control_request *req, const json_t *args)
{
	struct daemon *d = ctx;
	struct vm *vm = find(d, req, args);
	struct vm_call c = {.verb = VM_PROTECT, .req = req, .wait = flag(args, "wait", true)};
	struct mc_error err = MC_ERROR_INIT;
	if (!vm)
		return;
	snprintf(c.peer, sizeof c.peer, "%s", text(args, "peer"));
	if (check_peer(d, text(args, "peer"), &err) < 0 || knobs(args, &c, &err) < 0)
		control_fail(req, &err);
	else
		pass_on(vm, &c);
}

static void verb_set(void *ctx, struct control_request *req, const json_t *args)
{
	struct daemon *d = ctx;
	struct vm *vm = find(d, req, args);
	struct vm_call c = {.verb = VM_SET, .req = req};
	struct mc_error err = MC_ERROR_INIT;
	if (!vm)
		return;
	enum vm_state s = vm_get_state(vm);
	if (s == VM_STOPPED || s == VM_FAILED)
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE,
			"%s does not run here; %s/%s.conf holds what it starts with", vm->name,
			d->cfg.vms_dir, vm->name);
	else if (knobs(args, &c, &err) == 0 && !c.delay && !c.max_buffer)
		mc_error_set(&err, -EINVAL, MC_ECLASS_INVALID,
			"nothing to set: give delay=... or max-buffer=...");
	if (err.code)
		control_fail(req, &err);
	else
		pass_on(vm, &c);
}

/* --- status ----------------------------------------------------------------------------------- */

static json_t *hosts_json(struct daemon *d)
{
	json_t *hosts = json_array();
	for (size_t i = 0; i < d->cfg.n_hosts; i++) {
		const struct config_host *h = &d->cfg.hosts[i];
		bool self = h == d->self;
		json_t *j = json_pack(
			"{s:s, s:s, s:b}", "name", h->name, "address", h->address, "self", self);
		struct keepalive_stats ka;
		if (!self && keepalive_get_stats(d->keepalive, h->name, &ka) == 0)
			json_object_set_new(j, "keepalive",
				json_pack("{s:b, s:s, s:b, s:s, s:f, s:f, s:f, s:f, s:i}", "up",
					ka.up, "path", ka.path == KA_RDMA ? "rdma" : "tcp",
					"sends_rdma", ka.sends_rdma, "rdma_why", ka.rdma_why,
					"age_ms",
					ka.last_heard ? (double)(mc_now() - ka.last_heard) / 1e6
						      : -1.0,
					"jitter_p99_ms", (double)ka.jitter_p99 / 1e6,
					"jitter_max_ms", (double)ka.jitter_max / 1e6, "interval_ms",
					(double)d->cfg.keepalive_interval / 1e6, "misses",
					(int)d->cfg.keepalive_misses));
		json_array_append_new(hosts, j);
	}
	return hosts;
}

static void add_status(void *vms, struct vm *vm)
{
	json_array_append_new(vms, vm_status_json(vm));
}

static void verb_status(void *ctx, struct control_request *req, const json_t *args)
{
	struct daemon *d = ctx;
	struct vm *one = NULL;
	const char *name = text(args, "vm");
	/* A VM that has no file here may run on other hosts, and they have told us of it. */
	bool elsewhere = name && !table_known(d->vms, name) && membership_knows(d, name);
	if (name && !elsewhere && !(one = find(d, req, args)))
		return;
	size_t connected, total;
	voter_reachable(d->voter, &connected, &total);
	json_t *vms = json_array();
	if (one)
		json_array_append_new(vms, vm_status_json(one));
	else if (!name)
		table_each(d->vms, add_status, vms);
	json_t *status = json_pack("{s:s, s:s, s:o, s:{s:i, s:i}, s:s, s:s, s:O}", "host",
		d->cfg.name, "version", MCD_VERSION, "hosts", hosts_json(d), "voters", "connected",
		(int)connected, "total", (int)total, "netbuf", d->netbuf_name, "dirty",
		d->dirty_name, "vms", vms);
	membership_status(d, status, vms, name);
	json_decref(vms);
	control_answer(req, status);
}

/* --- check, dump, wait --------------------------------------------------------------------------
 */

static void verb_check(void *ctx, struct control_request *req, const json_t *args)
{
	struct vm *vm = NULL;
	if (text(args, "vm") && !(vm = find(ctx, req, args)))
		return;
	control_answer(req, daemon_check(ctx, vm));
}

static void verb_dump(void *ctx, struct control_request *req, const json_t *args)
{
	struct daemon *d = ctx;
	struct mc_error err = MC_ERROR_INIT;
	if (text(args, "vm")) {
		struct config_vm *vm;
		if (config_load_vm(&d->cfg, text(args, "vm"), &vm, &err) < 0) {
			control_fail(req, &err);
			return;
		}
		control_answer(req, config_vm_dump(vm));
		config_vm_free(vm);
		return;
	}
	control_answer(req, config_dump(&d->cfg));
}

/* A wait is a timer on the loop that looks at the state ten times a second: nothing to forget when
 * a client goes away, and no thread of its own. */
struct wait {
	struct daemon *d;
	struct vm *vm;
	struct control_request *req;
	enum vm_state want;
	uint64_t deadline;
};

static int wait_tick(sd_event_source *src, uint64_t usec, void *userdata)
{
	struct wait *w = userdata;
	enum vm_state s = vm_get_state(w->vm);
	struct mc_error err = MC_ERROR_INIT;
	if (s == w->want) {
		control_answer(w->req, json_pack("{s:s}", "state", vm_state_name(s)));
	} else if (mc_now() >= w->deadline) {
		mc_error_set(&err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
			"%s did not become %s in time: it is %s", w->vm->name,
			vm_state_name(w->want), vm_state_name(s));
		control_fail(w->req, &err);
	} else {
		sd_event_source_set_time_relative(src, 20000);
		sd_event_source_set_enabled(src, SD_EVENT_ONESHOT);
		return 0;
	}
	free(w);
	sd_event_source_disable_unref(src);
	return 0;
}

static void verb_wait(void *ctx, struct control_request *req, const json_t *args)
{
	struct daemon *d = ctx;
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm = find(d, req, args);
	uint64_t timeout = 60 * MC_SEC;
	if (!vm)
		return;
	int want = vm_state_parse(text(args, "state"));
	if (want < 0)
		mc_error_set(&err, -EINVAL, MC_ECLASS_INVALID,
			"there is no state \"%s\": stopped, starting, unprotected, syncing, "
			"protected, holding, standby-syncing, standby, taking-over, failed",
			text(args, "state"));
	else if (text(args, "timeout"))
		mc_parse_duration(text(args, "timeout"), &timeout, &err);
	struct wait *w = err.code ? NULL : malloc(sizeof *w);
	sd_event_source *src = NULL;
	if (w) {
		uint64_t now = mc_now();
		*w = (struct wait){d, vm, req, (enum vm_state)want,
			now + timeout < now ? UINT64_MAX : now + timeout};
		if (sd_event_add_time_relative(
			    d->loop, &src, CLOCK_MONOTONIC, 0, 1000, wait_tick, w) >= 0)
			return;
		free(w);
		mc_error_set(&err, -ENOMEM, MC_ECLASS_MEMORY, "cannot set a timer");
	}
	if (!err.code)
		mc_error_set(&err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	control_fail(req, &err);
}

#define ARG_VM                                                                                     \
	{                                                                                          \
		"vm", CONTROL_STRING, true                                                         \
	}

const struct control_verb daemon_verbs[] = {
	{"status", {{"vm", CONTROL_STRING, false}}, verb_status},
	{"start", {ARG_VM, {"force", CONTROL_BOOL, false}}, verb_start},
	{"stop", {ARG_VM, {"force", CONTROL_BOOL, false}}, verb_stop},
	{"protect",
		{ARG_VM, {"peer", CONTROL_STRING, true}, {"delay", CONTROL_STRING, false},
			{"max-buffer", CONTROL_STRING, false}, {"wait", CONTROL_BOOL, false}},
		verb_protect},
	{"unprotect", {ARG_VM}, verb_unprotect},
	{"set", {ARG_VM, {"delay", CONTROL_STRING, false}, {"max-buffer", CONTROL_STRING, false}},
		verb_set},
	{"takeover", {ARG_VM, {"force", CONTROL_BOOL, false}, {"confirm", CONTROL_STRING, false}},
		verb_takeover},
	{"failover", {ARG_VM}, verb_failover},
	{"verify", {ARG_VM}, verb_verify},
	{"wait", {ARG_VM, {"state", CONTROL_STRING, true}, {"timeout", CONTROL_STRING, false}},
		verb_wait},
	{"check", {{"vm", CONTROL_STRING, false}}, verb_check},
	{"dump", {{"vm", CONTROL_STRING, false}}, verb_dump},
	{NULL},
};
