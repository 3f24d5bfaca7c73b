/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connections to corosync and what comes over them; see cluster-corosync.h. */
#include "failover/cluster-corosync.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY      (250 * MC_MSEC)
#define SEND_AGAIN (100 * MC_MSEC)

static const struct cpg_name group = {.length = 3, .value = "mcd"};

/* --- what corosync says ----------------------------------------------------------------------- */

/* Number in the node list; n if it is not in there. */
static size_t node_of(const struct corosync *s, uint32_t id)
{
	size_t i = 0;
	while (i < s->list.n && s->list.nodes[i].id != id)
		i++;
	return i;
}

static uint32_t bit_of(const struct corosync *s, uint32_t id)
{
	size_t i = node_of(s, id);
	return i < s->list.n ? 1u << i : 0;
}

static void on_quorum(quorum_handle_t handle, uint32_t quorate, struct quorum_ring_id ring,
	uint32_t n, const uint32_t *members)
{
	const void *ctx;
	if (quorum_context_get(handle, &ctx) != CS_OK)
		return;
	const struct corosync *s = ctx;
	log_debug("corosync: quorate %u in ring %x.%llx, %u members", quorate, ring.nodeid,
		(unsigned long long)ring.seq, n);
	pthread_mutex_lock(&s->c->lock);
	cluster_view_quorum(&s->c->view, (struct cluster_ring){ring.nodeid, ring.seq}, quorate);
	pthread_mutex_unlock(&s->c->lock);
}

static void on_nodelist(quorum_handle_t handle, struct quorum_ring_id ring, uint32_t n_members,
	const uint32_t *members, uint32_t n_joined, const uint32_t *joined, uint32_t n_left,
	const uint32_t *left)
{
	const void *ctx;
	if (quorum_context_get(handle, &ctx) != CS_OK)
		return;
	const struct corosync *s = ctx;
	log_debug("corosync: ring %x.%llx, %u joined, %u left", ring.nodeid,
		(unsigned long long)ring.seq, n_joined, n_left);
	pthread_mutex_lock(&s->c->lock);
	cluster_view_nodelist(&s->c->view, (struct cluster_ring){ring.nodeid, ring.seq});
	pthread_mutex_unlock(&s->c->lock);
}

static struct corosync *of_cpg(cpg_handle_t handle)
{
	void *ctx = NULL;
	return cpg_context_get(handle, &ctx) == CS_OK ? ctx : NULL;
}

static void on_totem(
	cpg_handle_t handle, struct cpg_ring_id ring, uint32_t n, const uint32_t *members)
{
	struct corosync *s = of_cpg(handle);
	uint32_t bits = 0;
	if (!s)
		return;
	for (uint32_t i = 0; i < n; i++)
		bits |= bit_of(s, members[i]);
	log_debug("corosync: CPG in ring %x.%llx, %u members", ring.nodeid,
		(unsigned long long)ring.seq, n);
	pthread_mutex_lock(&s->c->lock);
	cluster_view_ring(&s->c->view, (struct cluster_ring){ring.nodeid, ring.seq}, bits);
	pthread_mutex_unlock(&s->c->lock);
}

static void on_group(cpg_handle_t handle, const struct cpg_name *name,
	const struct cpg_address *members, size_t n_members, const struct cpg_address *left,
	size_t n_left, const struct cpg_address *joined, size_t n_joined)
{
	struct corosync *s = of_cpg(handle);
	uint32_t gone = 0;
	if (!s)
		return;
	for (size_t i = 0; i < n_left; i++) {
		size_t node = node_of(s, left[i].nodeid);
		if (node == s->list.n || node == s->list.self)
			continue;
		cluster_forget(s->c, node, left[i].pid);
		/* That only mcd ended there says nothing about the node. */
		if (left[i].reason == CPG_REASON_NODEDOWN)
			gone |= 1u << node;
	}
	log_debug("corosync: CPG group: %zu members, %zu joined, %zu left", n_members, n_joined,
		n_left);
	if (gone) {
		s->calm_at = mc_now() + s->detect;
		pthread_mutex_lock(&s->c->lock);
		cluster_view_left(&s->c->view, gone);
		pthread_mutex_unlock(&s->c->lock);
	}
	if (n_joined && !s->announce_at)
		s->announce_at = mc_now(); /* they know nothing of us yet */
}

static void on_message(cpg_handle_t handle, const struct cpg_name *name, uint32_t nodeid,
	uint32_t pid, void *msg, size_t len)
{
	struct corosync *s = of_cpg(handle);
	size_t node = s ? node_of(s, nodeid) : 0;
	if (!s || node == s->list.n || node == s->list.self)
		return;
	if (cluster_take_announcement(s->c, node, pid, msg, len) == -EBADMSG)
		log_warn("%s sent an announcement of its VMs that makes no sense (%zu bytes): is "
			 "the same version of mcd installed there?",
			s->list.nodes[node].name, len);
}

