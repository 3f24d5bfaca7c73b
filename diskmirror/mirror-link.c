/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two threads of the link to the standby.
 *
 * Sending is cut into pieces, each with the whole of stall_after: a link that is merely slow makes
 * progress, and only one that does not is given up.
 *
 * A few writes wait a moment for others to go with them.  Waking the sender, and the standby, for
 * each write of a guest that makes thousands a second would cost the guest more than the writes do;
 * nobody waits for them before the end of their epoch, which sends everything at once.
 */
#include "diskmirror/mirror-private.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#define BATCH  64 /* messages that leave the queue together */
#define LINGER (500 * MC_USEC)

static int unexpected(const struct disk_header *h, struct mc_error *err)
{
	return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"the standby sent a disk message of type %u that was not asked for", h->type);
}

static int link_failed(int r, struct mc_error *err)
{
	if (r == -ETIMEDOUT)
		return mc_error_set(err, r, MC_ECLASS_TIMEOUT,
			"the standby took nothing of the disks' writes for too long; is the "
			"network between the hosts in order, and mcd running there?");
	return mc_error_set(err, r, MC_ECLASS_UNREACHABLE,
		"the connection for the disks' writes to the standby ended: %s",
		r == -ENODATA ? "the standby closed it" : strerror(-r));
}

static int recv_payload(struct mirror *m, const struct disk_header *h, void *buf, uint64_t deadline,
	struct mc_error *err)
{
	int r = m->link->ops->recv(m->link, buf, h->length, deadline);
	if (r < 0)
		return link_failed(r, err);
	if (XXH3_64bits(buf, h->length) != h->digest)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"what the standby sent about its disks was damaged on the way");
	return 0;
}

static int recv_header(
	struct mirror *m, struct disk_header *ret, uint64_t deadline, struct mc_error *err)
{
	uint8_t buf[DISK_HEADER_SIZE];
	int r = m->link->ops->recv(m->link, buf, sizeof buf, deadline);
	return r < 0 ? link_failed(r, err) : disk_get_header(buf, ret, err);
}

/* The standby says why it gives up. Always negative. */
static int take_error(
	struct mirror *m, const struct disk_header *h, uint64_t deadline, struct mc_error *err)
{
	uint8_t buf[DISK_TEXT_MAX];
	char text[DISK_TEXT_MAX + 1];
	int r = recv_payload(m, h, buf, deadline, err);
	if (r < 0)
		return r;
	disk_get_text(buf, h->length, text);
	return mc_error_set(err, -EREMOTEIO, MC_ECLASS_FAILED,
		"the standby cannot take the disks' writes: %s", text);
}

int mirror_say_hello(struct mirror *m, uint64_t deadline, struct mc_error *err)
{
	uint8_t payload[DISK_HELLO_MAX], header[DISK_HEADER_SIZE];
	size_t len = disk_put_hello(payload, sizeof payload, &m->hello);
	struct disk_header h = {
		.type = DISK_HELLO, .length = len, .digest = XXH3_64bits(payload, len)};
	disk_put_header(header, &h);
	struct iovec v[] = {{header, sizeof header}, {payload, len}};
	int r = m->link->ops->send(m->link, v, 2, deadline);
	if (r < 0)
		return link_failed(r, err);
	r = recv_header(m, &h, deadline, err);
	if (r < 0)
		return r;
	if (h.type == DISK_ERROR)
		return take_error(m, &h, deadline, err);
	return h.type == DISK_HELLO_OK ? 0 : unexpected(&h, err);
}

