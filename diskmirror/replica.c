/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a standby's replica, and the VM thread's wait for an epoch.  What is done with it
 * then is in replica-commit.c.
 */
#include "diskmirror/replica-private.h"

#include "common/cleanup.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

static void free_config(struct replica_config *c)
{
	free((void *)(uintptr_t)c->state_path);
	free((void *)(uintptr_t)c->journal_path);
	free((void *)(uintptr_t)c->spill_dir);
	free((void *)(uintptr_t)c->primary);
	free((void *)(uintptr_t)c->disks);
}

/* The caller's strings may be gone while the session lasts. */
static bool copy_config(struct replica_config *to, const struct replica_config *c)
{
	*to = *c;
	to->state_path = strdup(c->state_path);
	to->journal_path = strdup(c->journal_path);
	to->spill_dir = strdup(c->spill_dir);
	to->primary = c->primary ? strdup(c->primary) : NULL;
	struct replica_disk *d = calloc(c->n_disks ? c->n_disks : 1, sizeof *d);
	if (d && c->n_disks)
		memcpy(d, c->disks, c->n_disks * sizeof *d);
	to->disks = d;
	return to->state_path && to->journal_path && to->spill_dir && d &&
	       (to->primary || !c->primary);
}

static struct replica *replica_new(const struct replica_config *c, struct disklink *link)
{
	struct replica *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->link = link;
	r->answers_tail = &r->answers;
	for (size_t i = 0; i < DISKS_MAX; i++)
		r->files_[i].fd = -1;
	mc_cond_init(&r->changed);
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->files, NULL);
	r->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (copy_config(&r->c, c) && r->kick >= 0)
		return r;
	r->link = NULL;
	replica_close(r);
	return NULL;
}

static int start(struct replica *r, struct mc_error *err)
{
	int n = mc_thread_start(&r->sender, "replica-send", replica_sender, r);
	if (n == 0) {
		n = mc_thread_start(&r->receiver, "replica-receive", replica_receiver, r);
		r->started = n == 0;
		if (n) {
			pthread_mutex_lock(&r->lock);
			r->stop = true;
			pthread_cond_broadcast(&r->changed);
			pthread_mutex_unlock(&r->lock);
			pthread_join(r->sender, NULL);
		}
	}
	return n == 0 ? 0
		      : mc_error_set(err, n, MC_ECLASS_FAILED,
				"cannot start a thread for a VM's disks: %s", strerror(-n));
}

static void tell_why(struct disklink *link, const struct mc_error *why)
{
	struct disk_header h = {.type = DISK_ERROR, .length = strlen(why->msg)};
	static_assert(sizeof why->msg <= DISK_TEXT_MAX, "a sentence fits");
	if (h.length)
		replica_send(link, &h, why->msg, mc_now() + MC_SEC, NULL);
}

int replica_open(const struct replica_config *c, struct disklink *link, uint64_t deadline,
	struct replica **ret, struct mc_error *err)
{
	struct mc_error why = MC_ERROR_INIT;
	struct replica *r = replica_new(c, link);
	int n = r ? replica_setup(r, deadline, &why)
		  : mc_error_set(&why, -ENOMEM, MC_ECLASS_MEMORY,
			    "there is no memory left for the disks of a VM; free some on this "
			    "host");
	if (n == 0)
		n = start(r, &why);
	if (n == 0) {
		*ret = r;
		return 0;
	}
	if (strcmp(why.cls, MC_ECLASS_UNREACHABLE))
		tell_why(link, &why);
	if (r)
		replica_close(r);
	else
		link->ops->close(link);
	if (err)
		*err = why;
	return n;
}

static void drop_epochs(struct replica *r, bool committed_too)
{
	pthread_mutex_lock(&r->lock);
	struct held_epoch **at = &r->epochs;
	while (*at && !committed_too && (*at)->n <= r->committed)
		at = &(*at)->next;
	struct held_epoch *e = *at;
	*at = NULL;
	for (struct held_epoch *next; e; e = next) {
		next = e->next;
		assert(r->stats.held_bytes >= e->memory);
		r->stats.held_bytes -= e->memory;
		held_free(e);
	}
	assert(r->epochs || !r->stats.held_bytes);
	pthread_mutex_unlock(&r->lock);
}