static void on_map(cmap_handle_t handle, cmap_track_handle_t track, int32_t event, const char *key,
	struct cmap_notify_value new_value, struct cmap_notify_value old_value, void *ctx)
{
	struct corosync *s = ctx;
	s->calm_at = s->calm_at ? s->calm_at : mc_now();
}

/* --- connecting ------------------------------------------------------------------------------- */

void corosync_disconnect(struct corosync *s)
{
	pthread_mutex_lock(&s->c->lock);
	cluster_view_disconnect(&s->c->view);
	pthread_mutex_unlock(&s->c->lock);
	if (s->has_cpg)
		cpg_finalize(s->cpg);
	if (s->has_quorum)
		quorum_finalize(s->quorum);
	if (s->has_cmap)
		cmap_finalize(s->cmap);
	s->has_cpg = s->has_quorum = s->has_cmap = s->broken = false;
	s->calm_at = 0;
	for (size_t i = 0; i < s->list.n; i++)
		cluster_forget(s->c, i, 0);
}

static int failed(const char *what, cs_error_t e, struct mc_error *err)
{
	return mc_error_set(err, -EHOSTDOWN, MC_ECLASS_UNREACHABLE, "%s: %s", what,
		e == CS_ERR_ACCESS
			? "it refuses us; mcd needs to be root, or in corosync's uidgid.d"
		: e == CS_ERR_TRY_AGAIN ? "it is not ready"
					: "no answer; is corosync running?");
}

static int connect_cmap(struct corosync *s, struct mc_error *err)
{
	cs_error_t e = cmap_initialize(&s->cmap);
	s->has_cmap = e == CS_OK;
	return s->has_cmap ? 0 : failed("corosync's map", e, err);
}

/* Says so when it is another list than the voters were taken from. */
void corosync_compare_nodelist(struct corosync *s)
{
	struct cluster_nodelist now;
	struct mc_error err = MC_ERROR_INIT;
	bool same = cluster_nodelist_read(s->cmap, &now, &err) == 0 &&
		    cluster_nodelist_equal(&now, &s->list);
	pthread_mutex_lock(&s->c->lock);
	bool fresh = !same && !s->c->trouble[0];
	snprintf(s->c->trouble, sizeof s->c->trouble, "%s",
		same ? ""
		     : "corosync's node list has changed since mcd started: restart mcd on every "
		       "host, because votes count only among hosts that have the same list");
	pthread_mutex_unlock(&s->c->lock);
	if (fresh)
		log_warn("%s", s->c->trouble);
}

static int connect_quorum(struct corosync *s, struct mc_error *err)
{
	quorum_model_v1_data_t model = {
		.model = QUORUM_MODEL_V1,
		.quorum_notify_fn = on_quorum,
		.nodelist_notify_fn = on_nodelist,
	};
	uint32_t type;
	cs_error_t e = quorum_model_initialize(
		&s->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&model, &type, s);
	s->has_quorum = e == CS_OK;
	if (s->has_quorum && type != QUORUM_SET)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_CONFIG,
			"corosync has no quorum provider: add \"provider: corosync_votequorum\" to "
			"the section quorum of corosync.conf");
	if (e == CS_OK)
		e = quorum_trackstart(s->quorum, CS_TRACK_CHANGES | CS_TRACK_CURRENT);
	return e == CS_OK ? 0 : failed("corosync's quorum", e, err);
}

static int connect_cpg(struct corosync *s, struct mc_error *err)
{
	cpg_model_v1_data_t model = {
		.model = CPG_MODEL_V1,
		.cpg_deliver_fn = on_message,
		.cpg_confchg_fn = on_group,
		.cpg_totem_confchg_fn = on_totem,
		.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
	};
	cs_error_t e = cpg_model_initialize(&s->cpg, CPG_MODEL_V1, (cpg_model_data_t *)&model, s);
	s->has_cpg = e == CS_OK;
	if (e == CS_OK)
		e = cpg_join(s->cpg, &group);
	return e == CS_OK ? 0 : failed("corosync's process groups", e, err);
}

