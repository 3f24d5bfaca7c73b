/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/control/mailbox.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct control_mailbox {
	pthread_mutex_t lock;
	unsigned refs;
	int event_fd;
	bool closed;
	unsigned waiting, dropped;
	struct control_letter *first, **last;
};

int control_mailbox_new(struct control_mailbox **ret, struct mc_error *err)
{
	struct control_mailbox *m = calloc(1, sizeof *m);
	int fd = m ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (fd < 0) {
		int code = m ? -errno : -ENOMEM;
		free(m);
		return mc_error_set(err, code, MC_ECLASS_FAILED,
			"cannot make an eventfd for the control socket: %s", strerror(-code));
	}
	pthread_mutex_init(&m->lock, NULL);
	m->refs = 1;
	m->event_fd = fd;
	m->last = &m->first;
	*ret = m;
	return 0;
}

struct control_mailbox *control_mailbox_ref(struct control_mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	assert(m->refs);
	m->refs++;
	pthread_mutex_unlock(&m->lock);
	return m;
}

static void free_letters(struct control_letter *l)
{
	while (l) {
		struct control_letter *next = l->next;
		control_letter_free(l);
		l = next;
	}
}

void control_mailbox_unref(struct control_mailbox *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	assert(m->refs);
	bool last = --m->refs == 0;
	pthread_mutex_unlock(&m->lock);
	if (!last)
		return;
	free_letters(m->first);
	close(m->event_fd);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

int control_mailbox_fd(const struct control_mailbox *m)
{
	return m->event_fd;
}

void control_mailbox_post(
	struct control_mailbox *m, enum control_letter_kind kind, uint64_t client, char *line)
{
	struct control_letter *l = line ? malloc(sizeof *l) : NULL;
	pthread_mutex_lock(&m->lock);
	bool full = m->waiting >= CONTROL_MAILBOX_MAX && kind != CONTROL_ANSWER;
	if (!l || m->closed || full) {
		m->dropped += !m->closed;
		pthread_mutex_unlock(&m->lock);
		free(l);
		free(line);
		return;
	}
	*l = (struct control_letter){.kind = kind, .client = client, .line = line};
	*m->last = l;
	m->last = &l->next;
	m->waiting++;
	/* Under the lock: otherwise the last reference could go, and the descriptor with it,
	 * between the unlock and the write. */
	int r = eventfd_write(m->event_fd, 1);
	(void)r; /* EAGAIN only when the counter is full: then it is readable anyway */
	pthread_mutex_unlock(&m->lock);
}

struct control_letter *control_mailbox_take(struct control_mailbox *m, unsigned *ret_dropped)
{
	eventfd_t count;
	pthread_mutex_lock(&m->lock);
	int r = eventfd_read(m->event_fd, &count);
	(void)r; /* EAGAIN: woken for nothing */
	struct control_letter *l = m->first;
	m->first = NULL;
	m->last = &m->first;
	m->waiting = 0;
	*ret_dropped = m->dropped;
	m->dropped = 0;
	pthread_mutex_unlock(&m->lock);
	return l;
}

void control_letter_free(struct control_letter *l)
{
	if (!l)
		return;
	free(l->line);
	free(l);
}

void control_mailbox_close(struct control_mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	m->closed = true;
	struct control_letter *l = m->first;
	m->first = NULL;
	m->last = &m->first;
	m->waiting = 0;
	pthread_mutex_unlock(&m->lock);
	free_letters(l);
}
