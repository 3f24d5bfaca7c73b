/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory of the caller's that the device reads by itself: registered once, found by address. */
#include "common/rdma/stream-private.h"

#include "common/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first one that ends behind `mem`. */
static size_t find(const struct rd_stream *s, const uint8_t *mem)
{
	size_t low = 0, high = s->n_memory;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (s->memory[mid].mem + s->memory[mid].len <= mem)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int register_now(struct rd_stream *s, struct memory *m, struct mc_error *err)
{
	m->mr = ibv_reg_mr(s->c->pd, m->mem, m->len, 0); /* the device only reads it */
	if (m->mr)
		return 0;
	m->refused = true;
	return mc_error_set(err, -errno, MC_ECLASS_MEMORY,
		"RDMA: %zu KiB of checkpoint buffer cannot be registered with the device: %s; "
		"raise LimitMEMLOCK= of mcd (ulimit -l) to more than max-buffer",
		m->len >> 10, strerror(errno));
}

int rd_stream_memory(struct rd_stream *s, void *mem, size_t len, bool now, struct mc_error *err)
{
	int r = 0;
	pthread_mutex_lock(&s->lock);
	if (s->n_memory == s->cap_memory) {
		size_t cap = s->cap_memory ? 2 * s->cap_memory : 16;
		struct memory *v = realloc(s->memory, cap * sizeof *v);
		if (v) {
			s->memory = v;
			s->cap_memory = cap;
		} else {
			r = mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left");
		}
	}
	if (r == 0) {
		size_t i = find(s, mem);
		struct memory m = {.mem = mem, .len = len};
		if (now)
			r = register_now(s, &m, err);
		if (r == 0) {
			memmove(s->memory + i + 1, s->memory + i, (s->n_memory - i) * sizeof m);
			s->memory[i] = m;
			s->n_memory++;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void rd_stream_forget(struct rd_stream *s, void *mem)
{
	pthread_mutex_lock(&s->lock);
	size_t i = find(s, mem);
	if (i < s->n_memory && s->memory[i].mem == mem) {
		if (s->memory[i].mr)
			ibv_dereg_mr(s->memory[i].mr);
		s->n_memory--;
		memmove(s->memory + i, s->memory + i + 1, (s->n_memory - i) * sizeof *s->memory);
	}
	pthread_mutex_unlock(&s->lock);
}

struct ibv_mr *memory_find(struct rd_stream *s, const void *mem, size_t len)
{
	const uint8_t *p = mem;
	size_t i = find(s, p);
	struct memory *m = s->memory + i;
	if (i == s->n_memory || p < m->mem || len > (size_t)(m->mem + m->len - p))
		return NULL;
	if (!m->mr && !m->refused) {
		struct mc_error err = MC_ERROR_INIT;
		if (register_now(s, m, &err) < 0)
			log_warn("%s; it is copied instead", err.msg);
	}
	return m->mr;
}

void memory_forget_all(struct rd_stream *s)
{
	for (size_t i = 0; i < s->n_memory; i++)
		if (s->memory[i].mr)
			ibv_dereg_mr(s->memory[i].mr);
	free(s->memory);
	s->memory = NULL;
	s->n_memory = s->cap_memory = 0;
}
