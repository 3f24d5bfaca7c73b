/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Queue pairs for keep-alives: made and closed here, by ordinary threads, because both take time;
 * used by the beat thread, which writes to the peer (send_by_rdma) and looks at what peers write
 * (slots).
 *
 * As with TCP each host connects to every other and sends; the acceptor's region has the slot at
 * its beginning, the connector's is not used.
 */
#include "mcd/wire/keepalive-private.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define PAUSE_MIN  100 /* ms between two attempts, doubled up to */
#define PAUSE_MAX  5000
#define LOOK_AGAIN 10000 /* ms, for a device: somebody may load a module or mend a cable */

static const struct rd_wants wants = {.stream = false, .region = RD_REGION_MIN};

/* --- to a peer -------------------------------------------------------------------------------- */

static void set_why(struct ka_peer *p, const char *why)
{
	pthread_mutex_lock(&p->k->lock);
	bool news = *why && strncmp(p->rdma_why, why, sizeof p->rdma_why - 1);
	snprintf(p->rdma_why, sizeof p->rdma_why, "%s", why);
	pthread_mutex_unlock(&p->k->lock);
	if (news) /* once for each reason, not once a second */
		log_info("keep-alives to %s do not go by RDMA: %s", p->cfg.name, why);
}

static int dial(struct ka_peer *p, struct rd_conn **ret, struct mc_error *err)
{
	struct rd_link link;
	/* RD_RDMA: the beats by TCP have their own connection, this one is for RDMA or nothing. */
	struct link_self self = keepalive_self(&p->k->cfg);
	struct link_target to = keepalive_target(&p->cfg);
	int r = rd_dial(RD_RDMA, &wants, &self, &to, mc_now() + MC_SEC, &link, err);
	if (r == 0)
		*ret = link.rdma;
	return r;
}

/* Until a redial is asked for or the time is over; false = leave. */
static bool wait_ms(struct ka_peer *p, int ms)
{
	struct pollfd fds[] = {{p->k->stop, POLLIN, 0}, {p->redial_rdma, POLLIN, 0}};
	uint64_t count;
	poll(fds, 2, ms);
	if (fds[1].revents)
		eventfd_read(p->redial_rdma, &count);
	return !fds[0].revents;
}

/* One attempt; how long to wait before the next, -1 = until the beat thread gives it back. */
static int attempt(struct ka_peer *p, int *pause)
{
	struct mc_error err = MC_ERROR_INIT;
	struct rd_device dev;
	if (!p->k->cfg.local_address || rd_probe(p->k->cfg.local_address, &dev, &err) < 0) {
		set_why(p, p->k->cfg.local_address ? err.msg : "no local address is configured");
		return LOOK_AGAIN;
	}
	if (dial(p, &p->rtx, &err) == 0) {
		set_why(p, "");
		log_info("keep-alives to %s go by RDMA (%s)", p->cfg.name, rd_device_name(p->rtx));
		p->sending = KA_BEATING; /* from here on it is the beat thread's */
		*pause = 0;
		return -1;
	}
	set_why(p, err.msg);
	if (err.code == -EOPNOTSUPP || err.code == -ENODEV)
		return LOOK_AGAIN;
	*pause = *pause ? *pause * 2 : PAUSE_MIN;
	if (*pause > PAUSE_MAX)
		*pause = PAUSE_MAX;
	return *pause;
}

void *keepalive_rdma_dial_thread(void *arg)
{
	struct ka_peer *p = arg;
	int pause = 0, ms = 0;
	do {
		if (p->sending == KA_BEATING)
			continue; /* woken for another reason */
		if (p->rtx) {
			set_why(p, p->rtx_over.msg);
			rd_close(p->rtx);
			p->rtx = NULL;
		}
		assert(p->sending == KA_IDLE && !p->rtx);
		ms = attempt(p, &pause);
	} while (wait_ms(p, ms));
	return NULL;
}

void keepalive_rdma_end(struct ka_peer *p)
{
	rd_close(p->rtx);
	p->rtx = NULL;
}

/* --- slots ------------------------------------------------------------------------------------ */

void keepalive_slot_show(
	struct ka_peer *p, const volatile uint8_t *mem, uint64_t instance, int leave)
{
	pthread_mutex_lock(&p->slot_lock);
	if (p->slot.mem)
		eventfd_write(p->slot.leave, 1);
	p->slot = (struct ka_slot){.mem = mem, .instance = instance, .leave = leave};
	p->slot_shown = true;
	p->instance = instance;
	pthread_mutex_unlock(&p->slot_lock);
	eventfd_write(p->k->poke, 1); /* looks begin now, not at the next beat */
}

void keepalive_slot_hide(struct ka_peer *p, const volatile uint8_t *mem)
{
	struct mc_error over = MC_ERROR_INIT;
	pthread_mutex_lock(&p->slot_lock);
	if (p->slot.mem == mem) {
		p->slot.mem = NULL;
		p->slot_shown = false;
	}
	if (p->slot.given_up == mem) {
		over = p->slot.over;
		p->slot.given_up = NULL;
	}
	pthread_mutex_unlock(&p->slot_lock);
	if (over.code)
		log_warn("the keep-alive queue pair of %s is closed: %s", p->cfg.name, over.msg);
}

/* --- from a peer ------------------------------------------------------------------------------ */

/* Until the queue pair is over, or another has taken its place. */
static void watch(struct ka_peer *p, struct rd_conn *c, int leave)
{
	struct mc_error err = MC_ERROR_INIT;
	struct pollfd fds[RD_FDS + 2] = {{p->k->stop, POLLIN, 0}, {leave, POLLIN, 0}};
	int more[RD_FDS];
	size_t n = rd_poll_fds(c, more);
	for (size_t i = 0; i < n; i++)
		fds[2 + i] = (struct pollfd){more[i], POLLIN, 0};
	while (rd_check(c, &err) == 0) {
		poll(fds, 2 + n, -1);
		if (fds[0].revents || fds[1].revents)
			return;
	}
	log_info(
		"no more keep-alives from %s by RDMA on this connection: %s", p->cfg.name, err.msg);
}

void keepalive_serve_rdma(struct ka_peer *p, int fd, const struct link_peer *peer)
{
	struct mc_error err = MC_ERROR_INIT;
	struct rd_link link;
	/* The caller keeps the socket, to end us by shutting it down; the connection takes a
	 * double. */
	_cleanup_close_ int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	_cleanup_close_ int leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (own < 0 || leave < 0)
		return;
	/* No RDMA for it is nothing to complain of: the beats by TCP have their own connection. */
	enum rd_mode mode = p->k->cfg.mode == RD_TCP ? RD_TCP : RD_AUTO;
	int r = rd_welcome(mode, &wants, own, peer, mc_now() + RD_AGREE_TIME, &link, &err);
	if (r < 0) {
		log_debug("no keep-alives from %s by RDMA: %s", p->cfg.name, err.msg);
		return;
	}
	mc_steal_fd(&own);
	if (link.rdma) {
		size_t size;
		volatile uint8_t *mem = rd_region(link.rdma, &size);
		log_info("keep-alives of %s come by RDMA (%s)", p->cfg.name,
			rd_device_name(link.rdma));
		keepalive_slot_show(p, mem, peer->instance, leave);
		/* It lives: no need to wait out a pause between two attempts to connect to it. */
		eventfd_write(p->redial_rdma, 1);
		watch(p, link.rdma, leave);
		keepalive_slot_hide(p, mem);
	} else {
		log_debug("no keep-alives from %s by RDMA: %s", p->cfg.name, link.why);
	}
	rd_link_close(&link);
}
