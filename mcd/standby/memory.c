/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/standby/memory.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "diskmirror/disklink.h"
#include "mcd/standby/available.h"
#include "mcd/standby/peer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define RESERVE (128ull << 20) /* for the waiting QEMU itself, and to leave the host some air */

int memory_check(const struct standby *s, struct mc_error *err)
{
	struct rd_wants wants;
	transport_rdma_wants(false, 0, &wants);
	/* What a connection by RDMA receives into, whether it is one or not. */
	uint64_t need = RESERVE + s->hello.max_buffer + wants.region + RD_STREAM_FIXED,
		 have = memory_available("/proc", "/sys/fs/cgroup");
	if (s->vm->cfg->n_disks)
		need += disklink_rdma_wants.region + RD_STREAM_FIXED;
	for (size_t i = 0; i < s->hello.n_blocks; i++)
		need += s->hello.blocks[i].size;
	if (need <= have)
		return 0;
	return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
		"not enough memory for a standby of %s: %.0f MiB are needed (its RAM, max-buffer "
		"and a reserve), %.0f MiB are available; free some, raise a limit such as "
		"systemd's MemoryMax= of mcd, or lower max-buffer",
		s->vm->name, (double)need / (1 << 20), (double)have / (1 << 20));
}

int memory_map(struct standby *s, struct mc_error *err)
{
	struct vm *vm = s->vm;
	for (size_t i = 0; i < s->hello.n_blocks; i++) {
		s->sizes[i] = s->hello.blocks[i].size;
		void *p = mmap(
			NULL, s->sizes[i], PROT_READ | PROT_WRITE, MAP_SHARED, vm->ram_fds[i], 0);
		if (p == MAP_FAILED)
			return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
				"cannot map %" PRIu64 " bytes of replica memory: %s", s->sizes[i],
				strerror(errno));
		s->replica[i] = p;
	}
	return 0;
}

static void zero(struct standby *s, uint32_t block, uint64_t off, uint64_t len)
{
	/* A hole costs no memory and reads as zeroes; what cannot be punched is written. */
	if (fallocate(s->vm->ram_fds[block], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
		    (off_t)len) < 0)
		memset(s->replica[block] + off, 0, len);
}

static int spill_slab(struct standby *s, struct slab **ret, struct mc_error *err)
{
	_cleanup_free_ struct slab *x = calloc(1, sizeof *x);
	_cleanup_close_ int fd =
		open(s->vm->env->cfg->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (!x || fd < 0 || posix_fallocate(fd, 0, SLAB_SIZE) != 0)
		return mc_error_set(err, -ENOSPC, MC_ECLASS_MEMORY,
			"the epoch is larger than max-buffer, and %s has no room to spill it: %s",
			s->vm->env->cfg->state_dir, strerror(errno));
	void *p = mmap(NULL, SLAB_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return mc_error_set(err, -errno, MC_ECLASS_MEMORY, "cannot map a slab on disk: %s",
			strerror(errno));
	x->mem = p;
	x->reg = x; /* marks it as not of the pool: memory_put */
	*ret = mc_steal_ptr(x);
	return 0;
}

static int get_slab(struct standby *s, struct slab **ret, struct mc_error *err)
{
	int r = slab_get(s->pool, ret, err);
	return r == -ENOBUFS ? spill_slab(s, ret, err) : r;
}

void memory_put(struct standby *s, struct slab *x)
{
	if (x->reg == x) {
		munmap(x->mem, SLAB_SIZE);
		free(x);
	} else {
		slab_put(s->pool, x);
	}
}

int memory_receive(
	struct standby *s, const struct wire_header *h, struct slab **ret, struct mc_error *err)
{
	struct slab *x;
	int r = get_slab(s, &x, err);
	if (r < 0)
		return r;
	x->used = h->length;
	x->digest = h->digest;
	r = standby_payload(s, x->mem, mc_now() + PAYLOAD_WAIT, err);
	if (r == 0) /* every range is checked before a single one is applied */
		r = slab_walk(x, s->sizes, s->hello.n_blocks, NULL, NULL, err);
	if (r < 0)
		memory_put(s, x);
	else
		*ret = x;
	return r;
}

void memory_apply(void *ctx, uint32_t block, uint64_t off, const uint8_t *mem, uint64_t len)
{
	struct standby *s = ctx;
	if (mem)
		memcpy(s->replica[block] + off, mem, len);
	else
		zero(s, block, off, len);
}

void memory_publish(struct standby *s, uint64_t apply_ns)
{
	struct slab_stats st;
	struct replica_stats disks;
	slab_pool_epoch(s->pool);
	slab_get_stats(s->pool, &st);
	if (s->disks)
		replica_get_stats(s->disks, &disks);
	struct vm_epoch_figures f = {
		.epoch = s->committed,
		.buffer_in_use = st.total * SLAB_SIZE,
		.buffer_peak = st.peak * SLAB_SIZE,
		.apply_ns = apply_ns,
		.replica = s->disks ? &disks : NULL,
	};
	vm_publish_epoch(s->vm, &f);
}
