/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The life of the primary's side of the mirror, and its epochs.  README.md says what holds. */
#include "diskmirror/mirror-private.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

static int init(struct mirror *m, const struct mirror_config *c, struct mc_error *err)
{
	pthread_mutex_init(&m->lock, NULL);
	mc_cond_init(&m->work);
	mc_cond_init(&m->done);

	m->hello = *c->hello;
	m->budget = c->budget;
	m->stall_after = c->stall_after;
	m->broken_fn = c->broken;
	m->pressure_fn = c->pressure;
	m->ctx = c->ctx;
	m->tail = &m->head;
	m->reads_tail = &m->reads;
	int r = disk_hash_new(m->hello.seed, &m->hash, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->hello.n_disks; i++) {
		m->tables[i] = mirror_table_new(m->hello.disks[i].size, m->hash);
		if (!m->tables[i])
			log_warn("no memory to compare disk %s with the standby's copy; sending "
				 "all of it",
				m->hello.disks[i].id);
	}
	return 0;
}

static int start_threads(struct mirror *m, struct mc_error *err)
{
	int r = mc_thread_start(&m->sender, "mirror-send", mirror_send_thread, m);
	m->sender_runs = r == 0;
	if (r == 0) {
		r = mc_thread_start(&m->receiver, "mirror-receive", mirror_receive_thread, m);
		m->receiver_runs = r == 0;
	}
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_FAILED,
			"cannot start a thread to mirror the VM's disks: %s", strerror(-r));
	return nbd_server_start(m->server, err);
}

int mirror_open(const struct mirror_config *c, struct disklink *link, uint64_t deadline,
	struct mirror **ret, struct mc_error *err)
{
	struct nbd_export exports[DISKS_MAX];
	struct mirror *m = calloc(1, sizeof *m);
	if (!m) {
		link->ops->close(link);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left on this host to mirror the VM's disks; free some");
	}
	m->link = link;
	int r = init(m, c, err);
	if (r == 0)
		r = mirror_say_hello(m, deadline, err);
	/* Only now: what connects to the socket can be sure that there is a standby. */
	for (size_t i = 0; i < m->hello.n_disks; i++)
		exports[i] = (struct nbd_export){m->hello.disks[i].id, m->hello.disks[i].size};
	if (r == 0)
		r = nbd_server_new(c->socket_path, exports, m->hello.n_disks, &mirror_nbd_ops, m,
			&m->server, err);
	if (r == 0)
		r = start_threads(m, err);
	if (r < 0) {
		mirror_close(m);
		return r;
	}
	*ret = m;
	return 0;
}

static void free_tables(struct mirror *m)
{
	struct mirror_table *tables[DISKS_MAX];
	pthread_mutex_lock(&m->lock);
	memcpy(tables, m->tables, sizeof tables);
	memset(m->tables, 0, sizeof m->tables);
	pthread_mutex_unlock(&m->lock);
	for (size_t i = 0; i < DISKS_MAX; i++)
		mirror_table_free(tables[i]);
}

void mirror_close(struct mirror *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->closing = true;
	pthread_cond_broadcast(&m->work);
	pthread_cond_broadcast(&m->done);
	pthread_mutex_unlock(&m->lock);

	/* The link before the server: a connection's thread may wait for the receiver to let go of
	 * its buffer. */
	m->link->ops->shutdown(m->link);
	if (m->sender_runs)
		pthread_join(m->sender, NULL);
	if (m->receiver_runs)
		pthread_join(m->receiver, NULL);
	nbd_server_free(m->server);
	m->link->ops->close(m->link);
	free_tables(m);
	mirror_items_free(m->head);
	disk_hash_free(m->hash);
	free(m->running);
	free(m->closed);
	pthread_cond_destroy(&m->work);
	pthread_cond_destroy(&m->done);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* Under the lock. */
static void start_epoch(struct mirror *m, uint64_t epoch)
{
	assert(epoch > m->epoch); /* epochs only grow */
	m->epoch = epoch;
	m->sum = (struct disk_epoch_sum){0};
	disk_digest_init(&m->digest, m->hello.generation, epoch);
	m->pressed = false;
	m->stats.epoch_bytes = 0;
	if (m->running) {
		struct mirror_extents *x = m->closed;
		m->closed = m->running;
		m->running = x;
		x->n = 0;
		x->all = false;
	}
}

void mirror_begin(struct mirror *m, uint64_t epoch)
{
	assert(epoch);
	pthread_mutex_lock(&m->lock);
	assert(!m->epoch);
	start_epoch(m, epoch);
	pthread_mutex_unlock(&m->lock);
	free_tables(m);
}

void mirror_barrier(struct mirror *m, uint64_t n, struct disk_epoch_sum *ret)
{
	/* Before the lock: it may take more than the few microseconds that all the rest does. */
	struct disk_header h = {.type = DISK_END};
	struct mirror_item *end = mirror_item_new(&h, NULL);
	uint8_t *payload = malloc(sizeof(struct disk_epoch_sum));

	pthread_mutex_lock(&m->lock);
	assert(n && n == m->epoch);
	m->sum.digest = m->digest.h;
	*ret = m->sum;
	bool enough = end && payload;
	if (enough && !m->broken) {
		/* The former one's mirror_end must have been called, or the standby would not get
		 * this. */
		assert(!m->open_end);
		end->h.length = disk_put_sum(payload, sizeof(struct disk_epoch_sum), ret);
		end->h.digest = XXH3_64bits(payload, end->h.length);
		end->data = end->owned = mc_steal_ptr(payload);
		end->waits = true;
		m->open_end = end;
		mirror_queue_add(m, mc_steal_ptr(end));
	}
	start_epoch(m, n + 1);
	pthread_mutex_unlock(&m->lock);
	free(payload);
	free(end);
	if (!enough)
		mirror_fail(m, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left on this host to mirror the VM's disks; free some, "
			"and protect the VM again");
}

int mirror_end(struct mirror *m, uint64_t n, bool flushed, struct mc_error *err)
{
	pthread_mutex_lock(&m->lock);
	if (!m->broken) {
		struct mirror_item *end = m->open_end;
		assert(end && end->h.epoch == n && end->waits && n < m->epoch);
		end->h.flags = flushed ? DISK_FLUSHED : 0;
		disk_put_header(end->header, &end->h);
		end->waits = false;
		m->open_end = NULL;
		mirror_queue_hurry(m);
	}
	pthread_mutex_unlock(&m->lock);
	return mirror_error(m, err);
}

void mirror_get_stats(struct mirror *m, struct mirror_stats *ret)
{
	unsigned connections = nbd_server_connections(m->server);
	pthread_mutex_lock(&m->lock);
	*ret = m->stats;
	ret->queued_bytes = m->in_total - m->out_total;
	ret->connections = connections;
	pthread_mutex_unlock(&m->lock);
}
