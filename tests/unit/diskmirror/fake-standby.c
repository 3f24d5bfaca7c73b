/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fake-standby.h"

#include "common/clock.h"
#include "common/link.h"
#include "common/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#define EPOCHS_MAX 1024
#define FOREVER    UINT64_MAX

struct fake_standby {
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool frozen, over;
	struct disk_hello hello;
	struct disk_hash *hash;
	uint8_t *images[DISKS_MAX];
	struct fake_message *log;
	size_t n_log;
	uint64_t epoch; /* that runs, as the stream says */
	struct disk_epoch_sum sum, ends[EPOCHS_MAX];
	uint32_t flags[EPOCHS_MAX];
	bool ended[EPOCHS_MAX];
	struct disk_digest digest;
	char complaint[256];
};

#define complain(f, ...)                                                                           \
	do {                                                                                       \
		if (!*(f)->complaint)                                                              \
			snprintf((f)->complaint, sizeof(f)->complaint, __VA_ARGS__);               \
	} while (0)

void fake_send(struct fake_standby *f, const struct disk_header *h, const void *payload)
{
	uint8_t header[DISK_HEADER_SIZE];
	struct disk_header c = *h;
	if (payload && !c.digest)
		c.digest = XXH3_64bits(payload, c.length);
	disk_put_header(header, &c);
	pthread_mutex_lock(&f->lock);
	link_write(f->fd, header, sizeof header, mc_now() + 10 * MC_SEC);
	if (payload)
		link_write(f->fd, payload, c.length, mc_now() + 10 * MC_SEC);
	pthread_mutex_unlock(&f->lock);
}

void fake_send_table(struct fake_standby *f, uint16_t disk, uint64_t first, size_t n)
{
	uint8_t *digests = malloc(n * DISK_DIGEST_SIZE);
	for (size_t i = 0; i < n; i++) {
		uint64_t at = (first + i) * DISK_BLOCK, left = f->hello.disks[disk].size - at;
		disk_hash_block(f->hash, f->images[disk] + at,
			left < DISK_BLOCK ? left : DISK_BLOCK, digests + i * DISK_DIGEST_SIZE);
	}
	struct disk_header h = {.type = DISK_TABLE,
		.disk = disk,
		.offset = first * DISK_BLOCK,
		.length = n * DISK_DIGEST_SIZE};
	fake_send(f, &h, digests);
	free(digests);
}

static bool take_hello(struct fake_standby *f)
{
	uint8_t header[DISK_HEADER_SIZE], payload[DISK_HELLO_MAX];
	struct disk_header h;
	if (link_read(f->fd, header, sizeof header, FOREVER, -1) < 0)
		return false;
	if (disk_get_header(header, &h, NULL) < 0 || h.type != DISK_HELLO ||
		link_read(f->fd, payload, h.length, FOREVER, -1) < 0 ||
		h.digest != XXH3_64bits(payload, h.length) ||
		disk_get_hello(payload, h.length, &f->hello, NULL) < 0) {
		complain(f, "no proper HELLO");
		return false;
	}
	disk_hash_new(f->hello.seed, &f->hash, NULL);
	for (size_t i = 0; i < f->hello.n_disks; i++)
		f->images[i] = calloc(1, f->hello.disks[i].size);
	fake_send(f, &(struct disk_header){.type = DISK_HELLO_OK}, NULL);
	return true;
}

/* The synchronisation is over; the sum so far was its own. */
static void start_epochs(struct fake_standby *f, uint64_t epoch)
{
	f->epoch = epoch;
	f->sum = (struct disk_epoch_sum){0};
	disk_digest_init(&f->digest, f->hello.generation, epoch);
}

static void take_end(struct fake_standby *f, const struct disk_header *h, const uint8_t *payload)
{
	struct disk_epoch_sum s;
	if (f->epoch == 0)
		start_epochs(f, h->epoch); /* the first one is empty */
	f->sum.digest = f->digest.h;
	if (disk_get_sum(payload, h->length, &s, NULL) < 0 || memcmp(&s, &f->sum, sizeof s))
		complain(f, "the sum of epoch %llu is wrong", (unsigned long long)h->epoch);
	if (h->epoch != f->epoch || h->epoch >= EPOCHS_MAX) {
		complain(f, "END of epoch %llu, not %llu", (unsigned long long)h->epoch,
			(unsigned long long)f->epoch);
		return;
	}
	f->ends[h->epoch] = s;
	f->flags[h->epoch] = h->flags;
	f->ended[h->epoch] = true;
	f->epoch++;
	f->sum = (struct disk_epoch_sum){0};
	disk_digest_init(&f->digest, f->hello.generation, f->epoch);
}

static void take_write(struct fake_standby *f, const struct disk_header *h, const uint8_t *header,
	const uint8_t *payload)
{
	if (h->epoch && !f->epoch)
		start_epochs(f, h->epoch);
	if (h->epoch != f->epoch)
		complain(f, "a write of epoch %llu in %llu", (unsigned long long)h->epoch,
			(unsigned long long)f->epoch);
	if (h->disk >= f->hello.n_disks || h->offset + h->length > f->hello.disks[h->disk].size) {
		complain(f, "a write beyond the disk");
		return;
	}
	disk_digest_add(&f->digest, header);
	f->sum.writes++;
	f->sum.bytes += payload ? h->length : 0;
	uint8_t *to = f->images[h->disk] + h->offset;
	if (payload)
		memcpy(to, payload, h->length);
	else
		memset(to, 0, h->length);
}

