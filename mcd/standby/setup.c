/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/setup.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "diskmirror/disklink.h"
#include "mcd/daemon.h"
#include "mcd/vm/disks.h"
#include "mcd/standby/available.h"
#include "mcd/vm/life.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

static void refuse_tcp(int fd, const struct mc_error *why);

#define LAUNCH_WAIT (15 * MC_SEC)
#define MEMORY_RESERVE                                                                             \
	(128ull << 20) /* for the waiting QEMU itself, and to leave the host some air */

/* --- memory ---------------------------------------------------------------------------------- */

static int check_memory(const struct standby *s, struct mc_error *err)
{
	struct rd_wants wants;
	transport_rdma_wants(false, 0, &wants);
	/* What a connection by RDMA receives into, whether it is one or not. */
	uint64_t need = MEMORY_RESERVE + s->hello.max_buffer + wants.region + RD_STREAM_FIXED, have = memory_available("/proc", "/sys/fs/cgroup");
	if (s->vm->cfg->n_disks)
		need += disklink_rdma_wants.region + RD_STREAM_FIXED;
	for (size_t i = 0; i < s->hello.n_blocks; i++)
		need += s->hello.blocks[i].size;
	if (need <= have)
		return 0;
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
		"not enough memory for a standby of %s: %.0f MiB are needed (its RAM, max-buffer "
		"and a reserve), %.0f MiB "
		"are available; free some, raise a limit such as systemd's MemoryMax= of mcd, or lower "
		"max-buffer",
		s->vm->name, (double)need / (1 << 20), (double)have / (1 << 20));
}

static int map_replica(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	for (size_t i = 0; i < s->hello.n_blocks; i++) {
		s->sizes[i] = s->hello.blocks[i].size;
		void *p = mmap(
			NULL, s->sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED, vm->ram_fds[i], 0);
		if (p == MAP_FAILED)
			return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
				"cannot map %llu bytes of replica memory: %s",
				(unsigned long long)s->sizes[i], strerror(errno));
		s->replica[i] = p;
	}
	return 0;
}

void setup_zero(struct standby *s, uint32_t block, uint64_t off, uint64_t len)
{
	/* A hole costs no memory and reads as zeroes; what cannot be punched is written. */
	if (fallocate(s->vm->ram_fds[block], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
		    (off_t)len) < 0)
		memset(s->replica[block] + off, 0, len);
}

/* --- slabs ----------------------------------------------------------------------------------- */

