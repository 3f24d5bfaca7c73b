/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket and the threads of the NBD server.
 *
 * The connections' descriptors are shut down under the lock and closed, also under it, only by
 * their own threads: a number that is in the list is never somebody else's descriptor.
 */
#include "diskmirror/nbd-server.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/thread.h"
#include "diskmirror/nbd-private.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

struct connection {
	struct nbd_server *server;
	pthread_t thread;
	int fd;    /* -1 = closed */
	bool used; /* the thread must be joined before the place is used again */
	bool ended;
};

struct nbd_server {
	const struct nbd_ops *ops;
	void *ctx;
	struct nbd_export *exports;
	size_t n_exports;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	bool bound, started;
	int listener;
	pthread_t acceptor;

	pthread_mutex_t lock;
	bool shut;
	struct connection connections[NBD_CONNECTIONS_MAX];
};

static void *serve_connection(void *arg)
{
	struct connection *c = arg;
	struct nbd_server *s = c->server;
	struct mc_error err = MC_ERROR_INIT;
	int i = nbd_handshake(c->fd, s->exports, s->n_exports, &err);
	if (i >= 0)
		nbd_transmission(c->fd, s->ops, s->ctx, (unsigned)i, s->exports[i].size, &err);
	if (err.code)
		log_warn("%s; closing its connection to %s", err.msg, s->path);

	pthread_mutex_lock(&s->lock);
	close(c->fd);
	c->fd = -1;
	c->ended = true;
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Finds a place, and clears it of a thread that has ended.  Under the lock. */
static struct connection *free_place(struct nbd_server *s)
{
	for (size_t i = 0; i < NBD_CONNECTIONS_MAX; i++) {
		struct connection *c = &s->connections[i];
		if (c->used && c->ended) {
			pthread_join(c->thread, NULL); /* it only has to return */
			c->used = false;
		}
		if (!c->used)
			return c;
	}
	return NULL;
}

static void add_connection(struct nbd_server *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	struct connection *c = s->shut ? NULL : free_place(s);
	if (c) {
		*c = (struct connection){.server = s, .fd = fd, .used = true};
		int r = mc_thread_start(&c->thread, "nbd-serve", serve_connection, c);
		if (r < 0) {
			log_warn("no thread for another NBD connection to %s (%s), closing it",
				s->path, strerror(-r));
			c->used = false;
			close(fd);
		}
	} else {
		if (!s->shut)
			log_warn("more than %d NBD connections to %s, closing the new one",
				NBD_CONNECTIONS_MAX, s->path);
		close(fd);
	}
	pthread_mutex_unlock(&s->lock);
}

static void *accept_all(void *arg)
{
	struct nbd_server *s = arg;
	for (;;) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0) {
			add_connection(s, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		/* EINVAL after nbd_server_shut.  Without descriptors or memory accept would fail at
		 * once and forever: better that QEMU fails to connect, and says so. */
		if (errno != EINVAL)
			log_warn("no more NBD connections to %s: %m", s->path);
		shutdown(s->listener, SHUT_RDWR);
		return NULL;
	}
}

static int bind_socket(struct nbd_server *s, struct mc_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct stat st;
	memcpy(a.sun_path, s->path, sizeof a.sun_path);

	s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->listener < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot make a socket for QEMU's disk writes: %m");
	/* bind(2) gives the file the socket's own mode, so that there is no moment when others
	 * could connect. */
	fchmod(s->listener, 0600);
	if (lstat(s->path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(s->path);
	if (bind(s->listener, (struct sockaddr *)&a, sizeof a) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot make the socket %s for QEMU's disk writes: %m", s->path);
	s->bound = true;
	if (listen(s->listener, 16) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_FAILED,
			"cannot listen on %s for QEMU's disk writes: %m", s->path);
	return 0;
}

int nbd_server_new(const char *path, const struct nbd_export *exports, size_t n_exports,
	const struct nbd_ops *ops, void *ctx, struct nbd_server **ret, struct mc_error *err)
{
	struct nbd_server *s = calloc(1, sizeof *s);
	if (!s || !(s->exports = calloc(n_exports, sizeof *exports))) {
		free(s);
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
			"there is no memory left to mirror disks; free some on this host");
	}
	memcpy(s->exports, exports, n_exports * sizeof *exports);
	s->n_exports = n_exports;
	s->ops = ops;
	s->ctx = ctx;
	s->listener = -1;
	pthread_mutex_init(&s->lock, NULL);
	int r = 0;
	if (strlen(path) >= sizeof s->path)
		r = mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the path %s is longer than the %zu bytes a socket's may have; choose a "
			"shorter run directory",
			path, sizeof s->path - 1);
	else
		strcpy(s->path, path);
	if (r == 0)
		r = bind_socket(s, err);
	if (r < 0) {
		nbd_server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int nbd_server_start(struct nbd_server *s, struct mc_error *err)
{
	int r = mc_thread_start(&s->acceptor, "nbd-accept", accept_all, s);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_FAILED,
			"cannot start a thread for QEMU's disk writes: %s", strerror(-r));
	s->started = true;
	return 0;
}

void nbd_server_shut(struct nbd_server *s)
{
	pthread_mutex_lock(&s->lock);
	s->shut = true;
	shutdown(s->listener, SHUT_RDWR);
	for (size_t i = 0; i < NBD_CONNECTIONS_MAX; i++)
		if (s->connections[i].used && s->connections[i].fd >= 0)
			shutdown(s->connections[i].fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	nbd_server_shut(s);
	if (s->started)
		pthread_join(s->acceptor, NULL);
	/* The acceptor has ended: nobody takes or clears a place any more. */
	for (size_t i = 0; i < NBD_CONNECTIONS_MAX; i++)
		if (s->connections[i].used)
			pthread_join(s->connections[i].thread, NULL);
	if (s->listener >= 0)
		close(s->listener);
	if (s->bound)
		unlink(s->path);
	pthread_mutex_destroy(&s->lock);
	free(s->exports);
	free(s);
}

unsigned nbd_server_connections(struct nbd_server *s)
{
	unsigned n = 0;
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < NBD_CONNECTIONS_MAX; i++)
		n += s->connections[i].used && s->connections[i].fd >= 0;
	pthread_mutex_unlock(&s->lock);
	return n;
}
