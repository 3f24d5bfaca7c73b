/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/primary/flush.h"

#include "common/clock.h"
#include "common/thread.h"
#include "mcd/config/config.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct flusher {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t wanted, done; /* numbers of rounds */
	bool dropped;          /* by its owner: the thread frees it, whenever its disk lets it */
	size_t n;
	int fds[CONFIG_DISKS_MAX];
};

static void destroy(struct flusher *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void *work(void *arg)
{
	struct flusher *s = arg;
	pthread_mutex_lock(&s->lock);
	while (!s->dropped) {
		if (s->done == s->wanted) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		uint64_t round = s->wanted;
		pthread_mutex_unlock(&s->lock);
		/* Twice: the first may take long, and the second has what was written meanwhile. */
		for (size_t i = 0; i < 2 * s->n; i++)
			if (s->fds[i % s->n] >= 0)
				(void)fdatasync(s->fds[i % s->n]); /* an error is QEMU's to see */
		pthread_mutex_lock(&s->lock);
		s->done = round;
		pthread_cond_signal(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	destroy(s);
	return NULL;
}

struct flusher *flusher_new(const char *const *paths, size_t n)
{
	struct flusher *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	mc_cond_init(&s->changed);
	pthread_mutex_init(&s->lock, NULL);
	for (s->n = 0; s->n < n && s->n < CONFIG_DISKS_MAX; s->n++)
		s->fds[s->n] = open(paths[s->n], O_RDONLY | O_CLOEXEC);
	int r = mc_thread_start_detached("image-flush", work, s);
	if (r == 0)
		return s;
	destroy(s);
	return NULL;
}

void flusher_free(struct flusher *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->dropped = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void flusher_run(struct flusher *s, uint64_t timeout_ns)
{
	struct timespec until = mc_timespec(mc_now() + timeout_ns);
	pthread_mutex_lock(&s->lock);
	/* If a round still runs the disk is slow: waiting for one more would only be longer. */
	uint64_t round = s->wanted + (s->done == s->wanted);
	s->wanted = round;
	pthread_cond_signal(&s->changed);
	while (s->done < round && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
		;
	pthread_mutex_unlock(&s->lock);
}