/* Sends v[0..n), piece by piece.  Changes v. */
static int send_pieces(struct mirror *m, struct iovec *v, size_t n)
{
	for (size_t at = 0; at < n;) {
		struct iovec piece[2 * BATCH];
		size_t k = 0, bytes = 0;
		while (at < n && bytes < MIRROR_SEND_PIECE) {
			size_t take = MIRROR_SEND_PIECE - bytes;
			if (take > v[at].iov_len)
				take = v[at].iov_len;
			piece[k++] = (struct iovec){v[at].iov_base, take};
			bytes += take;
			v[at].iov_base = (char *)v[at].iov_base + take;
			v[at].iov_len -= take;
			if (!v[at].iov_len)
				at++;
		}
		int r = m->link->ops->send(m->link, piece, k, mc_now() + m->stall_after);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Waits for messages that may be sent, and lists them; 0 = it is over.  They stay in the queue:
 * their memory counts until they are sent. */
static size_t next_batch(struct mirror *m, struct iovec v[2 * BATCH], size_t *ret_n)
{
	size_t items = 0, n = 0, bytes = 0;
	pthread_mutex_lock(&m->lock);
	m->sender_waits = MIRROR_WAITS_FOR_ANY;
	while (!m->broken && !m->closing && (!m->head || m->head->waits))
		pthread_cond_wait(&m->work, &m->lock);
	struct timespec until = mc_timespec(mc_now() + LINGER);
	m->sender_waits = MIRROR_WAITS_FOR_MORE;
	while (!m->broken && !m->closing && m->out_total >= m->hurry_to &&
		m->in_total - m->out_total < MIRROR_SEND_PIECE)
		if (pthread_cond_timedwait(&m->work, &m->lock, &until))
			break;
	m->sender_waits = MIRROR_WAITS_NOT;
	bool over = m->broken || m->closing;
	for (struct mirror_item *i = over ? NULL : m->head;
		i && !i->waits && items < BATCH && bytes < MIRROR_SEND_PIECE; i = i->next) {
		v[n++] = (struct iovec){i->header, sizeof i->header};
		if (i->data)
			v[n++] = (struct iovec){(void *)i->data, i->h.length};
		bytes += sizeof i->header + (i->data ? i->h.length : 0);
		items++;
	}
	pthread_mutex_unlock(&m->lock);
	*ret_n = n;
	return items;
}

static void pop(struct mirror *m, size_t items, uint64_t bytes)
{
	pthread_mutex_lock(&m->lock);
	struct mirror_item *first = m->head, *last = first;
	assert(items && first);
	for (size_t i = 1; i < items; i++)
		last = last->next;
	m->head = last->next;
	if (!m->head)
		m->tail = &m->head;
	last->next = NULL;
	for (struct mirror_item *i = first; i; i = i->next) {
		/* nothing is sent before mirror_end has said how its epoch ended */
		assert(!i->waits);
		m->out_total += i->cost;
	}
	assert(m->out_total <= m->in_total && (m->head || m->out_total == m->in_total));
	m->stats.sent_bytes += bytes;
	pthread_cond_broadcast(&m->done);
	pthread_mutex_unlock(&m->lock);
	mirror_items_free(first);
}

void *mirror_send_thread(void *arg)
{
	struct mirror *m = arg;
	struct iovec v[2 * BATCH];
	size_t items, n;
	while ((items = next_batch(m, v, &n))) {
		uint64_t bytes = 0;
		for (size_t i = 0; i < n; i++)
			bytes += v[i].iov_len;
		int r = send_pieces(m, v, n);
		if (r < 0) {
			struct mc_error err = MC_ERROR_INIT;
			link_failed(r, &err);
			mirror_fail(m, err.code, err.cls, "%s", err.msg);
			break;
		}
		pop(m, items, bytes);
	}
	return NULL;
}

/* Entries are stored a part at a time, for the sake of a barrier that waits for the lock. */
static int take_table(struct mirror *m, const struct disk_header *h, struct mc_error *err)
{
	uint64_t first = h->offset / DISK_BLOCK, n = h->length / DISK_DIGEST_SIZE;
	if (h->disk >= m->hello.n_disks)
		return unexpected(h, err);
	uint64_t size = m->hello.disks[h->disk].size;
	uint64_t blocks = (size + DISK_BLOCK - 1) / DISK_BLOCK;
	if (first >= blocks || n > blocks - first)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the standby describes blocks beyond the end of disk %s",
			m->hello.disks[h->disk].id);
	_cleanup_free_ uint8_t *buf = malloc(h->length);
	if (!buf)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left on this host to mirror the VM's disks; free some");
	int r = recv_payload(m, h, buf, mc_now() + m->stall_after, err);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < n; i += 256) {
		size_t part = n - i < 256 ? (size_t)(n - i) : 256;
		pthread_mutex_lock(&m->lock);
		if (m->tables[h->disk])
			mirror_table_store(
				m->tables[h->disk], first + i, part, buf + i * DISK_DIGEST_SIZE);
		pthread_mutex_unlock(&m->lock);
	}
	return 0;
}

static int take_data(struct mirror *m, const struct disk_header *h, struct mc_error *err)
{
	pthread_mutex_lock(&m->lock);
	struct mirror_read *q = m->reads;
	if (q && q->h.disk == h->disk && q->h.offset == h->offset && q->h.length == h->length) {
		q->state = MIRROR_READ_FILLING;
		m->reads = q->next;
		if (!m->reads)
			m->reads_tail = &m->reads;
	} else {
		q = NULL;
	}
	pthread_mutex_unlock(&m->lock);
	if (!q)
		return unexpected(h, err);

	int r = recv_payload(m, h, q->buf, mc_now() + m->stall_after, err);
	pthread_mutex_lock(&m->lock);
	/* From here on q is its owner's again, who may be gone with the next unlock. */
	q->state = r < 0 ? MIRROR_READ_QUEUED : MIRROR_READ_DONE;
	pthread_cond_broadcast(&m->done);
	pthread_mutex_unlock(&m->lock);
	return r;
}

void *mirror_receive_thread(void *arg)
{
	struct mirror *m = arg;
	struct mc_error err = MC_ERROR_INIT;
	int r;
	do {
		struct disk_header h;
		/* The standby speaks when it has something to say; shutdown ends the wait. */
		r = recv_header(m, &h, UINT64_MAX, &err);
		if (r < 0)
			break;
		switch (h.type) {
		case DISK_TABLE:
			r = take_table(m, &h, &err);
			break;
		case DISK_DATA:
			r = take_data(m, &h, &err);
			break;
		case DISK_ERROR:
			r = take_error(m, &h, mc_now() + m->stall_after, &err);
			break;
		default:
			r = unexpected(&h, &err);
		}
	} while (r == 0);
	mirror_fail(m, err.code, err.cls, "%s", err.msg);
	return NULL;
}