static int spill_slab(struct standby *s, struct slab **ret, struct mc_error *err)
{
	_cleanup_free_ struct slab *x = calloc(1, sizeof *x);
	_cleanup_close_ int fd =
		open(s->vm->d->cfg.state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (!x || fd < 0 || posix_fallocate(fd, 0, SLAB_SIZE) != 0)
		return mc_error_set(err, -ENOSPC, MC_ECLASS_MEMORY,
			"the epoch is larger than max-buffer, and %s has no room to spill it: %s",
			s->vm->d->cfg.state_dir, strerror(errno));
	void *p = mmap(NULL, SLAB_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY, "cannot map a slab on disk: %s",
			strerror(errno));
	x->mem = p;
	x->reg = x; /* marks it as not of the pool: setup_put_slab */
	*ret = mc_steal_ptr(x);
	return 0;
}

int setup_get_slab(struct standby *s, struct slab **ret, struct mc_error *err)
{
	int r = slab_get(s->pool, ret, err);
	return r == -ENOBUFS ? spill_slab(s, ret, err) : r;
}

void setup_put_slab(struct standby *s, struct slab *x)
{
	if (x->reg == x) {
		munmap(x->mem, SLAB_SIZE);
		free(x);
	} else {
		slab_put(s->pool, x);
	}
}

/* --- the greeting ---------------------------------------------------------------------------- */

/* The primary must be what the voters say it is.  An image of a session whose generation nobody can
 * decide would never be told that it is worthless, and stay. */
static int check_owner(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct own_record rec = vm_newest_record(vm);
	uint64_t deadline = mc_now() + MC_SEC;
	/* What the primary won a moment ago may not have come here yet. */
	while (rec.generation < s->hello.generation && mc_now() < deadline) {
		int r = voter_current(vm->d->voter, vm->name, deadline, &rec, err);
		if (r < 0)
			return mc_error_wrap(err, "cannot ask who owns %s, which %s offers",
				vm->name, s->primary);
		vm_learned(vm, &rec);
		vm_take_pending(vm);
		if (rec.generation < s->hello.generation)
			vm_wait(vm, mc_now() + 50 * MC_MSEC);
	}
	if (rec.generation == s->hello.generation && !strcmp(rec.owner, s->primary) &&
		!rec.standby[0])
		return 0;
	return mc_error_set(err, -ESTALE, MC_ECLASS_NOT_OWNER,
		"%s is not the sole owner of %s under generation %llu: by the voters' newest "
		"record "
		"(%llu) that is %s",
		s->primary, vm->name, (unsigned long long)s->hello.generation,
		(unsigned long long)rec.generation, rec.owner[0] ? rec.owner : "nobody");
}

static int check_hello(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	struct vm *vm = s->vm;
	if (h->type != WIRE_HELLO)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"the stream begins with message type %u, not HELLO", h->type);
	uint8_t buf[WIRE_CONTROL_MAX];
	int r = transport_recv_payload(s->link, buf, mc_now() + 2 * MC_SEC, err);
	if (r == 0)
		r = wire_get_hello(buf, h->length, &s->hello, err);
	if (r < 0)
		return r;
	if (h->generation != s->hello.generation + 1)
		return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a protection of generation %llu cannot follow a record of generation %llu",
			(unsigned long long)h->generation, (unsigned long long)s->hello.generation);
	s->generation = h->generation;
	r = check_owner(s, err);
	return r < 0 ? r : vm_prepare(vm, err);
}

static int check_machine(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	bool same = vm->plan.n_ram == s->hello.n_blocks;
	for (size_t i = 0; same && i < vm->plan.n_ram; i++)
		same = !strcmp(vm->plan.ram[i].id, s->hello.blocks[i].id) &&
		       vm->plan.ram[i].size == s->hello.blocks[i].size;
	if (same && !strcmp(vm->plan.digest, s->hello.machine))
		return 0;
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
		"the machine in %s is not the one that runs on %s (digest %s here, %s there): make "
		"the command lines equal "
		"and restart the VM",
		vm->cfg->path, s->primary, vm->plan.digest, s->hello.machine);
}

int standby_launch(struct standby *s, struct mc_error *err)
{
	int r = vm_launch(s->vm, true, LAUNCH_WAIT, err);
	if (r == 0)
		r = guest_require(s->vm->guest, err);
	s->has_roms = false;
	return r < 0 || !s->roms.n ? r : setup_put_roms(s, err);
}

int setup_put_roms(struct standby *s, struct mc_error *err)
{
	if (s->has_roms)
		return 0;
	int r = guest_write_roms(s->vm->guest, &s->roms, err);
	s->has_roms = r == 0;
	return r;
}

static int connect_primary(struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct rd_wants wants;
	struct rd_link link;
	transport_rdma_wants(false, 0, &wants);
	int r = rd_welcome(rd_mode_parse(vm->d->cfg.transport), &wants, fd, peer,
		mc_now() + RD_AGREE_TIME, &link, err);
	if (r < 0) {
		refuse_tcp(fd, err);
		return r;
	}
	vm_set_transport(vm, &link);
	return transport_new(&link, &s->link, err);
}

