/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What waits to be sent, in the order in which it will be.
 *
 * Writes enter before they are answered, so memory can exceed the budget by one request of each
 * connection.  An answer waits for its own position, not for the queue to be short: under a steady
 * load of many connections the latter might never be seen by one of them.
 */
#include "diskmirror/mirror-private.h"

#include "common/clock.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

struct mirror_item *mirror_item_new(const struct disk_header *h, const void *data)
{
	struct mirror_item *i = calloc(1, sizeof *i);
	if (!i)
		return NULL;
	i->h = *h;
	i->data = data;
	i->cost = sizeof *i;
	i->h.digest = XXH3_64bits(data ? data : "", data ? h->length : 0);
	return i;
}

void mirror_items_free(struct mirror_item *i)
{
	while (i) {
		struct mirror_item *next = i->next;
		free(i->owned);
		free(i);
		i = next;
	}
}

static bool is_write(const struct disk_header *h)
{
	return h->type == DISK_WRITE || h->type == DISK_ZERO || h->type == DISK_TRIM;
}

void mirror_queue_hurry(struct mirror *m)
{
	m->hurry_to = m->in_total;
	pthread_cond_signal(&m->work);
}

uint64_t mirror_queue_add(struct mirror *m, struct mirror_item *i)
{
	uint64_t payload = i->data ? i->h.length : 0;
	assert(is_write(&i->h) ? i->h.length > 0 : !i->waits || i->h.type == DISK_END);
	assert(m->epoch || i->h.type != DISK_END);
	i->h.epoch = is_write(&i->h) || i->h.type == DISK_END ? m->epoch : 0;
	disk_put_header(i->header, &i->h);
	if (is_write(&i->h)) {
		disk_digest_add(&m->digest, i->header);
		mirror_extents_add(m->running, &i->h);
		m->sum.writes++;
		m->sum.bytes += payload;
		m->stats.epoch_bytes += DISK_HEADER_SIZE + payload;
	}
	i->next = NULL;
	assert(!*m->tail && m->in_total >= m->out_total);
	*m->tail = i;
	m->tail = &i->next;
	m->in_total += i->cost;
	if (m->in_total - m->out_total > m->stats.queued_peak)
		m->stats.queued_peak = m->in_total - m->out_total;
	if (i->h.type == DISK_READ)
		mirror_queue_hurry(m);
	else if (m->sender_waits == MIRROR_WAITS_FOR_ANY ||
		 (m->sender_waits == MIRROR_WAITS_FOR_MORE &&
			 m->in_total - m->out_total >= MIRROR_SEND_PIECE))
		pthread_cond_signal(&m->work);
	return m->in_total;
}

bool mirror_queue_presses(struct mirror *m)
{
	if (!m->epoch || m->pressed || m->stats.epoch_bytes <= m->budget / 2)
		return false;
	m->pressed = true;
	return true;
}

int mirror_queue_wait(struct mirror *m, uint64_t position)
{
	bool late = false;
	struct timespec until = {0};

	pthread_mutex_lock(&m->lock);
	while (!m->broken && !m->closing && !late && position > m->out_total + m->budget) {
		if (!until.tv_sec)
			until = mc_timespec(mc_now() + m->stall_after);
		late = pthread_cond_timedwait(&m->done, &m->lock, &until) == ETIMEDOUT;
	}
	late = late && position > m->out_total + m->budget;
	bool over = m->broken || m->closing || late;
	pthread_mutex_unlock(&m->lock);
	if (late)
		mirror_fail(m, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
			"a write of the guest to its disk has waited %.1f s for the standby, so "
			"the disks are not mirrored any more and the guest goes on; is the network "
			"between the hosts fast enough for what the guest writes?",
			(double)m->stall_after / MC_SEC);
	return over ? -ESHUTDOWN : 0;
}