static int connect_all(struct corosync *s, struct mc_error *err)
{
	int r = s->has_cmap ? 0 : connect_cmap(s, err);
	if (r < 0 || (r = connect_quorum(s, err)) < 0 || (r = connect_cpg(s, err)) < 0)
		return r;
	cmap_track_handle_t track;
	cmap_track_add(s->cmap, "nodelist.",
		CMAP_TRACK_ADD | CMAP_TRACK_DELETE | CMAP_TRACK_MODIFY | CMAP_TRACK_PREFIX, on_map,
		s, &track);
	uint64_t token, consensus;
	cluster_totem_times(s->cmap, &token, &consensus);
	s->detect = token + consensus;
	pthread_mutex_lock(&s->c->lock);
	cluster_view_connect(&s->c->view, s->list.n);
	/* A pause shorter than the token time-out is none: nobody gives a node up that early. */
	s->c->stall_limit = token;
	s->c->seen_at = mc_now();
	pthread_mutex_unlock(&s->c->lock);
	corosync_compare_nodelist(s);
	s->announce_at = mc_now();
	log_info("connected to corosync: %zu nodes, token time-out %.0f ms", s->list.n,
		(double)token / 1e6);
	return 0;
}

void corosync_try_connect(struct corosync *s)
{
	struct mc_error err = MC_ERROR_INIT;
	if (mc_now() < s->retry_at)
		return;
	if (connect_all(s, &err) == 0)
		return;
	corosync_disconnect(s);
	s->retry_at = mc_now() + RETRY;
	char text[sizeof s->c->trouble];
	snprintf(text, sizeof text,
		"%.150s; until it is back this host neither takes over nor votes: 'systemctl "
		"status corosync' tells more",
		err.msg);
	pthread_mutex_lock(&s->c->lock);
	bool fresh = strcmp(s->c->trouble, text) != 0;
	memcpy(s->c->trouble, text, sizeof text);
	pthread_mutex_unlock(&s->c->lock);
	if (fresh)
		log_warn("%s", text);
}

int corosync_first_contact(struct corosync *s, struct mc_error *err)
{
	struct cluster *c = s->c;
	struct cluster_host hosts[CLUSTER_HOSTS_MAX];
	int r = connect_cmap(s, err);
	if (r < 0 || (r = cluster_nodelist_read(s->cmap, &s->list, err)) < 0)
		return r;
	const char *self = s->list.nodes[s->list.self].name;
	if (c->wanted_self[0] && strcmp(c->wanted_self, self))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"mcd.conf calls this host %s and corosync's node list calls it %s: take "
			"the key \"name\" out, or make them equal",
			c->wanted_self, self);
	r = cluster_nodelist_hosts(&s->list, c->overrides, c->n_overrides, c->cfg.port, hosts, err);
	if (r < 0)
		return r;
	memcpy(c->hosts, hosts, sizeof hosts);
	c->n_hosts = s->list.n;
	memcpy(c->self, self, sizeof c->self);
	return 0;
}

/* --- announcing ------------------------------------------------------------------------------- */

void corosync_announce(struct corosync *s)
{
	if (!s->announce_at || mc_now() < s->announce_at || !s->has_cpg)
		return;
	struct cluster *c = s->c;
	struct cluster_vm *vms = calloc(CLUSTER_VMS_MAX, sizeof *vms);
	uint8_t *msg = malloc(CLUSTER_ANNOUNCE_MAX);
	cs_error_t e = CS_ERR_NO_MEMORY;
	if (vms && msg) {
		size_t n = c->cfg.vms ? c->cfg.vms(c->cfg.ctx, vms, CLUSTER_VMS_MAX) : 0;
		struct iovec iov = {
			.iov_base = msg, .iov_len = cluster_announce_encode(msg, c->self, vms, n)};
		e = cpg_mcast_joined(s->cpg, CPG_TYPE_AGREED, &iov, 1);
	}
	free(vms);
	free(msg);
	/* TRY_AGAIN: the ring is changing, or has too much to send. */
	s->announce_at = e == CS_OK ? 0 : mc_now() + SEND_AGAIN;
	if (e == CS_ERR_LIBRARY || e == CS_ERR_BAD_HANDLE)
		s->broken = true;
}

static bool dead(cs_error_t e)
{
	return e != CS_OK && e != CS_ERR_TRY_AGAIN;
}

void corosync_dispatch(struct corosync *s)
{
	if (!s->has_cpg)
		return;
	/* CPG first: "left" closes the gate, whatever quorum says. */
	if (dead(cpg_dispatch(s->cpg, CS_DISPATCH_ALL)) ||
		dead(quorum_dispatch(s->quorum, CS_DISPATCH_ALL)) ||
		dead(cmap_dispatch(s->cmap, CS_DISPATCH_ALL)))
		s->broken = true;
	if (s->broken) {
		corosync_disconnect(s);
		s->retry_at = 0;
	}
}
