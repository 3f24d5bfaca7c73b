/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where fake guests come from, and what a test says and sees of them. */
#include "tests/fakes/fake-guest-private.h"
#include "tests/fakes/faults.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#define PAGE      4096
#define FIRST_PID 0x40000000 /* larger than the kernel's own can be */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_guest *list;
static unsigned launched;
static struct {
	unsigned skip;
	int code;
} fail_source[2]; /* LAUNCH, ADOPT */

/* --- the source ------------------------------------------------------------------------------- */

static struct fake_guest *find(const char *vm)
{
	struct fake_guest *f = list;
	while (f && strcmp(f->vm, vm))
		f = f->next;
	return f;
}

static int source_verdict(enum fake_guest_op op, struct mc_error *err)
{
	int code = faults_next();
	if (!code && fail_source[op].code && !fail_source[op].skip--) {
		code = fail_source[op].code;
		fail_source[op].code = 0;
	}
	if (!code)
		return 0;
	return mc_error_set(err, -code, MC_ECLASS_QMP, "injected failure of %s: %s",
		fake_guest_op_name(op), strerror(code));
}

static void take_ram(struct fake_guest *f, const struct guest_launch *l)
{
	f->n_blocks = l->plan->n_ram;
	for (size_t i = 0; i < f->n_blocks; i++) {
		struct fake_block *b = &f->block[i];
		snprintf(b->id, sizeof b->id, "%s", l->plan->ram[i].id);
		b->size = l->plan->ram[i].size;
		assert(b->size && b->size % PAGE == 0);
		b->fd = fcntl(l->ram_fds[i], F_DUPFD_CLOEXEC, 3);
		b->map = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
		b->dirty = calloc(b->size / PAGE, sizeof *b->dirty);
		assert(b->fd >= 0 && b->map != MAP_FAILED && b->dirty);
	}
}

static int launch(const struct guest_launch *l, struct guest **ret, struct mc_error *err)
{
	pthread_mutex_lock(&list_lock);
	int r = source_verdict(FAKE_GUEST_LAUNCH, err);
	if (r < 0) {
		pthread_mutex_unlock(&list_lock);
		return r;
	}
	struct fake_guest *f = calloc(1, sizeof *f);
	assert(f);
	f->guest = (struct guest){
		.ops = &fake_guest_ops,
		.pid = (pid_t)(FIRST_PID + launched++),
		.pidfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	assert(f->guest.pidfd >= 0);
	pthread_mutex_init(&f->lock, NULL);
	snprintf(f->vm, sizeof f->vm, "%s", l->vm->name);
	take_ram(f, l);
	f->incoming = l->incoming;
	f->running = !l->incoming;
	f->why = GUEST_EVENT_STOPPED;
	f->inventory = (struct guest_inventory){.devices = 1};
	f->disk_size = 1 << 20;
	f->mirror = (struct guest_mirror){.done = 1 << 20, .total = 1 << 20, .ready = true};
	f->next = list;
	list = f;
	pthread_mutex_unlock(&list_lock);
	fake_guest_set_devices(&f->guest, f->vm, strlen(f->vm));
	*ret = &f->guest;
	return 0;
}

static int adopt(const struct config_vm *vm, const char *run_dir, uint64_t deadline,
	struct guest **ret, int *ret_taps, enum guest_adopted *ret_how, struct mc_error *err)
{
	pthread_mutex_lock(&list_lock);
	int r = source_verdict(FAKE_GUEST_ADOPT, err);
	struct fake_guest *f = find(vm->name);
	pthread_mutex_unlock(&list_lock);
	if (r < 0)
		return r;
	if (!f)
		return -ENOENT;
	pthread_mutex_lock(&f->lock);
	if (f->dead || !f->freed)
		return fake_end(f, -ENOENT);
	for (size_t i = 0; i < vm->n_nics; i++)
		ret_taps[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	bool asked = !f->running && !f->incoming && f->why == GUEST_EVENT_STOPPED;
	*ret_how = f->incoming ? GUEST_ADOPTED_WAITING
		   : asked     ? GUEST_ADOPTED_STOPPED
			       : GUEST_ADOPTED_RUNNING;
	f->freed = f->standing = false;
	f->guest.ours = asked;
	f->n_events = 0; /* nobody listened; but why it stands can be asked for */
	if (!f->running && !f->incoming && !asked)
		fake_push(f, f->why);
	*ret = &f->guest;
	return fake_end(f, 0);
}

const struct guest_source *fake_guests_source(void)
{
	static const struct guest_source source = {.launch = launch, .adopt = adopt};
	return &source;
}

struct guest *fake_guest_find(const char *vm)
{
	pthread_mutex_lock(&list_lock);
	struct fake_guest *f = find(vm);
	pthread_mutex_unlock(&list_lock);
	return f ? &f->guest : NULL;
}

unsigned fake_guests_launched(void)
{
	pthread_mutex_lock(&list_lock);
	unsigned n = launched;
	pthread_mutex_unlock(&list_lock);
	return n;
}

static void destroy(struct fake_guest *f)
{
	assert(!f->tracker);
	for (size_t i = 0; i < f->n_blocks; i++) {
		munmap(f->block[i].map, f->block[i].size);
		close(f->block[i].fd);
		free(f->block[i].dirty);
	}
	close(f->guest.pidfd);
	roms_clear(&f->roms);
	free(f->devices);
	free(f->activated);
	free(f->log);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

void fake_guests_clear(void)
{
	pthread_mutex_lock(&list_lock);
	for (struct fake_guest *f = list, *next; f; f = next) {
		next = f->next;
		destroy(f);
	}
	list = NULL;
	launched = 0;
	memset(fail_source, 0, sizeof fail_source);
	pthread_mutex_unlock(&list_lock);
}

/* --- what it does ----------------------------------------------------------------------------- */

void fake_guest_write(struct guest *g, size_t block, uint64_t off, const void *data, size_t len)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	assert(block < f->n_blocks && off <= f->block[block].size &&
		len <= f->block[block].size - off);
	struct fake_block *b = &f->block[block];
	memcpy(b->map + off, data, len);
	for (uint64_t p = off / PAGE; len && p <= (off + len - 1) / PAGE; p++)
		b->dirty[p] = true;
	pthread_mutex_unlock(&f->lock);
}

void fake_push(struct fake_guest *f, enum guest_event ev)
{
	assert(f->n_events < EVENTS_MAX);
	f->events[f->n_events++] = ev;
}

void fake_end_process(struct fake_guest *f)
{
	f->dead = true;
	f->running = false;
	ssize_t n = write(f->guest.pidfd, &(uint64_t){1}, sizeof(uint64_t));
	assert(n == sizeof(uint64_t) || errno == EAGAIN);
}

void fake_guest_happens(struct guest *g, enum guest_event what)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	switch (what) {
	case GUEST_EVENT_NONE:
		break;
	case GUEST_EVENT_GONE: /* is told by the process itself */
		fake_end_process(f);
		break;
	case GUEST_EVENT_SHUTDOWN:
	case GUEST_EVENT_PANICKED:
	case GUEST_EVENT_STOPPED:
		f->running = false;
		f->why = what;
		fake_push(f, what);
		break;
	case GUEST_EVENT_RESUMED:
		f->running = true;
		f->ran |= f->standing;
		fake_push(f, what);
		break;
	case GUEST_EVENT_RESET:
		f->was_reset |= f->standing;
		fake_push(f, what);
		break;
	}
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_die(struct guest *g)
{
	fake_guest_happens(g, GUEST_EVENT_GONE);
}

/* --- what it is ------------------------------------------------------------------------------- */

bool fake_guest_runs(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	return fake_end(f, f->running);
}

bool fake_guest_is_free(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	return fake_end(f, f->freed);
}

uint8_t *fake_guest_ram(struct guest *g, size_t block, uint64_t *ret_size)
{
	struct fake_guest *f = fake_of(g);
	assert(block < f->n_blocks);
	if (ret_size)
		*ret_size = f->block[block].size;
	return f->block[block].map;
}

uint64_t fake_guest_digest(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	uint64_t digest = 0;
	for (size_t i = 0; i < f->n_blocks; i++)
		digest = XXH3_64bits_withSeed(f->block[i].map, f->block[i].size, digest);
	return digest;
}

const uint8_t *fake_guest_activated(struct guest *g, size_t *ret_len)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	const uint8_t *state = f->activated;
	if (state)
		*ret_len = f->activated_len;
	pthread_mutex_unlock(&f->lock);
	return state;
}

const struct roms *fake_guest_roms(struct guest *g)
{
	return &fake_of(g)->roms;
}

bool fake_guest_mirrors(struct guest *g, const char *disk)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	bool found = false;
	for (size_t i = 0; i < CONFIG_DISKS_MAX; i++)
		found |= !strcmp(f->mirrored[i], disk);
	return fake_end(f, found);
}

