/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/failover/vote-rig.h"

#include "common/clock.h"
#include "common/log.h"
#include "tests/unit/own-netns.h"

#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

const struct link_key key = {32, "this is the right key, 32 bytes."};
struct voter_peer peers[HOSTS];
char root[64];

struct connection {
	struct connection *next;
	struct host *host;
	pthread_t thread;
	int fd;
};

struct host hosts[HOSTS];

uint64_t in_ms(unsigned ms)
{
	return mc_now() + ms * MC_MSEC;
}

static void *connection_thread(void *arg)
{
	struct connection *c = arg;
	struct link_peer peer;
	struct mc_error err = MC_ERROR_INIT;
	struct host *h = c->host;
	struct link_self self = {peers[h->index].name, &key, 7, NULL};
	if (link_accept(c->fd, &self, in_ms(2000), &peer, &err) == 0) {
		if (!h->mute)
			voter_serve(h->voter, c->fd, &peer);
		else
			for (char b[512]; link_read(c->fd, b, 1, UINT64_MAX, -1) == 0;)
				;
	}
	shutdown(c->fd, SHUT_RDWR);
	return NULL;
}

static void *accept_thread(void *arg)
{
	struct host *h = arg;
	while (!h->stop) {
		struct pollfd p = {.fd = h->listener, .events = POLLIN};
		if (poll(&p, 1, 20) <= 0)
			continue;
		int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		struct connection *c = calloc(1, sizeof *c);
		*c = (struct connection){.next = h->connections, .host = h, .fd = fd};
		h->connections = c;
		pthread_create(&c->thread, NULL, connection_thread, c);
	}
	return NULL;
}

static uint64_t heard_age(void *ctx, const char *host)
{
	struct host *h = ctx;
	return strcmp(host, "hostA") ? UINT64_MAX : h->heard;
}

static void learned(void *ctx, const char *vm, const struct own_record *rec)
{
	struct host *h = ctx;
	if (!strcmp(vm, VM) && rec->generation > h->learned)
		h->learned = rec->generation;
}

static bool may_grant(void *ctx)
{
	struct host *h = ctx;
	return !h->gate_closed;
}

int host_open(unsigned i, const struct voter_peer *voters, size_t n)
{
	struct host *h = &hosts[i];
	struct mc_error err = MC_ERROR_INIT;
	struct voter_config cfg = {
		.self = peers[i].name,
		.voters = voters,
		.n_voters = n,
		.state_dir = h->dir,
		.key = &key,
		.instance = 1000 + i + (uint64_t)mc_now(),
		.local_address = "127.0.0.1",
		.heard_age = heard_age,
		.learned = learned,
		.may_grant = may_grant,
		.ctx = h,
	};
	int r = voter_open(&cfg, &h->voter, &err);
	if (r < 0)
		h->voter = NULL;
	return r;
}

void host_listen(unsigned i)
{
	struct host *h = &hosts[i];
	struct mc_error err = MC_ERROR_INIT;
	h->stop = false;
	h->connections = NULL;
	h->listener = link_listen(peers[i].address, peers[i].port, &err);
	assert_string_equal(err.msg, "");
	assert_int_equal(pthread_create(&h->thread, NULL, accept_thread, h), 0);
}

void host_start(unsigned i)
{
	hosts[i].index = i;
	hosts[i].mute = false;
	snprintf(hosts[i].dir, sizeof hosts[i].dir, "%s/%s", root, peers[i].name);
	assert_int_equal(host_open(i, peers, HOSTS), 0);
	host_listen(i);
}

void host_stop(unsigned i)
{
	struct host *h = &hosts[i];
	if (!h->voter && !h->mute)
		return;
	h->stop = true;
	pthread_join(h->thread, NULL);
	close(h->listener);
	if (h->voter)
		voter_shutdown(h->voter);
	for (struct connection *c = h->connections, *next; c; c = next) {
		next = c->next;
		if (h->mute)
			shutdown(c->fd, SHUT_RDWR);
		pthread_join(c->thread, NULL);
		close(c->fd);
		free(c);
	}
	voter_close(h->voter);
	h->voter = NULL;
	h->mute = false;
}

void host_mute(unsigned i)
{
	host_stop(i);
	hosts[i].mute = true;
	host_listen(i);
}

bool wait_connected(unsigned i, size_t n)
{
	for (uint64_t end = in_ms(5000); mc_now() < end; usleep(1000)) {
		size_t connected, total;
		voter_reachable(hosts[i].voter, &connected, &total);
		assert_int_equal(total, HOSTS);
		if (connected >= n)
			return true;
	}
	return false;
}

void wait_known(unsigned i, uint64_t generation)
{
	struct own_record r = {0};
	for (uint64_t end = in_ms(5000); mc_now() < end && r.generation < generation; usleep(500))
		voter_known(hosts[i].voter, VM, &r);
	assert_int_equal(r.generation, generation);
}

struct own_record rec(uint64_t g, const char *owner, const char *standby)
{
	struct own_record r = {.generation = g};
	strcpy(r.owner, owner);
	strcpy(r.standby, standby);
	return r;
}

int propose(unsigned i, uint64_t g, const char *owner, const char *standby, unsigned ms,
	struct own_record *ret, struct mc_error *err)
{
	struct own_record next = rec(g, owner, standby);
	struct mc_error dummy = MC_ERROR_INIT;
	return voter_propose(hosts[i].voter, VM, &next, in_ms(ms), ret, err ? err : &dummy);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

int rig_setup(void **state)
{
	strcpy(root, "/tmp/mcd-test-vote-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	for (unsigned i = 0; i < HOSTS; i++) {
		hosts[i] = (struct host){.heard = UINT64_MAX};
		host_start(i);
	}
	for (unsigned i = 0; i < HOSTS; i++)
		if (!wait_connected(i, HOSTS))
			return -1;
	return 0;
}

int rig_teardown(void **state)
{
	for (unsigned i = 0; i < HOSTS; i++)
		host_stop(i);
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}

bool rig_enter(void)
{
	if (!own_netns())
		return false;
	mc_log_setup(MC_LOG_ERROR, "test");
	for (unsigned i = 0; i < HOSTS; i++) {
		snprintf(peers[i].name, sizeof peers[i].name, "host%c", 'A' + i);
		strcpy(peers[i].address, "127.0.0.1");
		peers[i].port = (uint16_t)(7801 + i);
	}
	return true;
}
