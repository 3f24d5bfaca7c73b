/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * evilpeer as a standby, in place of its host's mcd: it beats and hears beats, keeps voters
 * waiting, and takes one protection for each misdeed that it is told, all right up to it; closes
 * those that it was not told of.  Ends with its input.
 */
#include "evil.h"

#include "common/cleanup.h"
#include "mcd/wire/keepalive.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LATER 8 /* the epoch of a misdeed against a VM that is protected */

/* --- answers --- */

struct asked { /* what the primary has sent of the running epoch */
	uint64_t epoch;
	struct wire_epoch_digest digest;
};

static void answer(struct evil *e, uint16_t type, uint64_t epoch, uint64_t digest)
{
	struct wire_header h = evil_header(e, type, epoch, NULL, 0);
	if (type == WIRE_ACK)
		h.digest = digest;
	evil_message(e, &h, NULL);
}

static void refuse(struct evil *e, const struct asked *a)
{
	uint8_t buf[2048];
	struct mc_error why = MC_ERROR_INIT;
	mc_error_set(&why, -ENOMEM, MC_ECLASS_MEMORY, "the evil peer has changed its mind");
	size_t n = wire_put_error(buf, sizeof buf, &why);
	struct wire_header h = evil_header(e, WIRE_ERROR, 0, buf, n);
	evil_message(e, &h, buf);
}

static void garbage(struct evil *e, const struct asked *a)
{
	uint8_t buf[1000];
	memset(buf, 0xee, sizeof buf);
	evil_send(e, buf, sizeof buf);
}

static void close_it(struct evil *e, const struct asked *a)
{
	shutdown(e->fd, SHUT_RDWR);
}

static void wrong_magic_error(struct evil *e, const struct asked *a)
{
	/* An ERROR that says that it has more bytes than any may have. */
	uint8_t v[8];
	put_le64(v, WIRE_CONTROL_MAX + 1);
	struct wire_header h = evil_header(e, WIRE_ERROR, 0, "x", 1);
	evil_patched(e, &h, 32, v, 8, "x", 1);
}

static void silence(struct evil *e, const struct asked *a)
{
}

static void other_generation(struct evil *e, const struct asked *a)
{
	e->generation++;
	answer(e, WIRE_HELLO_OK, 0, 0);
}

static void ack_too_soon(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_ACK, 1, 0);
}

static void ack_wrong_epoch(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_ACK, a->epoch + 1, a->digest.h);
}

static void ack_old_epoch(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_ACK, a->epoch - 1, a->digest.h);
}

static void ack_wrong_digest(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_ACK, a->epoch, a->digest.h ^ 1);
}

static void ack_wrong_generation(struct evil *e, const struct asked *a)
{
	e->generation--;
	answer(e, WIRE_ACK, a->epoch, a->digest.h);
}

static void ack_twice(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_ACK, a->epoch, a->digest.h);
	answer(e, WIRE_ACK, a->epoch, a->digest.h);
}

static void slab_from_standby(struct evil *e, const struct asked *a)
{
	uint8_t data[WIRE_RANGE_SIZE] = {0};
	struct wire_header h = evil_header(e, WIRE_SLAB, a->epoch, data, sizeof data);
	evil_message(e, &h, data);
}

static void handover_from_standby(struct evil *e, const struct asked *a)
{
	answer(e, WIRE_HANDOVER, a->epoch, 0);
}

/* --- all of them --- */

enum when { AT_HELLO, AT_SYNC, AT_FIRST_DATA, AT_FIRST_COMMIT, AT_DATA, AT_COMMIT };

