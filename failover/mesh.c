/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread for each peer owns its connection: it alone opens, reads and closes it.  Everybody else
 * only writes to it, under the mesh's lock and never waiting, or shuts it down.
 *
 * Calls are in a list, each in its caller's frame.  A peer's thread puts an answer into the call
 * that has its id and wakes the caller; an answer to an earlier request of that call has another
 * id and finds nobody.
 */
#include "failover/mesh.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_TIME  MC_SEC /* TCP and handshake; also bounds mesh_close */
#define RECONNECT_MIN (20 * MC_MSEC)
#define RECONNECT_MAX (500 * MC_MSEC) /* so long at most a host that is back stays unused */
#define DEAD_AFTER_MS 2000            /* unacknowledged data: give the connection up */
#define STALL_TIME    (2 * MC_SEC)    /* the rest of a message that has begun */

struct peer {
	struct mesh *mesh;
	unsigned node;
	struct voter_peer voter;
	pthread_t thread;
	bool started;
	int fd; /* connected: >= 0; only the peer's thread changes it, under the lock */
};

struct mesh {
	struct mesh_config cfg;
	struct link_key key;
	char local[64];
	struct link_self self; /* points to the two above */
	pthread_mutex_t lock;
	pthread_cond_t closing_cond;
	bool closing;
	uint64_t last_id;
	struct mesh_call *calls;
	struct peer peers[VOTERS_MAX + 1]; /* by node; [self] unused */
};

