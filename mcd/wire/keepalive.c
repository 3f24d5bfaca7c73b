/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keep-alives between all hosts: setting up, and asking. */
#include "mcd/wire/keepalive-private.h"

#include "common/log.h"
#include "common/thread.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- asking ---- */

struct ka_peer *keepalive_find(struct keepalive *k, const char *name)
{
	for (size_t i = 0; i < k->n_peers; i++)
		if (!strcmp(k->peers[i].cfg.name, name))
			return &k->peers[i];
	return NULL;
}

uint64_t keepalive_age(struct keepalive *k, const char *peer)
{
	const struct ka_peer *p = keepalive_find(k, peer);
	if (!p)
		return UINT64_MAX;
	uint64_t tcp = p->ear[KA_TCP].heard, rdma = p->ear[KA_RDMA].heard;
	uint64_t heard = tcp > rdma ? tcp : rdma, now = mc_now();
	if (!heard)
		return UINT64_MAX;
	return now > heard ? now - heard : 0;
}

bool keepalive_suspected(struct keepalive *k, const char *peer)
{
	const struct ka_peer *p = keepalive_find(k, peer);
	return p && p->suspected;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

int keepalive_get_stats(struct keepalive *k, const char *peer, struct keepalive_stats *ret)
{
	const struct ka_peer *p = keepalive_find(k, peer);
	if (!p)
		return -ENOENT;
	enum ka_path path = p->path;
	const struct ka_ear *ear = &p->ear[path];
	uint32_t gaps[GAPS];
	uint64_t total = ear->n_gaps;
	size_t n = total < GAPS ? total : GAPS;
	for (size_t i = 0; i < n; i++)
		gaps[i] = ear->gap_us[i];
	/* cppcheck-suppress uninitvar ; n of them are not */
	qsort(gaps, n, sizeof *gaps, compare_u32);
	*ret = (struct keepalive_stats){
		.last_heard = ear->heard,
		.instance = p->instance,
		.beats = ear->beats,
		.jitter_p99 = n ? gaps[(n * 99 - 1) / 100] * MC_USEC : 0,
		.jitter_max = n ? gaps[n - 1] * MC_USEC : 0,
		.path = path,
		.sends_rdma = p->sending == KA_BEATING,
	};
	ret->up = ret->last_heard && !p->suspected;
	pthread_mutex_lock(&k->lock);
	memcpy(ret->rdma_why, p->rdma_why, sizeof ret->rdma_why);
	pthread_mutex_unlock(&k->lock);
	return 0;
}

/* ---- setting up ---- */

static int check_config(const struct keepalive_config *cfg, struct mc_error *err)
{
	if (cfg->interval < BEAT_INTERVAL_MIN || cfg->interval > BEAT_INTERVAL_MAX || !cfg->misses)
		return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
			"a keep-alive interval of %" PRIu64 " ns with %u misses is out of range",
			cfg->interval, cfg->misses);
	for (size_t i = 0; i < cfg->n_peers; i++)
		for (size_t j = 0; j <= i; j++)
			if (!strcmp(cfg->peers[i].name, j < i ? cfg->peers[j].name : cfg->self))
				return mc_error_set(err, -EINVAL, MC_ECLASS_INVALID,
					"two hosts are called %s", cfg->peers[i].name);
	return 0;
}

static void init_peer(struct keepalive *k, struct ka_peer *p, const struct keepalive_peer *cfg)
{
	p->k = k;
	p->cfg = *cfg;
	p->tx = -1;
	p->redial = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->redial_rdma = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&p->slot_lock, NULL);
}

static int start(struct keepalive *k)
{
	if (k->stop < 0 || k->poke < 0 || k->timer < 0 || k->news < 0)
		return -EMFILE;
	int r = mc_thread_start(&k->teller, "ka-tell", keepalive_tell_thread, k);
	k->telling = r == 0;
	if (r == 0)
		r = mc_thread_start(&k->beater, "keep-alive", keepalive_beat_thread, k);
	k->beating = r == 0;
	for (size_t i = 0; i < k->n_peers && r == 0; i++) {
		struct ka_peer *p = &k->peers[i];
		if (p->redial < 0 || p->redial_rdma < 0)
			return -EMFILE;
		r = mc_thread_start(&p->dialer, "ka-dial", keepalive_dial_thread, p);
		p->dialing = r == 0;
		if (r < 0 || k->cfg.mode == RD_TCP)
			continue;
		r = mc_thread_start(&p->rdma_dialer, "ka-dial-rdma", keepalive_rdma_dial_thread, p);
		p->rdma_dialing = r == 0;
	}
	return r;
}

int keepalive_new(const struct keepalive_config *cfg, struct keepalive **ret, struct mc_error *err)
{
	int r = check_config(cfg, err);
	if (r < 0)
		return r;
	/* Pages of its own, because they get locked. */
	size_t size = sizeof(struct keepalive) + cfg->n_peers * sizeof(struct ka_peer);
	size = (size + 4095) & ~(size_t)4095;
	struct keepalive *k = aligned_alloc(4096, size);
	if (!k)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory for keep-alives");
	memset(k, 0, size);
	if (mlock(k, size) < 0)
		log_debug("the memory of the keep-alives cannot be locked: %s", strerror(errno));
	k->cfg = *cfg;
	k->key = *cfg->key;
	assert(strlen(cfg->self) < sizeof k->self);
	strncpy(k->self, cfg->self, sizeof k->self - 1);
	strncpy(k->local, cfg->local_address ? cfg->local_address : "", sizeof k->local - 1);
	k->cfg.key = &k->key;
	k->cfg.self = k->self;
	k->cfg.local_address = *k->local ? k->local : NULL;
	k->cfg.peers = NULL;
	k->started = mc_now();
	k->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->idle, NULL);
	k->n_peers = cfg->n_peers;
	for (size_t i = 0; i < cfg->n_peers; i++)
		init_peer(k, &k->peers[i], &cfg->peers[i]);
	r = start(k);
	if (r < 0) {
		keepalive_free(k);
		return mc_error_set(err, r, MC_ECLASS_FAILED,
			"the keep-alives cannot be started: %s", strerror(-r));
	}
	*ret = k;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void keepalive_free(struct keepalive *k)
{
	if (!k)
		return;
	if (k->stop >= 0)
		eventfd_write(k->stop, 1);
	if (k->beating)
		pthread_join(k->beater, NULL);
	if (k->telling)
		pthread_join(k->teller, NULL);
	for (size_t i = 0; i < k->n_peers; i++) {
		struct ka_peer *p = &k->peers[i];
		if (p->dialing)
			pthread_join(p->dialer, NULL); /* at most the second of a connect */
		if (p->rdma_dialing)
			pthread_join(p->rdma_dialer, NULL);
		keepalive_rdma_end(p);
		close_fd(p->tx);
	}
	pthread_mutex_lock(&k->lock);
	while (k->serving)
		pthread_cond_wait(&k->idle, &k->lock);
	pthread_mutex_unlock(&k->lock);
	for (size_t i = 0; i < k->n_peers; i++) { /* what the serving threads used to the last */
		close_fd(k->peers[i].redial);
		close_fd(k->peers[i].redial_rdma);
		pthread_mutex_destroy(&k->peers[i].slot_lock);
	}
	pthread_cond_destroy(&k->idle);
	pthread_mutex_destroy(&k->lock);
	close_fd(k->timer);
	close_fd(k->poke);
	close_fd(k->news);
	close_fd(k->stop);
	size_t size = sizeof(struct keepalive) + k->n_peers * sizeof(struct ka_peer);
	munlock(k, size);
	free(k);
}