static const struct misdeed {
	const char *name;
	enum when when;
	void (*run)(struct evil *e, const struct asked *a);
} misdeeds[] = {
	/* `mcctl protect` is refused */
	{"hello-refused", AT_HELLO, refuse},
	{"hello-garbage", AT_HELLO, garbage},
	{"hello-closed", AT_HELLO, close_it},
	{"hello-oversized-error", AT_HELLO, wrong_magic_error},
	{"hello-other-generation", AT_HELLO, other_generation},
	{"hello-ack", AT_HELLO, ack_too_soon},
	{"hello-silence", AT_HELLO, silence},
	{"sync-refused", AT_SYNC, refuse},
	{"sync-closed", AT_SYNC, close_it},
	{"sync-ack", AT_SYNC, ack_too_soon},
	{"sync-silence", AT_SYNC, silence},
	{"first-ack-digest", AT_FIRST_COMMIT, ack_wrong_digest},
	{"first-ack-never", AT_FIRST_COMMIT, silence},
	{"first-epoch-closed", AT_FIRST_DATA, close_it},
	/* a protected VM loses its protection */
	{"ack-wrong-epoch", AT_COMMIT, ack_wrong_epoch},
	{"ack-old-epoch", AT_COMMIT, ack_old_epoch},
	{"ack-wrong-digest", AT_COMMIT, ack_wrong_digest},
	{"ack-wrong-generation", AT_COMMIT, ack_wrong_generation},
	{"ack-twice", AT_COMMIT, ack_twice},
	{"ack-before-commit", AT_DATA, ack_wrong_digest},
	{"ack-never", AT_COMMIT, silence},
	{"closed-in-an-epoch", AT_DATA, close_it},
	{"refused-in-an-epoch", AT_DATA, refuse},
	{"garbage-for-an-ack", AT_COMMIT, garbage},
	{"slab-from-standby", AT_COMMIT, slab_from_standby},
	{"handover-from-standby", AT_COMMIT, handover_from_standby},
};

void evil_standby_list(void)
{
	for (size_t i = 0; i < sizeof misdeeds / sizeof *misdeeds; i++)
		puts(misdeeds[i].name);
}

/* Where a misdeed has its place in the stream. */
static bool is_time(enum when when, const struct wire_header *h)
{
	bool data = h->type == WIRE_SLAB || h->type == WIRE_DEVICES;
	switch (when) {
	case AT_HELLO:
		return h->type == WIRE_HELLO;
	case AT_SYNC:
		return h->type == WIRE_SYNC_END;
	case AT_FIRST_DATA:
		return data;
	case AT_FIRST_COMMIT:
		return h->type == WIRE_COMMIT;
	case AT_DATA:
		return data && h->epoch == LATER;
	case AT_COMMIT:
		return h->type == WIRE_COMMIT && h->epoch == LATER;
	}
	return false;
}

static void take(struct evil *e, const struct misdeed *m)
{
	_cleanup_free_ uint8_t *buf = malloc(SLAB_SIZE);
	struct asked a = {0};
	for (;;) {
		struct wire_header h;
		if (!buf || evil_recv(e, &h, buf, SLAB_SIZE, mc_now() + 60 * MC_SEC) < 0)
			break;
		e->generation = h.generation;
		if (h.type == WIRE_SLAB || h.type == WIRE_DEVICES) {
			if (h.epoch != a.epoch)
				wire_epoch_digest_init(&a.digest, h.generation, h.epoch);
			a.epoch = h.epoch;
			wire_epoch_digest_add(&a.digest, h.digest, h.length);
		}
		if (is_time(m->when, &h)) {
			evil_did(e);
			m->run(e, &a);
			break;
		}
		if (h.type == WIRE_HELLO)
			answer(e, WIRE_HELLO_OK, 0, 0);
		else if (h.type == WIRE_SYNC_END)
			answer(e, WIRE_SYNC_OK, 0, 0);
		else if (h.type == WIRE_COMMIT)
			answer(e, WIRE_ACK, h.epoch, a.digest.h);
	}
	evil_end(e, 40 * MC_SEC);
}

/* --- the rest of a host --- */

static void no_news(void *ctx, const char *peer)
{
}

static void no_news_at(void *ctx, const char *peer, uint64_t last_heard)
{
}

static struct keepalive *beat(struct evil *e)
{
	static struct keepalive_peer peers[CONFIG_HOSTS_MAX];
	struct keepalive *k;
	size_t n = 0;
	for (size_t i = 0; i < e->cfg.n_hosts; i++) {
		const struct config_host *h = &e->cfg.hosts[i];
		if (h == e->self)
			continue;
		memcpy(peers[n].name, h->name, sizeof peers[n].name);
		memcpy(peers[n].address, h->address, sizeof peers[n].address);
		peers[n++].port = h->port;
	}
	struct keepalive_config kc = {
		.self = e->cfg.name,
		.local_address = e->self->address,
		.key = &e->key,
		.instance = 1,
		.interval = e->cfg.keepalive_interval,
		.misses = e->cfg.keepalive_misses,
		.peers = peers,
		.n_peers = n,
		.suspect = no_news_at,
		.alive = no_news,
	};
	if (keepalive_new(&kc, &k, &evil_err) < 0)
		evil_die("keep-alives");
	return k;
}

