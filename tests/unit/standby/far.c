/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The primary's side of the rig: what it says, and what it hears. */
#include "tests/unit/standby/rig.h"

#include "mcd/vm/owner.h"

#include <xxhash.h>

#define PAGE 4096u

void far_post_header(struct rig *r, const struct wire_header *h, const void *payload)
{
	r->lost |= transport_post(r->far, h, payload, NULL) < 0;
	r->sent++;
}

void far_post(struct rig *r, uint16_t type, const void *payload, size_t len)
{
	bool of_epoch = type == WIRE_SLAB || type == WIRE_DEVICES || type == WIRE_COMMIT ||
			type == WIRE_VERIFY;
	struct wire_header h = {
		.type = type,
		.generation = RIG_GENERATION,
		.epoch = of_epoch ? r->now.epoch : 0,
		.length = len,
		.digest = XXH3_64bits(payload ? payload : "", len),
		.flags = type == WIRE_COMMIT ? r->now.guest : 0,
	};
	far_post_header(r, &h, payload);
}

struct wire_header far_recv(struct rig *r)
{
	struct wire_header h = {0};
	struct mc_error err = MC_ERROR_INIT;
	int e = transport_recv(r->far, &h, mc_now() + RIG_WAIT, -1, &err);
	if (e == -ETIMEDOUT)
		fail_msg("the standby says nothing");
	if (e < 0)
		return (struct wire_header){0};
	memset(r->got, 0, sizeof r->got);
	if (h.length && transport_recv_payload(r->far, r->got, mc_now() + RIG_WAIT, &err) < 0)
		fail_msg("%s", err.msg);
	return h;
}

struct wire_header far_expect(struct rig *r, uint16_t type)
{
	struct wire_header h = far_recv(r);
	struct mc_error theirs = MC_ERROR_INIT;
	if (h.type == WIRE_ERROR && type != WIRE_ERROR &&
		wire_get_error(r->got, h.length, &theirs, NULL) == 0)
		fail_msg("the standby says: %s", theirs.msg);
	assert_int_equal(h.type, type);
	if (type != WIRE_ERROR) /* one may come before the session has a generation */
		assert_int_equal(h.generation, RIG_GENERATION);
	return h;
}

void far_expect_nothing(struct rig *r)
{
	struct wire_header h = far_recv(r);
	if (h.type == WIRE_ERROR)
		h = far_recv(r);
	assert_int_equal(h.type, 0);
}

/* --- greeting and synchronisation ------------------------------------------------------------- */

void far_describe(struct rig *r, struct wire_hello *hello)
{
	*hello = (struct wire_hello){.generation = RIG_GENERATION - 1,
		.delay = 2 * MC_MSEC,
		.max_buffer = r->max_buffer};
	struct mc_error err = MC_ERROR_INIT;
	struct config_vm *cfg;
	struct cmdline_plan plan = {0};
	if (config_load_vm(r->env.cfg, "vm1", &cfg, &err) < 0 || cmdline_plan(cfg, &plan, &err) < 0)
		fail_msg("%s", err.msg);
	memcpy(hello->machine, plan.digest, sizeof hello->machine);
	hello->n_blocks = plan.n_ram;
	assert_int_equal(plan.n_ram, 1);
	assert_int_equal(plan.ram[0].size, RIG_RAM);
	snprintf(hello->blocks[0].id, sizeof hello->blocks[0].id, "%s", plan.ram[0].id);
	hello->blocks[0].size = plan.ram[0].size;
	r->disks = cfg->n_disks > 0;
	cmdline_plan_clear(&plan);
	config_vm_free(cfg);
}

void far_send_hello(struct rig *r, const struct wire_hello *hello)
{
	uint8_t buf[WIRE_CONTROL_MAX];
	far_post(r, WIRE_HELLO, buf, wire_put_hello(buf, sizeof buf, hello));
}

void far_hello(struct rig *r)
{
	struct wire_hello hello;
	far_describe(r, &hello);
	far_send_hello(r, &hello);
	far_expect(r, WIRE_HELLO_OK);
	r->now.epoch = 1;
}

static void begin_slab(struct rig *r)
{
	r->slab.used = 0;
}

void far_write(struct rig *r, uint64_t off, size_t len)
{
	static uint64_t seed = 1; /* each write is another */
	for (size_t i = 0; i < len; i += 8) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		memcpy(r->now.ram + off + i, &seed, 8);
	}
	assert_int_equal(slab_append(&r->slab, 0, off, r->now.ram + off, len), len);
}

static void send_rom(struct rig *r)
{
	uint8_t buf[300 + PAGE] = {0};
	size_t at = wire_put_rom(buf, sizeof buf, "pc.bios");
	memcpy(buf + at, r->rom, strlen(r->rom));
	far_post(r, WIRE_ROM, buf, at + PAGE);
}

