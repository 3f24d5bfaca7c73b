/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The standby's sending thread: the digest table, answers to READs between its parts, and when the
 * standby gives up, the reason.  When it ends the link is shut down, which ends the receiver.
 */
#include "diskmirror/replica-private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <xxhash.h>

void replica_break(struct replica *r, const struct mc_error *why, bool tell)
{
	pthread_mutex_lock(&r->lock);
	if (!r->error.code) {
		r->error = *why;
		r->tell = tell;
	}
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	eventfd_write(r->kick, 1);
}

int replica_send(struct disklink *link, struct disk_header *h, const void *data, uint64_t deadline,
	struct mc_error *err)
{
	uint8_t head[DISK_HEADER_SIZE];
	if (data)
		h->digest = XXH3_64bits(data, h->length);
	disk_put_header(head, h);
	struct iovec iov[2] = {{head, sizeof head}, {(void *)(uintptr_t)data, h->length}};
	int n = link->ops->send(link, iov, data ? 2 : 1, deadline);
	return n == 0 ? 0
		      : mc_error_set(err, n, MC_ECLASS_UNREACHABLE,
				"cannot send to the primary on the disk stream: %s", strerror(-n));
}

static void farewell(struct replica *r, const struct mc_error *why)
{
	size_t len = strlen(why->msg);
	if (!len)
		return;
	struct disk_header h = {
		.type = DISK_ERROR, .length = len < DISK_TEXT_MAX ? len : DISK_TEXT_MAX};
	replica_send(r->link, &h, why->msg, mc_now() + FAREWELL_TIME, NULL);
}

static struct answer *take_answer(struct replica *r)
{
	struct answer *a = r->answers;
	if (!a)
		return NULL;
	r->answers = a->next;
	if (!r->answers)
		r->answers_tail = &r->answers;
	assert(r->answers_bytes >= a->h.length);
	r->answers_bytes -= a->h.length;
	pthread_cond_broadcast(&r->changed);
	return a;
}

/* One thing to send; 0: nothing more of the table. */
static int send_something(
	struct replica *r, struct answer *a, struct table *t, struct mc_error *err)
{
	struct disk_header h;
	if (a)
		return replica_send(r->link, &a->h, a->data, mc_now() + MESSAGE_TIME, err) ?: 1;
	if (!table_next(t, &h))
		return 0;
	return replica_send(r->link, &h, t->entries, mc_now() + MESSAGE_TIME, err) ?: 1;
}

void *replica_sender(void *replica)
{
	struct replica *r = replica;
	struct mc_error err = MC_ERROR_INIT;
	struct table t;
	int n = table_open(&t, r, &err);
	bool table = true;
	pthread_mutex_lock(&r->lock);
	while (n >= 0 && !r->stop && !r->error.code) {
		struct answer *a = take_answer(r);
		if (!a && !table) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		n = send_something(r, a, &t, &err);
		free(a);
		table = table && n != 0;
		pthread_mutex_lock(&r->lock);
	}
	bool tell = r->tell && !r->stop;
	struct mc_error why = r->error;
	pthread_mutex_unlock(&r->lock);
	if (n < 0)
		replica_break(r, &err, false);
	else if (tell)
		farewell(r, &why);
	r->link->ops->shutdown(r->link);
	table_close(&t);
	return NULL;
}
