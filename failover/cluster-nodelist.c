/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "failover/cluster-nodelist.h"

#include "common/clock.h"
#include "failover/vote-wire.h"

#include <corosync/corotypes.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int compare(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return (x > y) - (x < y);
}

/* The positions in the list: they may have gaps once a node was taken out. */
static int positions(cmap_handle_t cmap, unsigned *ret, size_t *ret_n, struct mc_error *err)
{
	cmap_iter_handle_t iter;
	char key[CMAP_KEYNAME_MAXLEN + 1];
	size_t n = 0;
	if (cmap_iter_init(cmap, "nodelist.node.", &iter) != CS_OK)
		return mc_error_set(
			err, -EIO, MC_ECLASS_UNREACHABLE, "corosync's map cannot be read");
	while (cmap_iter_next(cmap, iter, key, NULL, NULL) == CS_OK) {
		unsigned pos;
		int end = 0;
		if (sscanf(key, "nodelist.node.%u.ring0_addr%n", &pos, &end) != 1 || !end ||
			key[end])
			continue;
		if (n < CLUSTER_HOSTS_MAX)
			ret[n] = pos;
		n++;
	}
	cmap_iter_finalize(cmap, iter);
	if (n == 0)
		return mc_error_set(err, -ENOENT, MC_ECLASS_CONFIG,
			"corosync.conf has no nodelist: add one with name, nodeid and ring0_addr "
			"of every node");
	if (n > CLUSTER_HOSTS_MAX)
		return mc_error_set(err, -E2BIG, MC_ECLASS_CONFIG,
			"corosync's node list has %zu nodes and mcd can take %d voters: write "
			"cluster = static and [host] sections for three or five of them",
			n, CLUSTER_HOSTS_MAX);
	qsort(ret, n, sizeof *ret, compare);
	*ret_n = n;
	return 0;
}

static int read_text(cmap_handle_t cmap, unsigned pos, const char *what, char *ret, size_t size)
{
	char key[CMAP_KEYNAME_MAXLEN + 1], *text;
	snprintf(key, sizeof key, "nodelist.node.%u.%s", pos, what);
	if (cmap_get_string(cmap, key, &text) != CS_OK)
		return -ENOENT;
	int r = strlen(text) < size ? 0 : -ENAMETOOLONG;
	if (r == 0)
		strcpy(ret, text);
	free(text);
	return r;
}

static int read_node(
	cmap_handle_t cmap, unsigned pos, struct cluster_node *ret, struct mc_error *err)
{
	char key[CMAP_KEYNAME_MAXLEN + 1];
	if (read_text(cmap, pos, "name", ret->name, sizeof ret->name) < 0 ||
		!vote_name_valid(ret->name))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"entry %u of corosync's node list has no name that mcd can use: add "
			"\"name: NAME\" to it, at most %d characters",
			pos, LINK_NAME_MAX);
	snprintf(key, sizeof key, "nodelist.node.%u.nodeid", pos);
	if (cmap_get_uint32(cmap, key, &ret->id) != CS_OK || !ret->id)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"node %s has no nodeid in corosync's node list: add \"nodeid: NUMBER\"",
			ret->name);
	if (read_text(cmap, pos, "ring0_addr", ret->address, sizeof ret->address) < 0)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"node %s has no usable ring0_addr in corosync's node list", ret->name);
	return 0;
}

int cluster_nodelist_read(cmap_handle_t cmap, struct cluster_nodelist *ret, struct mc_error *err)
{
	unsigned at[CLUSTER_HOSTS_MAX];
	struct cluster_nodelist l = {0};
	uint32_t own;
	int r = positions(cmap, at, &l.n, err);
	if (r < 0)
		return r;
	if (cmap_get_uint32(cmap, "nodelist.local_node_pos", &own) != CS_OK)
		return mc_error_set(err, -ENOENT, MC_ECLASS_CONFIG,
			"corosync does not say which node of its list this host is: check the "
			"addresses in its node list");
	l.self = l.n;
	for (size_t i = 0; i < l.n; i++) {
		if ((r = read_node(cmap, at[i], &l.nodes[i], err)) < 0)
			return r;
		if (at[i] == own)
			l.self = i;
	}
	if (l.self == l.n)
		return mc_error_set(err, -ENOENT, MC_ECLASS_CONFIG,
			"corosync's node list does not name this host");
	*ret = l;
	return 0;
}

bool cluster_nodelist_equal(const struct cluster_nodelist *a, const struct cluster_nodelist *b)
{
	if (a->n != b->n || a->self != b->self)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->nodes[i].id != b->nodes[i].id ||
			strcmp(a->nodes[i].name, b->nodes[i].name) ||
			strcmp(a->nodes[i].address, b->nodes[i].address))
			return false;
	return true;
}

/* Once, at the start, the way corosync itself does it: later nothing hangs on a name server. */
static int resolve(const struct cluster_node *node, struct cluster_host *ret, struct mc_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	int r = getaddrinfo(node->address, NULL, &hints, &found);
	if (r == 0) {
		r = getnameinfo(found->ai_addr, found->ai_addrlen, ret->address,
			sizeof ret->address, NULL, 0, NI_NUMERICHOST);
		freeaddrinfo(found);
	}
	if (r)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"the ring0_addr of node %s, %.100s, has no address (%s): add a section "
			"[host %s] with address = ... to mcd.conf",
			node->name, node->address, gai_strerror(r), node->name);
	return 0;
}

static const struct cluster_host *find(const struct cluster_host *hosts, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(hosts[i].name, name))
			return &hosts[i];
	return NULL;
}

int cluster_nodelist_hosts(const struct cluster_nodelist *l, const struct cluster_host *overrides,
	size_t n_overrides, uint16_t port, struct cluster_host ret[CLUSTER_HOSTS_MAX],
	struct mc_error *err)
{
	struct cluster_host hosts[CLUSTER_HOSTS_MAX] = {0};
	for (size_t i = 0; i < l->n; i++) {
		struct cluster_host *h = &hosts[i];
		const struct cluster_host *over = find(overrides, n_overrides, l->nodes[i].name);
		memcpy(h->name, l->nodes[i].name, sizeof h->name);
		h->port = over && over->port ? over->port : port;
		if (over && over->address[0])
			memcpy(h->address, over->address, sizeof h->address);
		else if (resolve(&l->nodes[i], h, err) < 0)
			return -EINVAL;
	}
	/* Whoever is not in the list would vote with another list of voters. */
	for (size_t i = 0; i < n_overrides; i++)
		if (!find(hosts, l->n, overrides[i].name))
			return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
				"mcd.conf has a section [host %s], which is not in corosync's node "
				"list: add it there or take it out here, or write cluster = static "
				"to use mcd.conf alone",
				overrides[i].name);
	memcpy(ret, hosts, sizeof hosts);
	return 0;
}

void cluster_totem_times(cmap_handle_t cmap, uint64_t *ret_token, uint64_t *ret_consensus)
{
	uint32_t token, consensus;
	if (cmap_get_uint32(cmap, "runtime.config.totem.token", &token) != CS_OK || !token)
		token = 3000;
	if (cmap_get_uint32(cmap, "runtime.config.totem.consensus", &consensus) != CS_OK ||
		!consensus)
		consensus = token / 5 * 6;
	*ret_token = token * MC_MSEC;
	*ret_consensus = consensus * MC_MSEC;
}
