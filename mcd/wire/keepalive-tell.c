/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells the owner who fell silent and who is back: an ordinary thread, because what it calls takes
 * locks, asks for memory and logs.  Held up, it is late with the news; the beats go on.
 */
#include "mcd/wire/keepalive-private.h"

#include "common/log.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

static void lost(struct ka_peer *p, bool fell_back)
{
	const struct keepalive_config *cfg = &p->k->cfg;
	if (cfg->suspect)
		cfg->suspect(cfg->ctx, p->cfg.name, p->lost_heard);
	if (fell_back)
		log_notice(
			"%s is not heard by RDMA any more: its keep-alives by TCP count from now "
			"on",
			p->cfg.name);
}

static void back(struct ka_peer *p)
{
	const struct keepalive_config *cfg = &p->k->cfg;
	if (cfg->alive)
		cfg->alive(cfg->ctx, p->cfg.name);
}

void keepalive_tell(struct ka_peer *p)
{
	unsigned news = atomic_exchange(&p->news, 0);
	/* Who was lost and came back while we were held up has done both. */
	if (news & KA_BACK && news & KA_LOST_LAST)
		back(p);
	if (news & KA_LOST)
		lost(p, news & KA_FELL_BACK);
	if (news & KA_BACK && !(news & KA_LOST_LAST))
		back(p);
}

void *keepalive_tell_thread(void *arg)
{
	struct keepalive *k = arg;
	struct pollfd p[] = {{k->stop, POLLIN, 0}, {k->news, POLLIN, 0}};
	for (;;) {
		uint64_t count;
		poll(p, 2, -1);
		if (p[0].revents)
			return NULL;
		/* First silenced, then looked: what is noticed meanwhile rings again. */
		eventfd_read(k->news, &count);
		int e = atomic_exchange(&k->not_realtime, 0);
		if (e)
			log_warn("keep-alives run without real-time priority (%s): a busy host may "
				 "look dead to its peers; give mcd CAP_SYS_NICE and CAP_IPC_LOCK",
				strerror(e));
		for (size_t i = 0; i < k->n_peers; i++)
			keepalive_tell(&k->peers[i]);
	}
}