/* Under the lock. */
static void take(struct fake_standby *f, const struct disk_header *h, const uint8_t *header,
	const uint8_t *payload)
{
	if (payload && h->digest != XXH3_64bits(payload, h->length))
		complain(f, "a payload that is not that of its header");
	if (f->n_log < FAKE_LOG_MAX) {
		struct fake_message *l = &f->log[f->n_log++];
		*l = (struct fake_message){.h = *h};
		if (payload && h->length >= 8)
			memcpy(&l->first, payload, 8);
	}
	switch (h->type) {
	case DISK_WRITE:
	case DISK_ZERO:
	case DISK_TRIM:
		take_write(f, h, header, payload);
		break;
	case DISK_END:
		take_end(f, h, payload);
		break;
	case DISK_READ:
		break;
	default:
		complain(f, "a message of type %u", h->type);
	}
	pthread_cond_broadcast(&f->changed);
}

static bool take_message(struct fake_standby *f)
{
	uint8_t header[DISK_HEADER_SIZE], *payload = NULL;
	struct disk_header h;
	if (link_read(f->fd, header, sizeof header, FOREVER, -1) < 0)
		return false;
	if (disk_get_header(header, &h, NULL) < 0) {
		complain(f, "a header that does not decode");
		return false;
	}
	if (disk_has_payload(h.type)) {
		payload = malloc(h.length);
		if (link_read(f->fd, payload, h.length, FOREVER, -1) < 0) {
			free(payload);
			return false;
		}
	}
	pthread_mutex_lock(&f->lock);
	take(f, &h, header, payload);
	pthread_mutex_unlock(&f->lock);
	free(payload);
	if (h.type == DISK_READ) {
		struct disk_header a = {
			.type = DISK_DATA, .disk = h.disk, .offset = h.offset, .length = h.length};
		fake_send(f, &a, f->images[h.disk] + h.offset);
	}
	return true;
}

static void *run(void *arg)
{
	struct fake_standby *f = arg;
	if (!take_hello(f))
		return NULL;
	for (;;) {
		pthread_mutex_lock(&f->lock);
		while (f->frozen && !f->over)
			pthread_cond_wait(&f->changed, &f->lock);
		bool over = f->over;
		pthread_mutex_unlock(&f->lock);
		if (over || !take_message(f))
			return NULL;
	}
}

struct fake_standby *fake_start(int fd)
{
	struct fake_standby *f = calloc(1, sizeof *f);
	pthread_mutex_init(&f->lock, NULL);
	mc_cond_init(&f->changed);
	f->fd = fd;
	f->log = malloc(FAKE_LOG_MAX * sizeof *f->log);
	pthread_create(&f->thread, NULL, run, f);
	return f;
}

void fake_hang_up(struct fake_standby *f)
{
	shutdown(f->fd, SHUT_RDWR);
}

void fake_stop(struct fake_standby *f)
{
	pthread_mutex_lock(&f->lock);
	f->over = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	fake_hang_up(f);
	pthread_join(f->thread, NULL);
	close(f->fd);
	disk_hash_free(f->hash);
	for (size_t i = 0; i < DISKS_MAX; i++)
		free(f->images[i]);
	free(f->log);
	free(f);
}

void fake_freeze(struct fake_standby *f, bool frozen)
{
	pthread_mutex_lock(&f->lock);
	f->frozen = frozen;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static bool wait_changed(struct fake_standby *f, uint64_t until)
{
	struct timespec ts = {(time_t)(until / MC_SEC), (long)(until % MC_SEC)};
	return pthread_cond_timedwait(&f->changed, &f->lock, &ts) == 0;
}

bool fake_wait_end(
	struct fake_standby *f, uint64_t epoch, struct disk_epoch_sum *ret, uint32_t *ret_flags)
{
	uint64_t until = mc_now() + 10 * MC_SEC;
	pthread_mutex_lock(&f->lock);
	while (!f->ended[epoch] && wait_changed(f, until))
		;
	bool ended = f->ended[epoch];
	if (ended && ret)
		*ret = f->ends[epoch];
	if (ended && ret_flags)
		*ret_flags = f->flags[epoch];
	pthread_mutex_unlock(&f->lock);
	return ended;
}

bool fake_wait_messages(struct fake_standby *f, size_t n)
{
	uint64_t until = mc_now() + 10 * MC_SEC;
	pthread_mutex_lock(&f->lock);
	while (f->n_log < n && wait_changed(f, until))
		;
	bool enough = f->n_log >= n;
	pthread_mutex_unlock(&f->lock);
	return enough;
}

struct fake_message *fake_log(struct fake_standby *f, size_t *ret_n)
{
	pthread_mutex_lock(&f->lock);
	struct fake_message *l = malloc((f->n_log + 1) * sizeof *l);
	memcpy(l, f->log, f->n_log * sizeof *l);
	*ret_n = f->n_log;
	pthread_mutex_unlock(&f->lock);
	return l;
}

const char *fake_complaint(struct fake_standby *f)
{
	pthread_mutex_lock(&f->lock);
	pthread_mutex_unlock(&f->lock);
	return f->complaint;
}

uint8_t *fake_image(struct fake_standby *f, size_t disk)
{
	return f->images[disk];
}
