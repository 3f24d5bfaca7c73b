/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fakes/netbuf-fake.h"

#include "netbuf/netbuf-internal.h"
#include "netbuf/queue.h"
#include "tests/fakes/faults.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct out_frame {
	struct out_frame *next;
	uint64_t epoch;
	size_t nic, len;
	uint8_t data[];
};

struct fake {
	struct netbuf nb;
	struct fake *next;
	char vm[64];
	uint64_t limit;
	void (*pressure)(void *ctx);
	void *ctx;
	pthread_mutex_t lock;
	enum netbuf_state state;
	struct queue held;
	struct out_frame *out, **out_tail; /* until netbuf_fake_take */
	uint64_t epoch;
	bool pressed;
	struct netbuf_stats st;
	struct {
		unsigned skip, calls;
		int code;
	} op[NETBUF_FAKE_OP_MAX];
};

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake *list;
static struct netbuf_fake_watcher watcher;

static struct fake *fake_of(struct netbuf *nb)
{
	return (struct fake *)nb;
}

struct netbuf *netbuf_fake_find(const char *vm)
{
	pthread_mutex_lock(&list_lock);
	struct fake *f = list;
	while (f && strcmp(f->vm, vm))
		f = f->next;
	pthread_mutex_unlock(&list_lock);
	return f ? &f->nb : NULL;
}

static void update(struct fake *f)
{
	f->st.held_bytes = f->held.bytes;
	f->st.held_frames = f->held.frames;
	if (f->held.bytes > f->st.held_bytes_max)
		f->st.held_bytes_max = f->held.bytes;
}

static void unlock(struct fake *f)
{
	update(f);
	bool press = f->state == NETBUF_HOLDING && !f->pressed && f->held.bytes >= f->limit / 4 * 3;
	f->pressed = f->pressed || press;
	pthread_mutex_unlock(&f->lock);
	if (press && f->pressure)
		f->pressure(f->ctx);
}

/* Takes the lock, or fails as the test wished. */
static int begin(struct fake *f, enum netbuf_fake_op op, uint64_t epoch, struct mc_error *err)
{
	if (watcher.op)
		watcher.op(watcher.ctx, op, epoch);
	int code = faults_next();
	pthread_mutex_lock(&f->lock);
	if (!code && f->op[op].code && !f->op[op].skip--) {
		code = f->op[op].code;
		f->op[op].code = 0;
	}
	if (code) {
		pthread_mutex_unlock(&f->lock);
		return mc_error_set(
			err, -code, MC_ECLASS_FAILED, "injected failure: %s", strerror(code));
	}
	f->op[op].calls++;
	return 0;
}

static void let_out(struct fake *f, uint64_t epoch, size_t nic, const void *data, size_t len)
{
	if (watcher.out)
		watcher.out(watcher.ctx, epoch, data, len);
	struct out_frame *o = malloc(sizeof *o + len);
	if (!o) {
		f->st.lost_frames++;
		return;
	}
	*o = (struct out_frame){.epoch = epoch, .nic = nic, .len = len};
	memcpy(o->data, data, len);
	*f->out_tail = o;
	f->out_tail = &o->next;
	f->st.released_frames++;
	f->st.released_bytes += len;
}

static void let_out_until(struct fake *f, uint64_t epoch)
{
	struct queue_frame *q;
	while ((q = queue_head(&f->held)) && q->epoch <= epoch) {
		let_out(f, q->epoch, q->nic, q->data, q->len);
		queue_pop(&f->held);
	}
}

static int fake_probe(struct mc_error *err)
{
	return 0;
}

static int fake_open(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
	struct mc_error *err)
{
	struct fake *f = calloc(1, sizeof *f);
	if (!f)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	snprintf(f->vm, sizeof f->vm, "%s", cfg->vm);
	f->limit = cfg->limit;
	f->out_tail = &f->out;
	f->pressure = cfg->pressure;
	f->ctx = cfg->ctx;
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_lock(&list_lock);
	f->next = list;
	list = f;
	pthread_mutex_unlock(&list_lock);
	*ret = &f->nb;
	return 0;
}

static int fake_guest_fd(struct netbuf *nb, size_t i)
{
	return -1;
}

static int fake_hold(struct netbuf *nb, uint64_t first, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_HOLD, first, err);
	if (r < 0)
		return r;
	f->state = NETBUF_HOLDING;
	f->epoch = first;
	f->pressed = false;
	unlock(f);
	return 0;
}

static int fake_barrier(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_BARRIER, epoch, err);
	if (r < 0)
		return r;
	assert(f->state == NETBUF_HOLDING && f->epoch == epoch);
	f->epoch = epoch + 1;
	f->pressed = false;
	unlock(f);
	return 0;
}

static int fake_release(struct netbuf *nb, uint64_t epoch, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_RELEASE, epoch, err);
	if (r < 0)
		return r;
	assert(f->state == NETBUF_HOLDING && epoch < f->epoch);
	let_out_until(f, epoch);
	unlock(f);
	return 0;
}