int setup_standby(struct standby *s, int fd, const struct link_peer *peer, struct mc_error *err)
{
	struct vm *vm = s->vm;
	struct wire_header h;
	snprintf(s->primary, sizeof s->primary, "%s", peer->name);
	int r = connect_primary(s, fd, peer, err);
	if (r == 0)
		r = transport_recv(s->link, &h, mc_now() + 2 * MC_SEC, -1, err);
	if (r == 0)
		r = check_hello(s, &h, err);
	if (r == 0)
		r = check_machine(s, err);
	if (r == 0)
		r = check_memory(s, err);
	if (r == 0)
		r = slab_pool_new(s->hello.max_buffer - disks_share(vm, s->hello.max_buffer), NULL, &s->pool, err);
	if (r == 0)
		r = map_replica(s, err);
	if (r < 0)
		return r;
	vm->delay = s->hello.delay;
	vm->max_buffer = s->hello.max_buffer;
	vm->rec.generation = s->hello.generation;
	snprintf(vm->rec.owner, sizeof vm->rec.owner, "%s", s->primary);
	vm->rec.standby[0] = 0;
	daemon_timing(vm->d, vm->delay, &s->timing);
	vm_life_reset_figures(vm);
	vm_set_peer(vm, s->primary);
	vm_set_state(
		vm, VM_ROLE_STANDBY, VM_STANDBY_SYNCING, "%s copies the memory here", s->primary);
	/* The replica's files before the QEMU that opens them. */
	if ((r = disks_receive(s, err)) < 0 || (r = standby_launch(s, err)) < 0)
		return r;
	struct wire_header ok = {
		.type = WIRE_HELLO_OK, .generation = s->generation, .digest = XXH3_64bits("", 0)};
	r = transport_post(s->link, &ok, NULL, err);
	s->last_received = mc_now();
	return r < 0 ? r : transport_flush(s->link, mc_now() + 2 * MC_SEC, err);
}

void setup_free(struct standby *s)
{
	transport_close(s->link);
	s->link = NULL;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		if (s->replica[i])
			munmap(s->replica[i], s->sizes[i]);
	replica_close(s->disks);
	slab_pool_free(s->pool);
	roms_clear(&s->roms);
	free(s->devices);
	free(s->staged_devices);
	free(s->verify);
}

/* --- refusing ----------------------------------------------------------------------------------
 */

void setup_send_error(struct standby *s, const struct mc_error *why)
{
	uint8_t buf[2048];
	if (!s->link)
		return;
	size_t len = wire_put_error(buf, sizeof buf, why);
	struct wire_header h = {
		.type = WIRE_ERROR,
		.generation = s->generation,
		.length = len,
		.digest = XXH3_64bits(buf, len),
	};
	if (transport_post(s->link, &h, buf, NULL) == 0)
		transport_flush(s->link, mc_now() + MC_SEC, NULL);
}

static void refuse_tcp(int fd, const struct mc_error *why)
{
	struct standby s = {0};
	struct wire_header h;
	if (transport_tcp_new(fd, &s.link, NULL) < 0)
		return;
	/* The HELLO is read first: closing over unread data would reset the connection and lose our
	 * answer. */
	if (transport_recv(s.link, &h, mc_now() + MC_SEC, -1, NULL) == 0 &&
		h.length <= WIRE_CONTROL_MAX) {
		uint8_t buf[WIRE_CONTROL_MAX];
		transport_recv_payload(s.link, buf, mc_now() + MC_SEC, NULL);
	}
	setup_send_error(&s, why);
	transport_close(s.link);
}

void standby_refuse(int fd, const struct link_peer *peer, const struct mc_error *why)
{
	rd_refuse(fd, peer, why, mc_now() + MC_SEC);
	refuse_tcp(fd, why);
}

/* --- while it receives -------------------------------------------------------------------------
 */

int setup_recv_payload(struct standby *s, void *buf, uint64_t deadline, struct mc_error *err)
{
	for (;;) {
		uint64_t slice = mc_now() + s->timing.suspect_after / 4;
		int r = transport_recv_payload(
			s->link, buf, slice < deadline ? slice : deadline, err);
		if (r != -ETIMEDOUT) {
			s->last_received = mc_now();
			return r;
		}
		if (mc_now() >= deadline) /* not -ETIMEDOUT: the stream is of no use any more */
			return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
				"%s began a message and does not end it, though its host lives",
				s->primary);
		if (keepalive_suspected(s->vm->d->keepalive, s->primary))
			return mc_error_set(err, -ECONNRESET, MC_ECLASS_UNREACHABLE,
				"%s fell silent in the middle of a message", s->primary);
	}
}