/* --- what it will answer ---------------------------------------------------------------------- */

void fake_guest_set_devices(struct guest *g, const void *state, size_t len)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	free(f->devices);
	f->devices = malloc(len);
	assert(f->devices && len);
	memcpy(f->devices, state, len);
	f->devices_len = len;
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_set_inventory(struct guest *g, const struct guest_inventory *inventory)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	f->inventory = *inventory;
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_add_rom(struct guest *g, const char *id, const void *data, size_t len)
{
	struct fake_guest *f = fake_of(g);
	uint8_t *copy = malloc(len);
	assert(copy);
	memcpy(copy, data, len);
	pthread_mutex_lock(&f->lock);
	int r = roms_add(&f->roms, id, copy, len, NULL);
	assert(r == 0);
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_set_disk(
	struct guest *g, uint64_t size, uint64_t flushes, const struct guest_mirror *mirror)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	f->disk_size = size;
	f->flushes = flushes;
	f->mirror = *mirror;
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_fail(struct guest *g, enum fake_guest_op op, unsigned skip, int code)
{
	assert(op < FAKE_GUEST_OP_MAX && code > 0);
	if (op == FAKE_GUEST_LAUNCH || op == FAKE_GUEST_ADOPT) {
		assert(!g);
		pthread_mutex_lock(&list_lock);
		fail_source[op].skip = skip;
		fail_source[op].code = code;
		pthread_mutex_unlock(&list_lock);
		return;
	}
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	f->op[op].skip = skip;
	f->op[op].code = code;
	pthread_mutex_unlock(&f->lock);
}

void fake_guest_hook(
	struct guest *g, void (*fn)(void *ctx, struct guest *g, enum fake_guest_op op), void *ctx)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	f->hook = fn;
	f->hook_ctx = ctx;
	pthread_mutex_unlock(&f->lock);
}

const char *fake_guest_log(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	return f->log ? f->log : "";
}

void fake_guest_log_clear(struct guest *g)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	if (f->log)
		f->log[f->log_len = 0] = 0;
	pthread_mutex_unlock(&f->lock);
}

unsigned fake_guest_calls(struct guest *g, enum fake_guest_op op)
{
	struct fake_guest *f = fake_of(g);
	pthread_mutex_lock(&f->lock);
	unsigned n = f->op[op].calls;
	pthread_mutex_unlock(&f->lock);
	return n;
}
