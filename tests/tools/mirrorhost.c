/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mirrorhost DIR BUDGET STALL_MS ID=SIZE...
 *
 * Both sides of the disk mirror in one process, a socketpair between them, for tests with a real
 * QEMU.  Disk ID is served by NBD at DIR/nbd.sock and copied to DIR/ID.raw.  Says "ready", then
 * answers each line of its input with one line, "ok ..." or "error ...":
 *
 *	begin N       the synchronisation is over, the first epoch is N
 *	barrier N     -> ok WRITES BYTES
 *	end N [1]     1: the guest flushed
 *	commit N      what the standby does: wait, harden, apply
 *	trusted
 *	take          cut, take: the standby becomes the VM's host
 *	freeze        the standby's side of the link stops (nothing is taken any more)
 *	stats         -> ok name=value...
 *	status        -> ok, or why the mirror broke
 *	quit
 */
#include "common/clock.h"
#include "diskmirror/mirror.h"
#include "diskmirror/replica.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#define OPEN_TIME (20 * MC_SEC)

/* The standby's link, with a tap that can be closed. */
struct tap {
	struct disklink link;
	struct disklink *below;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool frozen, over;
	atomic_ullong said; /* bytes that the standby has sent */
};

struct host {
	char dir[200], socket[220], state[220], journal[220];
	struct disk_hello hello;
	struct replica_disk disks[DISKS_MAX];
	struct disk_epoch_sum sum;
	struct tap tap;
	struct mirror *m;
	struct replica *r;
	uint64_t budget;
	struct mc_error replica_error;
	atomic_uint broken, pressed;
};

static int tap_send(struct disklink *l, const struct iovec *iov, size_t n, uint64_t deadline)
{
	struct tap *t = (struct tap *)l;
	int r = t->below->ops->send(t->below, iov, n, deadline);
	for (size_t i = 0; i < n; i++)
		t->said += iov[i].iov_len;
	return r;
}

