/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Choosing the backend, and the rules that all of them share: which call is allowed in which state
 * and for which epoch.  A call that is refused changes nothing; in particular it never lets
 * anything out.
 */
#include "netbuf/netbuf-internal.h"

#include "netbuf/netns.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

static const char *const state_names[] = {"closed", "open", "holding"};

static const struct netbuf_ops *backends[3] = {&netbuf_plug_ops, &netbuf_relay_ops};

void netbuf_add_backend(const struct netbuf_ops *ops)
{
	assert(!backends[2]);
	backends[2] = ops;
}

static int find_backend(const char *name, const struct netbuf_ops **ret, struct mc_error *err)
{
	if (!name || !strcmp(name, "auto"))
		name = netbuf_plug_ops.probe(NULL) == 0 ? "plug" : "relay";
	for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
		if (backends[i] && !strcmp(backends[i]->name, name)) {
			*ret = backends[i];
			return 0;
		}
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
		"there is no network backend '%s': use netbuf = auto, plug or relay", name);
}

int netbuf_probe(const char *backend, const char **ret_name, struct mc_error *err)
{
	const struct netbuf_ops *ops;
	int r = find_backend(backend, &ops, err);
	if (r < 0)
		return r;
	bool tried = backend && !strcmp(backend, "auto") && ops == &netbuf_plug_ops;
	if (!tried && (r = ops->probe(err)) < 0)
		return r;
	if (ret_name)
		*ret_name = ops->name;
	return 0;
}

static int check_config(const struct netbuf_config *cfg, struct mc_error *err)
{
	if (cfg->n_nics > NETBUF_NICS_MAX)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"VM %s has %zu network interfaces, at most %d can be protected", cfg->vm,
			cfg->n_nics, NETBUF_NICS_MAX);
	if (!cfg->limit)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"VM %s: hold-limit must be more than 0", cfg->vm);
	for (size_t i = 0; i < cfg->n_nics; i++)
		for (size_t k = 0; k < i; k++)
			if (!strcmp(cfg->nics[i].id, cfg->nics[k].id))
				return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
					"VM %s has two network interfaces called %s", cfg->vm,
					cfg->nics[i].id);
	return 0;
}

/* A guest keeps the backend that it was started with, whatever is configured now: the relay's taps
 * are locked up in a namespace each, the plug's are in the host's. */
static int find_former(const struct netbuf_config *cfg, const int *guest_fds,
	const struct netbuf_ops **ret, struct mc_error *err)
{
	bool added = backends[2] && cfg->backend && !strcmp(cfg->backend, backends[2]->name);
	if (!cfg->n_nics || added)
		return find_backend(cfg->backend, ret, err);
	int r = netns_has_tap(guest_fds[0], err);
	if (r < 0)
		return r;
	*ret = r ? &netbuf_plug_ops : &netbuf_relay_ops;
	return 0;
}

static int open_or_adopt(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err)
{
	const struct netbuf_ops *ops;
	struct netbuf *nb;
	int r = guest_fds ? find_former(cfg, guest_fds, &ops, err)
			  : find_backend(cfg->backend, &ops, err);
	if (r < 0 || (r = check_config(cfg, err)) < 0 ||
		(r = ops->open(cfg, guest_fds, &nb, err)) < 0)
		return r;
	assert(nb);
	nb->ops = ops;
	nb->n_nics = cfg->n_nics;
	nb->state = NETBUF_CLOSED;
	*ret = nb;
	return 0;
}

int netbuf_open(const struct netbuf_config *cfg, struct netbuf **ret, struct mc_error *err)
{
	return open_or_adopt(cfg, NULL, ret, err);
}

int netbuf_adopt(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err)
{
	return open_or_adopt(cfg, guest_fds, ret, err);
}

int netbuf_guest_fd(const struct netbuf *nb, size_t i)
{
	/* The backend only reads it: const is for the caller. */
	return i < nb->n_nics ? nb->ops->guest_fd((struct netbuf *)nb, i) : -1;
}

static int need_holding(
	const struct netbuf *nb, const char *what, uint64_t epoch, struct mc_error *err)
{
	if (nb->state == NETBUF_HOLDING)
		return 0;
	return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
		"cannot %s epoch %llu: network output is %s, not held", what,
		(unsigned long long)epoch, state_names[nb->state]);
}

int netbuf_hold(struct netbuf *nb, uint64_t first, struct mc_error *err)
{
	if (nb->state == NETBUF_HOLDING)
		return 0;
	int r = nb->ops->hold(nb, first, err);
	if (r < 0)
		return r;
	assert(nb->state != NETBUF_HOLDING);
	nb->state = NETBUF_HOLDING;
	nb->first = nb->running = first;
	return 0;
}

int netbuf_barrier(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	int r = need_holding(nb, "end", epoch, err);
	if (r < 0)
		return r;
	if (epoch != nb->running)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"cannot end epoch %llu: epoch %llu is running", (unsigned long long)epoch,
			(unsigned long long)nb->running);
	r = nb->ops->barrier(nb, epoch, err);
	if (r < 0)
		return r;
	assert(epoch >= nb->first && epoch < UINT64_MAX);
	nb->running = epoch + 1;
	return 0;
}

int netbuf_release(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	int r = need_holding(nb, "release", epoch, err);
	if (r < 0)
		return r;
	if (epoch >= nb->running)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"cannot release epoch %llu: epoch %llu is still running",
			(unsigned long long)epoch, (unsigned long long)nb->running);
	if (epoch < nb->first)
		return 0; /* before this hold: nothing of it is here */
	assert(nb->first < nb->running);
	return nb->ops->release(nb, epoch, err);
}

int netbuf_pass(struct netbuf *nb, struct mc_error *err)
{
	/* Also from OPEN: a hold that failed may have closed what it could not hold. */
	int r = nb->ops->pass(nb, err);
	if (r < 0)
		return r;
	nb->state = NETBUF_OPEN;
	return 0;
}

int netbuf_shut(struct netbuf *nb, struct mc_error *err)
{
	int r = nb->ops->shut(nb, err);
	if (r < 0)
		return r;
	nb->state = NETBUF_CLOSED;
	return 0;
}

int netbuf_announce(struct netbuf *nb, struct mc_error *err)
{
	if (nb->state == NETBUF_CLOSED)
		return mc_error_set(err, -EINVAL, MC_ECLASS_STATE,
			"cannot announce the VM's addresses: its network is closed");
	return nb->ops->announce(nb, err);
}

void netbuf_get_stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	nb->ops->get_stats(nb, ret);
}

void netbuf_leave(struct netbuf *nb)
{
	if (nb && nb->ops->leave)
		nb->ops->leave(nb);
	else
		netbuf_close(nb);
}

void netbuf_close(struct netbuf *nb)
{
	if (nb)
		nb->ops->close(nb);
}