void mesh_watch_socket(int fd)
{
	int one = 1, count = 2;
	unsigned ms = DEAD_AFTER_MS;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
	/* Without it the back-off of retransmissions keeps a connection mute long after the network
	 * has healed. */
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

/* With the lock held.  A full or broken socket ends the connection: its thread sees it. */
static void send_locked(struct peer *p, const struct vote_msg *m)
{
	uint8_t buf[VOTE_MSG_SIZE];
	assert(p->fd >= 0 && p->node != p->mesh->cfg.self);
	vote_encode(buf, m);
	ssize_t n = send(p->fd, buf, sizeof buf, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n != (ssize_t)sizeof buf)
		shutdown(p->fd, SHUT_RDWR);
}

static void call_send_locked(struct mesh_call *c, struct peer *p)
{
	uint32_t bit = 1u << p->node;
	if (p->fd < 0 || !(c->targets & bit) || ((c->asked | c->answered) & bit) || !c->request.id)
		return;
	c->asked |= bit;
	send_locked(p, &c->request);
}

static void deliver(struct peer *p, const struct vote_msg *m)
{
	uint32_t bit = 1u << p->node;
	pthread_mutex_lock(&p->mesh->lock);
	for (struct mesh_call *c = p->mesh->calls; c; c = c->next)
		if (m->id && c->request.id == m->id && !(c->answered & bit)) {
			c->answered |= bit;
			c->unread |= bit;
			c->answers[p->node] = *m;
			pthread_cond_signal(&c->cond);
		}
	pthread_mutex_unlock(&p->mesh->lock);
}

/* Reads answers until the connection ends; returns why, as an errno. */
static int read_answers(struct peer *p, int fd)
{
	for (;;) {
		uint8_t buf[VOTE_MSG_SIZE];
		struct vote_msg m;
		int r = link_read(fd, buf, 1, UINT64_MAX, -1);
		if (r == 0)
			r = link_read(fd, buf + 1, sizeof buf - 1, mc_now() + STALL_TIME, -1);
		if (r < 0)
			return -r;
		if (!vote_decode(&m, buf) || m.paxos.type < PAXOS_PROMISE)
			return vote_other_version(buf) ? EPROTONOSUPPORT : EPROTO;
		deliver(p, &m);
		p->mesh->cfg.answered(p->mesh->cfg.ctx, p->node, &m);
	}
}

static void set_connected(struct peer *p, int fd)
{
	struct mesh *m = p->mesh;
	pthread_mutex_lock(&m->lock);
	assert((fd >= 0) != (p->fd >= 0)); /* one connection at a time */
	p->fd = fd;
	if (fd >= 0 && m->closing)
		shutdown(fd, SHUT_RDWR); /* mesh_shutdown could not see it */
	for (struct mesh_call *c = m->calls; c; c = c->next) {
		c->asked &= ~(1u << p->node);
		call_send_locked(c, p);
		c->poked = true; /* who waits for all that are connected waits for others now */
		pthread_cond_signal(&c->cond);
	}
	pthread_mutex_unlock(&m->lock);
}

static bool back_off(struct mesh *m, uint64_t time)
{
	struct timespec ts = mc_timespec(mc_now() + time);
	pthread_mutex_lock(&m->lock);
	while (!m->closing && pthread_cond_timedwait(&m->closing_cond, &m->lock, &ts) != ETIMEDOUT)
		;
	bool closing = m->closing;
	pthread_mutex_unlock(&m->lock);
	return !closing;
}

/* One connection from its first to its last byte; returns how long it lived. */
static uint64_t run_connection(struct peer *p, int fd, bool quiet)
{
	struct mesh *m = p->mesh;
	uint64_t since = mc_now();
	mesh_watch_socket(fd);
	set_connected(p, fd);
	m->cfg.connected(m->cfg.ctx, p->node);
	int e = read_answers(p, fd);
	set_connected(p, -1);
	close(fd);
	if (!quiet)
		log_notice("voter %s: connection lost: %s", p->voter.name,
			e == ENODATA ? "closed by the peer" : strerror(e));
	return mc_now() - since;
}

static void *peer_thread(void *arg)
{
	struct peer *p = arg;
	struct mesh *m = p->mesh;
	uint64_t pause = RECONNECT_MIN;
	const char *told =
		NULL; /* class of the last failure logged: not the same line twice a second */
	const struct link_target to = {
		.name = p->voter.name,
		.address = p->voter.address,
		.port = p->voter.port,
		.purpose = LINK_VOTE,
	};
	do {
		struct mc_error err = MC_ERROR_INIT;
		int fd = link_connect(&m->self, &to, mc_now() + CONNECT_TIME, NULL, &err);
		if (fd < 0 && told != err.cls) {
			log_warn("voter %s: %s", p->voter.name, err.msg);
			told = err.cls;
		}
		uint64_t lived = 0;
		if (fd >= 0) {
			/* A peer that accepts us and hangs up at once is as good as dead: one line,
			 * and the back-off stays. */
			bool flapping = pause > RECONNECT_MIN && !told;
			if (!flapping)
				log_info("voter %s: connected", p->voter.name);
			told = NULL;
			lived = run_connection(p, fd, flapping);
		}
		pause = pause * 2 < RECONNECT_MAX ? pause * 2 : RECONNECT_MAX;
		if (lived > RECONNECT_MAX)
			pause = RECONNECT_MIN;
	} while (back_off(m, pause));
	return NULL;
}

int mesh_open(const struct mesh_config *cfg, struct mesh **ret, struct mc_error *err)
{
	assert(cfg->self >= 1 && cfg->self <= cfg->group->n && cfg->link.key);
	struct mesh *m = calloc(1, sizeof *m);
	if (!m)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	m->cfg = *cfg;
	m->key = *cfg->link.key;
	if (cfg->link.address)
		snprintf(m->local, sizeof m->local, "%s", cfg->link.address);
	m->self = (struct link_self){
		.name = cfg->group->names[cfg->self - 1],
		.key = &m->key,
		.instance = cfg->link.instance,
		.address = m->local[0] ? m->local : NULL,
	};
	m->last_id = cfg->link.instance;
	pthread_mutex_init(&m->lock, NULL);
	mc_cond_init(&m->closing_cond);
	for (unsigned i = 0; i <= VOTERS_MAX; i++)
		m->peers[i] = (struct peer){.mesh = m, .node = i, .fd = -1};

	for (size_t i = 0; i < cfg->n_voters; i++) {
		unsigned node = paxos_group_node(cfg->group, cfg->voters[i].name);
		assert(node); /* the group was made of this list */
		m->peers[node].voter = cfg->voters[i];
	}
	*ret = m;
	return 0;
}

int mesh_start(struct mesh *m, struct mc_error *err)
{
	int r = 0;
	for (unsigned i = 1; i <= m->cfg.group->n && r == 0; i++) {
		struct peer *p = &m->peers[i];
		if (i == m->cfg.self)
			continue;
		char name[sizeof "vote-" + LINK_NAME_MAX];
		snprintf(name, sizeof name, "vote-%s", p->voter.name);
		r = mc_thread_start(&p->thread, name, peer_thread, p);
		p->started = r == 0;
	}
	if (r < 0)
		return mc_error_set(
			err, r, MC_ECLASS_FAILED, "cannot start a thread: %s", strerror(-r));
	return 0;
}

void mesh_shutdown(struct mesh *m)
{
	pthread_mutex_lock(&m->lock);
	m->closing = true;
	pthread_cond_broadcast(&m->closing_cond);
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		if (m->peers[i].fd >= 0)
			shutdown(m->peers[i].fd, SHUT_RDWR);
	for (struct mesh_call *c = m->calls; c; c = c->next)
		pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&m->lock);
}