/* What is to be done to whom: lines of the input. */
static struct plan {
	char vm[64]; /* of LINK_NAME_MAX bytes at most */
	const struct misdeed *m;
	bool taken;
} plan[64];
static size_t n_plan;
static pthread_mutex_t plan_lock = PTHREAD_MUTEX_INITIALIZER;

static const struct misdeed *find(const char *name)
{
	for (size_t i = 0; i < sizeof misdeeds / sizeof *misdeeds; i++)
		if (!strcmp(misdeeds[i].name, name))
			return &misdeeds[i];
	return NULL;
}

/* One line "VM MISDEED"; false at the end of the input. */
static bool read_plan(void)
{
	char line[256], vm[64], name[64];
	if (!fgets(line, sizeof line, stdin))
		return false;
	if (sscanf(line, "%63s %63s", vm, name) != 2 || !find(name) ||
		n_plan == sizeof plan / sizeof *plan) {
		fprintf(stderr, "evilpeer: no such misdeed, or too many: %s", line);
		return false;
	}
	pthread_mutex_lock(&plan_lock);
	plan[n_plan].m = find(name);
	strcpy(plan[n_plan++].vm, vm);
	pthread_mutex_unlock(&plan_lock);
	printf("{\"ready\": \"%s\"}\n", name);
	fflush(stdout);
	return true;
}

static struct plan *next_of(const char *vm)
{
	struct plan *found = NULL;
	pthread_mutex_lock(&plan_lock);
	for (size_t i = 0; i < n_plan && !found; i++)
		if (!plan[i].taken && !strcmp(plan[i].vm, vm))
			found = &plan[i];
	if (found)
		found->taken = true;
	pthread_mutex_unlock(&plan_lock);
	return found;
}

struct visitor {
	const struct evil *e;
	struct keepalive *k;
	int fd;
};

static void serve_data(const struct evil *e, int fd, const char *vm)
{
	struct plan *p = next_of(vm);
	if (p) {
		struct evil mine = *e;
		mine.fd = fd;
		mine.vm = p->vm;
		mine.misdeed = p->m->name;
		take(&mine, p->m);
	}
	close(fd);
}

static void *serve(void *arg)
{
	struct visitor v = *(struct visitor *)arg;
	struct link_peer peer;
	uint8_t sink;
	free(arg);
	struct link_self self = {v.e->cfg.name, &v.e->key, 1, NULL};
	if (link_accept(v.fd, &self, mc_now() + 2 * MC_SEC, &peer, NULL) < 0)
		return NULL;
	if (peer.purpose == LINK_KEEPALIVE)
		keepalive_serve(v.k, v.fd, &peer);
	else if (peer.purpose == LINK_VOTE) /* a voter that never answers */
		while (link_read(v.fd, &sink, 1, mc_now() + 600 * MC_SEC, -1) == 0)
			;
	else
		serve_data(v.e, v.fd, peer.subject);
	return NULL;
}

static void let_in(const struct evil *e, struct keepalive *k, int fd)
{
	struct visitor *v = malloc(sizeof *v);
	pthread_t t;
	*v = (struct visitor){e, k, fd};
	if (pthread_create(&t, NULL, serve, v) == 0)
		pthread_detach(t);
}

int evil_standby(struct evil *e)
{
	struct keepalive *k = beat(e);
	int l = link_listen(e->self->address, e->self->port, &evil_err);
	if (l < 0)
		evil_die("listening");
	setvbuf(stdin, NULL, _IONBF, 0); /* what is read ahead would not be polled */
	puts("{\"ready\": \"\"}");
	fflush(stdout);
	for (;;) {
		struct pollfd p[] = {
			{.fd = l, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
		if (poll(p, 2, -1) < 0)
			break;
		if (p[1].revents && !read_plan())
			break;
		int fd = p[0].revents ? accept(l, NULL, NULL) : -1;
		if (fd >= 0)
			let_in(e, k, fd);
	}
	_exit(0); /* with all its threads, as abruptly as a peer may end */
}