void setup_publish(struct standby *s, uint64_t apply_ns)
{
	struct vm *vm = s->vm;
	struct slab_stats st;
	slab_pool_epoch(s->pool);
	slab_get_stats(s->pool, &st);
	pthread_mutex_lock(&vm->lock);
	vm->pub.epoch = s->committed;
	vm->pub.acked_at = mc_now();
	vm->pub.buffer_in_use = st.total * SLAB_SIZE;
	vm->pub.buffer_peak = st.peak * SLAB_SIZE;
	mc_histogram_add(&vm->pub.apply, apply_ns);
	if (s->disks)
		replica_get_stats(s->disks, &vm->pub.replica);
	pthread_mutex_unlock(&vm->lock);
}

static void relaunch(struct standby *s)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	log_warn("%s: the waiting QEMU ended; starting another (the memory is ours and stays)",
		vm->name);
	vm_watch_guest(vm, false);
	guest_kill(vm->guest);
	guest_free(vm->guest);
	vm->guest = NULL;
	if (standby_launch(s, &err) < 0)
		vm_set_alarm(vm, "the waiting QEMU of %s ended and cannot be started again: %s",
			vm->name, err.msg);
	else
		vm_clear_alarm(vm);
}

bool setup_named(const struct standby *s)
{
	const struct vm *vm = s->vm; /* what we act under, not what we heard of */
	return vm->rec.generation >= s->generation;
}

/* The operator wants the VM here. While the primary lives, moving it is the primary's to do. */
static void takeover_call(struct standby *s, struct vm_call *c)
{
	struct vm *vm = s->vm;
	struct mc_error err = MC_ERROR_INIT;
	struct own_record rec = vm_newest_record(vm);
	if (!keepalive_suspected(vm->d->keepalive, s->primary))
		mc_error_set(&err, -EBUSY, MC_ECLASS_STATE,
			"%s is alive; move %s with 'mcctl failover %s' there", s->primary, vm->name,
			vm->name);
	else if (!s->committed || rec.generation != s->generation ||
		 strcmp(rec.standby, vm->d->cfg.name))
		mc_error_set(&err, -EINVAL, MC_ECLASS_STATE,
			"the copy of %s here is not complete: there is nothing to take over",
			vm->name);
	if (err.code) {
		vm_call_fail(c, &err);
	} else if (!c->force && !vm->d->cfg.failover_automatic && !s->operator) {
		s->operator = true; /* asks for the vote that it waited to be told to ask for */
		vm_call_ok(c, json_pack("{s:s}", "state", "asking for ownership"));
	} else {
		if (s->link) { /* nothing is acknowledged any more from here on */
			transport_close(s->link);
			s->link = NULL;
			s->link_down_at = mc_now();
		}
		vm_set_record(vm, &rec);
		vm_life_takeover(vm, c, s->primary);
	}
}

bool setup_listen(struct standby *s)
{
	struct vm *vm = s->vm;
	unsigned pending = vm_take_pending(vm);
	for (struct vm_call *c; (c = vm_next_call(vm));)
		if (c->verb == VM_TAKEOVER)
			takeover_call(s, c);
		else
			vm_call_wrong_state(vm, c);
	pthread_mutex_lock(&vm->lock);
	bool offered = vm->offered_fd >= 0;
	/* The primary has one session at a time: that it offers another says that this one, whose
	 * connection is gone already, will not be named any more.  The offer stays for idle(). */
	if (offered && !s->link && !setup_named(s) && !strcmp(vm->offered.name, s->primary))
		s->superseded = true;
	int fd = offered && !s->superseded ? mc_steal_fd(&vm->offered_fd) : -1;
	struct link_peer peer = vm->offered;
	pthread_mutex_unlock(&vm->lock);
	if (fd >= 0) {
		struct mc_error err = MC_ERROR_INIT;
		mc_error_set(&err, -EBUSY, MC_ECLASS_STATE, "%s is a standby of %s here already",
			vm->name, s->primary);
		standby_refuse(fd, &peer, &err);
	}
	if (!vm->guest || !guest_alive(vm->guest))
		relaunch(s);
	return vm->quit || (pending & (WAKE_SUSPECT | WAKE_RECORD));
}