void replica_cut(struct replica *r)
{
	if (r->started) {
		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_cond_broadcast(&r->changed);
		pthread_mutex_unlock(&r->lock);
		r->link->ops->shutdown(r->link);
		pthread_join(r->receiver, NULL);
		pthread_join(r->sender, NULL);
		r->started = false;
	}
	drop_epochs(r, false);
}

void replica_close(struct replica *r)
{
	if (!r)
		return;
	replica_cut(r);
	drop_epochs(r, true);
	for (struct answer *a = r->answers, *next; a; a = next) {
		next = a->next;
		free(a);
	}
	if (r->link)
		r->link->ops->close(r->link);
	diskio_free(r->io);
	diskio_free(r->sync_io);
	journal_close(r->journal);
	for (size_t i = 0; i < DISKS_MAX; i++)
		diskfile_close(&r->files_[i]);
	if (r->kick >= 0)
		close(r->kick);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->files);
	free_config(&r->c);
	free(r);
}

/* 1: is there; 0: not yet. */
static int look_for(
	struct replica *r, uint64_t n, const struct disk_epoch_sum *want, struct mc_error *err)
{
	int x = 0;
	pthread_mutex_lock(&r->lock);
	struct held_epoch *e = r->epochs;
	while (e && e->n <= r->committed) /* hardened, but not applied yet */
		e = e->next;
	/* An epoch that has come whole can be committed though the link broke since. */
	if (r->disk_failed || (r->error.code && !(e && e->ended)) || r->stop) {
		x = r->error.code ? r->error.code : -ECANCELED;
		if (!r->error.code)
			mc_error_set(err, x, MC_ECLASS_STATE,
				"the disk stream was cut: nothing can be committed");
		else if (err)
			*err = r->error;
	} else if (e && e->n != n) {
		x = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the primary commits epoch %llu, but the disk writes that came are those "
			"of %llu",
			(unsigned long long)n, (unsigned long long)e->n);
	} else if (e && e->ended) {
		x = !memcmp(&e->sum, want, sizeof *want)
			    ? 1
			    : mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				      "the disk writes of epoch %llu are not those that its COMMIT "
				      "tells of: %llu came, %llu were announced",
				      (unsigned long long)n, (unsigned long long)e->sum.writes,
				      (unsigned long long)want->writes);
	}
	pthread_mutex_unlock(&r->lock);
	return x;
}

int replica_wait(struct replica *r, uint64_t n, const struct disk_epoch_sum *want,
	uint64_t deadline, int wake_fd, struct mc_error *err)
{
	struct pollfd p[2] = {{r->kick, POLLIN, 0}, {wake_fd, POLLIN, 0}};
	for (;;) {
		eventfd_t any;
		eventfd_read(r->kick, &any); /* before looking: what comes after rings again */
		int x = look_for(r, n, want, err);
		if (x)
			return x > 0 ? 0 : x;
		if (poll(p, 2, mc_ms_left(deadline)) < 0 && errno != EINTR)
			return mc_error_set(err, -errno, MC_ECLASS_FAILED,
				"cannot wait for disk writes: %s", strerror(errno));
		if (p[0].revents)
			continue;
		if (wake_fd >= 0 && p[1].revents)
			return mc_error_set(err, -EINTR, MC_ECLASS_FAILED,
				"woken while waiting for disk writes");
		if (mc_now() >= deadline)
			return mc_error_set(err, -ETIMEDOUT, MC_ECLASS_TIMEOUT,
				"the disk writes of epoch %llu did not come in time",
				(unsigned long long)n);
	}
}

int replica_error(struct replica *r, struct mc_error *err)
{
	pthread_mutex_lock(&r->lock);
	int x = r->error.code;
	if (x < 0 && err)
		*err = r->error;
	pthread_mutex_unlock(&r->lock);
	return x;
}

void replica_get_stats(struct replica *r, struct replica_stats *ret)
{
	pthread_mutex_lock(&r->lock);
	*ret = r->stats;
	pthread_mutex_unlock(&r->lock);
}