void mesh_close(struct mesh *m)
{
	if (!m)
		return;
	mesh_shutdown(m);
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		if (m->peers[i].started)
			pthread_join(m->peers[i].thread, NULL);
	pthread_cond_destroy(&m->closing_cond);
	pthread_mutex_destroy(&m->lock);
	explicit_bzero(&m->key, sizeof m->key);
	free(m);
}

uint32_t mesh_connected(struct mesh *m)
{
	uint32_t bits = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		if (m->peers[i].fd >= 0)
			bits |= 1u << i;
	pthread_mutex_unlock(&m->lock);
	return bits;
}

void mesh_post(struct mesh *m, const struct vote_msg *msg, uint32_t targets)
{
	struct vote_msg posted = *msg;
	posted.id = 0;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		if (m->peers[i].fd >= 0 && (targets & 1u << i))
			send_locked(&m->peers[i], &posted);
	pthread_mutex_unlock(&m->lock);
}

void mesh_call_begin(struct mesh *m, struct mesh_call *c)
{
	memset(c, 0, sizeof *c);
	c->mesh = m;
	mc_cond_init(&c->cond);
	pthread_mutex_lock(&m->lock);
	c->next = m->calls;
	m->calls = c;
	pthread_mutex_unlock(&m->lock);
}

void mesh_call_end(struct mesh_call *c)
{
	pthread_mutex_lock(&c->mesh->lock);
	struct mesh_call **at = &c->mesh->calls;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	pthread_mutex_unlock(&c->mesh->lock);
	pthread_cond_destroy(&c->cond);
}

void mesh_call_send(struct mesh_call *c, const struct vote_msg *request, uint32_t targets)
{
	struct mesh *m = c->mesh;
	pthread_mutex_lock(&m->lock);
	c->request = *request;
	if (++m->last_id == 0)
		m->last_id = 1;
	c->request.id = m->last_id;
	c->targets = targets;
	c->asked = c->answered = c->unread = 0;
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		call_send_locked(c, &m->peers[i]);
	pthread_mutex_unlock(&m->lock);
}

static int wait_locked(struct mesh_call *c, uint64_t deadline, bool for_answer)
{
	struct timespec ts = mc_timespec(deadline);
	for (;;) {
		if (c->mesh->closing)
			return -ESHUTDOWN;
		if (for_answer && c->unread)
			return 1;
		if (c->poked) {
			c->poked = false;
			return -EINTR;
		}
		if (mc_now() >= deadline)
			return 0;
		pthread_cond_timedwait(&c->cond, &c->mesh->lock, &ts);
	}
}

int mesh_call_wait(struct mesh_call *c, uint64_t deadline, unsigned *ret_node, struct vote_msg *ret)
{
	pthread_mutex_lock(&c->mesh->lock);
	int r = wait_locked(c, deadline, true);
	if (r == 1) {
		unsigned node = (unsigned)__builtin_ctz(c->unread);
		assert(node >= 1 && node <= VOTERS_MAX && (c->answered & 1u << node));
		c->unread &= ~(1u << node);
		*ret_node = node;
		*ret = c->answers[node];
	}
	pthread_mutex_unlock(&c->mesh->lock);
	return r;
}

int mesh_call_pause(struct mesh_call *c, uint64_t until)
{
	pthread_mutex_lock(&c->mesh->lock);
	int r = wait_locked(c, until, false);
	pthread_mutex_unlock(&c->mesh->lock);
	return r;
}

bool mesh_call_complete(struct mesh_call *c)
{
	uint32_t waiting = 0;
	pthread_mutex_lock(&c->mesh->lock);
	for (unsigned i = 1; i <= VOTERS_MAX; i++)
		if (c->mesh->peers[i].fd >= 0)
			waiting |= 1u << i;
	waiting &= c->targets & ~c->answered;
	bool complete = !waiting && !c->unread;
	pthread_mutex_unlock(&c->mesh->lock);
	return complete;
}

void mesh_poke(struct mesh *m)
{
	pthread_mutex_lock(&m->lock);
	for (struct mesh_call *c = m->calls; c; c = c->next) {
		c->poked = true;
		pthread_cond_signal(&c->cond);
	}
	pthread_mutex_unlock(&m->lock);
}