static int tap_recv(struct disklink *l, void *buf, size_t len, uint64_t deadline)
{
	struct tap *t = (struct tap *)l;
	pthread_mutex_lock(&t->lock);
	while (t->frozen && !t->over)
		pthread_cond_wait(&t->changed, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return t->below->ops->recv(t->below, buf, len, deadline);
}

static void tap_shutdown(struct disklink *l)
{
	struct tap *t = (struct tap *)l;
	pthread_mutex_lock(&t->lock);
	t->over = true;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	t->below->ops->shutdown(t->below);
}

static void tap_close(struct disklink *l)
{
	struct tap *t = (struct tap *)l;
	t->below->ops->close(t->below);
}

static const struct disklink_ops tap_ops = {tap_send, tap_recv, tap_shutdown, tap_close};

static void on_broken(void *ctx)
{
	((struct host *)ctx)->broken++;
}

static void on_pressure(void *ctx)
{
	((struct host *)ctx)->pressed++;
}

static void on_replica_broken(void *ctx)
{
}

static void *open_replica(void *arg)
{
	struct host *h = arg;
	struct replica_config c = {.state_path = h->state,
		.journal_path = h->journal,
		.spill_dir = h->dir,
		.n_disks = h->hello.n_disks,
		.disks = h->disks,
		.budget = h->budget,
		.durability = DISK_DURABILITY_COMMIT,
		.generation = h->hello.generation,
		.broken = on_replica_broken,
		.ctx = h};
	replica_open(&c, &h->tap.link, mc_now() + OPEN_TIME, &h->r, &h->replica_error);
	return NULL;
}

static int open_both(struct host *h, uint64_t stall, struct mc_error *err)
{
	struct disklink *link;
	pthread_t t;
	int fd[2], r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return mc_error_set(err, -1, MC_ECLASS_FAILED, "socketpair: %m");
	if ((r = disklink_socket_new(fd[0], &link, err)) < 0 ||
		(r = disklink_socket_new(fd[1], &h->tap.below, err)) < 0)
		return r;
	h->tap.link.ops = &tap_ops;
	pthread_mutex_init(&h->tap.lock, NULL);
	pthread_cond_init(&h->tap.changed, NULL);
	pthread_create(&t, NULL, open_replica, h);
	struct mirror_config c = {.socket_path = h->socket,
		.hello = &h->hello,
		.budget = h->budget,
		.stall_after = stall,
		.broken = on_broken,
		.pressure = on_pressure,
		.ctx = h};
	r = mirror_open(&c, link, mc_now() + OPEN_TIME, &h->m, err);
	pthread_join(t, NULL);
	return r < 0  ? r
	       : h->r ? 0
		      : mc_error_set(err, h->replica_error.code, h->replica_error.cls, "%s",
				h->replica_error.msg);
}

static void say_stats(struct host *h)
{
	struct mirror_stats s;
	struct replica_stats r;
	mirror_get_stats(h->m, &s);
	replica_get_stats(h->r, &r);
	printf("ok requests=%llu written=%llu sent=%llu skipped=%llu queued=%llu peak=%llu "
	       "epoch=%llu connections=%u broken=%u pressed=%u received=%llu applied=%llu "
	       "said=%llu\n",
		(unsigned long long)s.requests, (unsigned long long)s.written_bytes,
		(unsigned long long)s.sent_bytes, (unsigned long long)s.skipped_bytes,
		(unsigned long long)s.queued_bytes, (unsigned long long)s.queued_peak,
		(unsigned long long)s.epoch_bytes, s.connections, h->broken, h->pressed,
		(unsigned long long)r.received_bytes, (unsigned long long)r.applied_bytes,
		(unsigned long long)h->tap.said);
}

static int commit(struct host *h, uint64_t n, struct mc_error *err)
{
	int r = replica_wait(h->r, n, &h->sum, mc_now() + OPEN_TIME, -1, err);
	if (r == 0)
		r = replica_harden(h->r, n, err);
	return r < 0 ? r : replica_apply(h->r, n, err);
}

/* The line's answer, but for "ok". Negative with err. */
static int obey(struct host *h, const char *verb, uint64_t n, unsigned flag, struct mc_error *err)
{
	if (!strcmp(verb, "begin"))
		mirror_begin(h->m, n);
	else if (!strcmp(verb, "barrier"))
		mirror_barrier(h->m, n, &h->sum);
	else if (!strcmp(verb, "end"))
		return mirror_end(h->m, n, flag, err);
	else if (!strcmp(verb, "commit"))
		return commit(h, n, err);
	else if (!strcmp(verb, "trusted"))
		return replica_trusted(h->r, err);
	else if (!strcmp(verb, "status"))
		return mirror_error(h->m, err);
	else if (!strcmp(verb, "take")) {
		replica_cut(h->r);
		int r = replica_take(h->r, err);
		return r < 0 ? r : replica_own(h->r, h->hello.generation + 1, err);
	} else if (!strcmp(verb, "freeze")) {
		pthread_mutex_lock(&h->tap.lock);
		h->tap.frozen = true;
		pthread_mutex_unlock(&h->tap.lock);
	} else
		return mc_error_set(err, -1, MC_ECLASS_BAD_REQUEST, "unknown: %s", verb);
	return 0;
}

static bool obey_line(struct host *h, const char *line)
{
	struct mc_error err = MC_ERROR_INIT;
	char verb[16] = "";
	unsigned long long n = 0;
	unsigned flag = 0;
	if (sscanf(line, "%15s %llu %u", verb, &n, &flag) < 1 || !strcmp(verb, "quit"))
		return false;
	if (!strcmp(verb, "stats"))
		say_stats(h);
	else if (obey(h, verb, n, flag, &err) < 0)
		printf("error %s: %s\n", err.cls, err.msg);
	else
		printf("ok %llu %llu\n", (unsigned long long)h->sum.writes,
			(unsigned long long)h->sum.bytes);
	fflush(stdout);
	return true;
}

int main(int argc, char **argv)
{
	struct host h = {.hello.generation = 1};
	struct mc_error err = MC_ERROR_INIT;
	if (argc < 5 || argc - 4 > DISKS_MAX) {
		fprintf(stderr, "usage: mirrorhost DIR BUDGET STALL_MS ID=SIZE...\n");
		return 2;
	}
	snprintf(h.dir, sizeof h.dir, "%s", argv[1]);
	snprintf(h.socket, sizeof h.socket, "%s/nbd.sock", argv[1]);
	snprintf(h.state, sizeof h.state, "%s/state", argv[1]);
	snprintf(h.journal, sizeof h.journal, "%s/journal", argv[1]);
	h.budget = strtoull(argv[2], NULL, 10);
	for (int i = 4; i < argc; i++) {
		size_t k = h.hello.n_disks++;
		unsigned long long size;
		char id[DISK_ID_MAX + 1];
		if (sscanf(argv[i], "%63[^=]=%llu", id, &size) != 2)
			return 2;
		h.hello.disks[k].size = size;
		strcpy(h.hello.disks[k].id, id);
		strcpy(h.disks[k].id, id);
		snprintf(h.disks[k].path, sizeof h.disks[k].path, "%s/%s.raw", argv[1], id);
	}
	if (getrandom(h.hello.seed, sizeof h.hello.seed, 0) != sizeof h.hello.seed)
		return 1;
	if (open_both(&h, strtoull(argv[3], NULL, 10) * MC_MSEC, &err) < 0) {
		fprintf(stderr, "mirrorhost: %s\n", err.msg);
		return 1;
	}
	puts("ready");
	fflush(stdout);
	char line[100];
	while (fgets(line, sizeof line, stdin) && obey_line(&h, line))
		;
	mirror_close(h.m);
	replica_close(h.r);
	return 0;
}