static int fake_pass(struct netbuf *nb, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_PASS, 0, err);
	if (r < 0)
		return r;
	let_out_until(f, UINT64_MAX);
	f->state = NETBUF_OPEN;
	unlock(f);
	return 0;
}

static int fake_shut(struct netbuf *nb, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_SHUT, 0, err);
	if (r < 0)
		return r;
	f->st.dropped_frames += queue_clear(&f->held);
	f->state = NETBUF_CLOSED;
	unlock(f);
	return 0;
}

static int fake_announce(struct netbuf *nb, struct mc_error *err)
{
	struct fake *f = fake_of(nb);
	int r = begin(f, NETBUF_FAKE_ANNOUNCE, 0, err);
	if (r < 0)
		return r;
	unlock(f);
	return 0;
}

static void fake_get_stats(struct netbuf *nb, struct netbuf_stats *ret)
{
	struct fake *f = fake_of(nb);
	pthread_mutex_lock(&f->lock);
	*ret = f->st;
	ret->backend = "fake";
	pthread_mutex_unlock(&f->lock);
}

static void fake_close(struct netbuf *nb)
{
	struct fake *f = fake_of(nb);
	pthread_mutex_lock(&list_lock);
	struct fake **p = &list;
	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	pthread_mutex_unlock(&list_lock);
	queue_destroy(&f->held);
	for (struct out_frame *o = f->out, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	pthread_mutex_destroy(&f->lock);
	free(f);
}

static const struct netbuf_ops fake_ops = {
	.name = "fake",
	.probe = fake_probe,
	.open = fake_open,
	.guest_fd = fake_guest_fd,
	.hold = fake_hold,
	.barrier = fake_barrier,
	.release = fake_release,
	.pass = fake_pass,
	.shut = fake_shut,
	.announce = fake_announce,
	.get_stats = fake_get_stats,
	.close = fake_close,
};

__attribute__((constructor)) static void make_known(void)
{
	netbuf_add_backend(&fake_ops);
}

/* ---- for tests ---- */

int netbuf_fake_send(struct netbuf *nb, size_t nic, const void *frame, size_t len)
{
	struct fake *f = fake_of(nb);
	struct iovec iov = {(void *)frame, len};
	int r = 0;
	if (len > NETBUF_FAKE_FRAME_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&f->lock);
	if (f->state == NETBUF_CLOSED)
		f->st.dropped_frames++;
	else if (f->state == NETBUF_OPEN)
		let_out(f, QUEUE_FREE_TO_GO, nic, frame, len);
	else if (f->held.bytes >= f->limit)
		r = -EAGAIN;
	else
		r = queue_push(&f->held, f->epoch, nic, &iov, 1);
	unlock(f);
	return r;
}

ssize_t netbuf_fake_take(
	struct netbuf *nb, void *buf, size_t size, size_t *ret_nic, uint64_t *ret_epoch)
{
	struct fake *f = fake_of(nb);
	ssize_t r = -EAGAIN;
	pthread_mutex_lock(&f->lock);
	struct out_frame *q = f->out;
	if (q && q->len > size) {
		r = -EMSGSIZE;
	} else if (q) {
		r = (ssize_t)q->len;
		memcpy(buf, q->data, q->len);
		if (ret_nic)
			*ret_nic = q->nic;
		if (ret_epoch)
			*ret_epoch = q->epoch;
		f->out = q->next;
		if (!f->out)
			f->out_tail = &f->out;
		free(q);
	}
	pthread_mutex_unlock(&f->lock);
	return r;
}

bool netbuf_fake_input(struct netbuf *nb, size_t nic, const void *frame, size_t len)
{
	struct fake *f = fake_of(nb);
	pthread_mutex_lock(&f->lock);
	bool passed = f->state != NETBUF_CLOSED;
	if (passed) {
		f->st.input_frames++;
		f->st.input_bytes += len;
	} else {
		f->st.dropped_frames++;
	}
	pthread_mutex_unlock(&f->lock);
	return passed;
}

void netbuf_fake_watch(const struct netbuf_fake_watcher *w)
{
	watcher = w ? *w : (struct netbuf_fake_watcher){0};
}

const char *netbuf_fake_op_name(enum netbuf_fake_op op)
{
	static const char *const names[NETBUF_FAKE_OP_MAX] = {
		"hold", "barrier", "release", "pass", "shut", "announce"};
	return names[op];
}

void netbuf_fake_fail(struct netbuf *nb, enum netbuf_fake_op op, unsigned skip, int code)
{
	struct fake *f = fake_of(nb);
	pthread_mutex_lock(&f->lock);
	f->op[op].skip = skip;
	f->op[op].code = code;
	pthread_mutex_unlock(&f->lock);
}

unsigned netbuf_fake_calls(struct netbuf *nb, enum netbuf_fake_op op)
{
	struct fake *f = fake_of(nb);
	pthread_mutex_lock(&f->lock);
	unsigned n = f->op[op].calls;
	pthread_mutex_unlock(&f->lock);
	return n;
}