void far_sync(struct rig *r)
{
	if (r->rom)
		send_rom(r);
	begin_slab(r);
	far_write(r, 0, 16 * PAGE);
	far_write(r, RIG_RAM - PAGE, PAGE);
	slab_seal(&r->slab);
	far_post(r, WIRE_SYNC, r->slab.mem, r->slab.used);
	far_post(r, WIRE_SYNC_END, NULL, 0);
	far_expect(r, WIRE_SYNC_OK);
}

/* --- epochs ----------------------------------------------------------------------------------- */

/* Under the lock: at a vote the VM's thread makes a COMMIT of it. */
static void count(struct rig *r, uint16_t type, uint64_t digest, uint64_t len)
{
	pthread_mutex_lock(&r->lock);
	if (!r->counted.slabs && !r->counted.device_bytes)
		wire_epoch_digest_init(&r->digest, RIG_GENERATION, r->now.epoch);
	wire_epoch_digest_add(&r->digest, digest, len);
	if (type == WIRE_SLAB) {
		r->counted.slabs++;
		r->counted.bytes += len;
	} else {
		r->counted.device_bytes = len;
	}
	pthread_mutex_unlock(&r->lock);
}

void far_send_slab(struct rig *r)
{
	slab_seal(&r->slab);
	count(r, WIRE_SLAB, r->slab.digest, r->slab.used);
	far_post(r, WIRE_SLAB, r->slab.mem, r->slab.used);
	begin_slab(r);
}

void far_slab(struct rig *r)
{
	uint64_t at = (r->now.epoch * 5 + r->counted.slabs) % 1000;
	begin_slab(r);
	far_write(r, at * PAGE, 2 * PAGE);
	far_write(r, 0, PAGE); /* the newest of each epoch counts */
	/* And some memory is given back, with whatever was in it. */
	memset(r->now.ram + 8 * PAGE, 0, PAGE);
	assert_int_equal(slab_append_zero(&r->slab, 0, 8 * PAGE, PAGE), 1);
	far_send_slab(r);
}

void far_devices(struct rig *r)
{
	size_t len = (size_t)snprintf(r->now.devices, sizeof r->now.devices,
		"the devices at epoch %llu", (unsigned long long)r->now.epoch);
	count(r, WIRE_DEVICES, XXH3_64bits(r->now.devices, len), len);
	far_post(r, WIRE_DEVICES, r->now.devices, len);
}

struct wire_commit far_sum(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	struct wire_commit c = r->counted;
	struct wire_epoch_digest d = r->digest;
	pthread_mutex_unlock(&r->lock);
	c.disk_writes = r->disk_sum.writes;
	c.disk_bytes = r->disk_sum.bytes;
	c.disk_digest = r->disk_sum.digest;
	if (r->disks)
		wire_epoch_digest_add(&d, c.disk_digest, c.disk_bytes);
	c.digest = d.h;
	return c;
}

void far_send_commit(struct rig *r, const struct wire_commit *c)
{
	uint8_t buf[64];
	far_post(r, WIRE_COMMIT, buf, wire_put_commit(buf, sizeof buf, c));
}

void far_commit(struct rig *r)
{
	struct wire_commit c = far_sum(r);
	far_send_commit(r, &c);
}

void far_acked(struct rig *r)
{
	struct wire_header h = far_expect(r, WIRE_ACK);
	assert_int_equal(h.epoch, r->now.epoch);
	assert_int_equal(h.digest, far_sum(r).digest);
	rig_copy(&r->image, &r->now);
	pthread_mutex_lock(&r->lock);
	r->now.epoch++;
	r->counted = (struct wire_commit){0};
	pthread_mutex_unlock(&r->lock);
}

void far_epoch(struct rig *r)
{
	far_slab(r);
	far_devices(r);
	far_commit(r);
	far_acked(r);
}

void far_named(struct rig *r)
{
	struct own_record named = world_record(RIG_GENERATION, "hostA", "hostB");
	world_decide(r->w, &named);
	vm_learned(r->vm, &named);
	far_post(r, WIRE_PROTECTED, NULL, 0);
}

void rig_protect(struct rig *r)
{
	rig_begin(r);
	far_hello(r);
	far_sync(r);
	far_epoch(r);
	far_named(r);
	far_epoch(r); /* its ACK says that all before it was done */
}

void far_close(struct rig *r)
{
	transport_close(r->far);
	r->far = NULL;
}

void far_dies(struct rig *r)
{
	world_suspect(r->w, "hostA", true);
	vm_ring(r->vm, WAKE_SUSPECT);
}
