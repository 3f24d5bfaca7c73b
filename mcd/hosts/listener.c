/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accepts connections of the other hosts on the configured address, and on that for
 * keep-alives if it is another.  Each gets a thread that
 * authenticates it and then serves it in straight-line code for as long as it lasts; a LINK_DATA
 * connection goes over to its VM's thread.  Strangers cost at most MAX_CONNECTIONS threads for the
 * time of a handshake.
 */
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"
#include "mcd/hosts/hosts.h"
#include "mcd/standby/refuse.h"
#include "mcd/vm/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define MAX_CONNECTIONS 96
#define HANDSHAKE_WAIT  (2 * MC_SEC)

struct listener {
	struct daemon *d;
	int fd[2], quit; /* fd[1]: -1 where keep-alives have no address of their own */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	size_t n;
	int open[MAX_CONNECTIONS]; /* descriptors being served, -1 = free slot; shut down at the end
				    */
};

struct connection {
	struct listener *l;
	size_t slot;
	int fd;
};

static void leave(struct listener *l, size_t slot)
{
	pthread_mutex_lock(&l->lock);
	l->open[slot] = -1;
	l->n--;
	pthread_cond_broadcast(&l->idle);
	pthread_mutex_unlock(&l->lock);
}

static void refuse_data(
	struct daemon *d, int fd, const struct link_peer *peer, const struct mc_error *err)
{
	log_warn("%s wanted %s to be its standby of %s: %s", peer->name, d->cfg.name, peer->subject,
		err->msg);
	standby_refuse(fd, peer, err);
}

static void serve_data(struct daemon *d, int fd, const struct link_peer *peer)
{
	struct mc_error err = MC_ERROR_INIT;
	struct vm *vm;
	if (table_find(d->vms, peer->subject, &vm, &err) < 0)
		refuse_data(d, fd, peer, &err);
	else if (peer->purpose == LINK_DISK)
		vm_offer_disk(vm, fd, peer);
	else
		vm_offer_peer(vm, fd, peer);
}

static void *serve(void *arg)
{
	struct connection c = *(struct connection *)arg;
	free(arg);
	struct daemon *d = c.l->d;
	struct mc_error err = MC_ERROR_INIT;
	struct link_peer peer;
	int r = link_accept(c.fd, &d->link, mc_now() + HANDSHAKE_WAIT, &peer, &err);
	if (r == 0 && !config_find_host(&d->cfg, peer.name))
		r = mc_error_set(&err, -EPERM, MC_ECLASS_UNKNOWN_PEER, "host %s is not in %s",
			peer.name, d->cfg.path);
	if (r < 0) {
		log_warn("a connection was refused: %s", err.msg);
		control_emit(d->control, "PROTOCOL_ERROR",
			json_pack("{s:s, s:s}", "peer", "unauthenticated", "reason", err.msg));
	} else if (peer.purpose == LINK_DATA || peer.purpose == LINK_DISK) {
		/* The VM's thread owns it now: out of our table before it can be closed and its
		 * number reused. */
		leave(c.l, c.slot);
		serve_data(d, c.fd, &peer);
		return NULL;
	} else if (peer.purpose == LINK_VOTE) {
		voter_serve(d->voter, c.fd, &peer);
	} else {
		keepalive_serve(d->keepalive, c.fd, &peer);
	}
	leave(c.l, c.slot);
	close(c.fd);
	return NULL;
}

static void take(struct listener *l, int from)
{
	_cleanup_close_ int fd = accept4(from, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct connection *c = malloc(sizeof *c);
	size_t slot = MAX_CONNECTIONS;
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; c && i < MAX_CONNECTIONS; i++)
		if (l->open[i] < 0) {
			slot = i;
			l->open[i] = fd;
			l->n++;
			break;
		}
	pthread_mutex_unlock(&l->lock);
	if (slot == MAX_CONNECTIONS) { /* full: the far side will try again */
		free(c);
		return;
	}
	*c = (struct connection){l, slot, fd};
	if (mc_thread_start_detached("connection", serve, c) == 0) {
		mc_steal_fd(&fd);
	} else {
		leave(l, slot);
		free(c);
	}
}

static void *accept_loop(void *arg)
{
	struct listener *l = arg;
	struct pollfd p[3] = {
		{.fd = l->quit, .events = POLLIN},
		{.fd = l->fd[0], .events = POLLIN},
		{.fd = l->fd[1], .events = POLLIN},
	};
	for (;;) {
		if (poll(p, 3, -1) < 0 && errno != EINTR)
			break;
		if (p[0].revents)
			break;
		for (int i = 1; i < 3; i++)
			if (p[i].revents)
				take(l, p[i].fd);
	}
	return NULL;
}

static void close_all(struct listener *l)
{
	for (int i = 0; i < 2; i++)
		if (l->fd[i] >= 0)
			close(l->fd[i]);
	if (l->quit >= 0)
		close(l->quit);
}

static int listen_on_all(struct listener *l, const struct config_host *self, struct mc_error *err)
{
	const char *second = config_keepalive_address(self);
	l->fd[0] = link_listen(self->address, self->port, err);
	if (l->fd[0] < 0 || !strcmp(second, self->address))
		return l->fd[0] < 0 ? l->fd[0] : 0;
	l->fd[1] = link_listen(second, self->port, err);
	return l->fd[1] < 0 ? l->fd[1] : 0;
}

int listener_new(struct daemon *d, struct listener **ret, struct mc_error *err)
{
	struct listener *l = calloc(1, sizeof *l);
	if (!l)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	l->d = d;
	for (size_t i = 0; i < MAX_CONNECTIONS; i++)
		l->open[i] = -1;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->idle, NULL);
	l->fd[0] = l->fd[1] = -1;
	l->quit = eventfd(0, EFD_CLOEXEC);
	int r = listen_on_all(l, d->self, err);
	if (r == 0 && (l->quit < 0 || mc_thread_start(&l->thread, "listener", accept_loop, l) < 0))
		r = mc_error_set(
			err, -EAGAIN, MC_ECLASS_FAILED, "cannot start the listener's thread");
	if (r < 0) {
		close_all(l);
		free(l);
		return r;
	}
	*ret = l;
	return 0;
}

void listener_free(struct listener *l)
{
	if (!l)
		return;
	uint64_t one = 1;
	ssize_t n = write(l->quit, &one, sizeof one);
	(void)n;
	pthread_join(l->thread, NULL);
	close_all(l);
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < MAX_CONNECTIONS; i++)
		if (l->open[i] >= 0)
			shutdown(l->open[i], SHUT_RDWR);
	while (l->n)
		pthread_cond_wait(&l->idle, &l->lock);
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->idle);
	free(l);
}
