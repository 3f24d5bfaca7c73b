/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps one peer connected: an ordinary thread, because connecting may take long. */
#include "mcd/wire/keepalive-private.h"

#include "common/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define CONNECT_TIME  MC_SEC
#define PAUSE_MIN     100 /* ms between two attempts, doubled up to */
#define PAUSE_MAX     1000
#define LOOK_AT_STATS 1000 /* ms */
#define WARN_AGAIN    (60 * MC_SEC)

/* How long TCP may retransmit before it gives up: not longer than the peer takes to suspect us,
 * because a new connection gets through sooner than a retransmission that has backed off. */
static unsigned user_timeout_ms(const struct ka_peer *p)
{
	uint64_t ms = 2 * keepalive_limit(p) / MC_MSEC;
	return ms < 1000 ? 1000 : ms > 60000 ? 60000 : (unsigned)ms;
}

static void tune(const struct ka_peer *p, int fd)
{
	unsigned timeout = user_timeout_ms(p);
	int interactive = 6; /* TC_PRIO_INTERACTIVE: ahead of checkpoint data in our own queues */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
	(void)setsockopt(fd, SOL_SOCKET, SO_PRIORITY, &interactive, sizeof interactive);
}

/* Until a redial is asked for or the time is over; false = leave. */
static bool wait_ms(struct ka_peer *p, int ms)
{
	struct pollfd fds[] = {{p->k->stop, POLLIN, 0}, {p->redial, POLLIN, 0}};
	uint64_t count;
	poll(fds, 2, ms);
	if (fds[1].revents)
		eventfd_read(p->redial, &count);
	return !fds[0].revents;
}

static void warn_of_jitter(struct ka_peer *p, uint64_t *warned)
{
	uint64_t limit = keepalive_limit(p), now = mc_now();
	struct ka_ear *ear = &p->ear[p->path];
	uint64_t worst = ear->worst_us * MC_USEC + p->k->cfg.interval;
	/* Only near misses: a silence beyond the limit is the suspicion's own story. */
	if (worst > limit / 2 && worst < limit && (!*warned || now - *warned > WARN_AGAIN)) {
		log_warn("a keep-alive of %s came after %.0f ms, and %.0f ms would count as its "
			 "loss; if this is frequent raise keep-alive or keep-alive-misses",
			p->cfg.name, (double)worst / 1e6, (double)limit / 1e6);
		*warned = now;
	}
	ear->worst_us = 0;
}

static int dial(struct ka_peer *p, struct mc_error *err)
{
	struct link_self self = keepalive_self(&p->k->cfg);
	struct link_target to = keepalive_target(&p->cfg);
	return link_connect(&self, &to, mc_now() + CONNECT_TIME, NULL, err);
}

void *keepalive_dial_thread(void *arg)
{
	struct ka_peer *p = arg;
	int pause = 0;
	uint64_t warned = 0;
	char last[sizeof((struct mc_error *)0)->msg] = "";
	for (;;) {
		if (p->tx >= 0) {
			warn_of_jitter(p, &warned);
			if (!wait_ms(p, LOOK_AT_STATS))
				return NULL;
			continue;
		}
		struct mc_error err = MC_ERROR_INIT;
		int fd = dial(p, &err);
		if (fd >= 0) {
			tune(p, fd);
			p->tx = fd;
			pause = 0;
			*last = '\0';
			log_debug("keep-alives to %s are sent", p->cfg.name);
			continue;
		}
		/* Once for each reason, not once a second. */
		if (strcmp(last, err.msg))
			log_info("keep-alives cannot be sent to %s for now: %s", p->cfg.name,
				err.msg);
		memcpy(last, err.msg, sizeof last);
		pause = pause ? pause * 2 : PAUSE_MIN;
		if (pause > PAUSE_MAX)
			pause = PAUSE_MAX;
		if (!wait_ms(p, pause))
			return NULL;
	}
}
