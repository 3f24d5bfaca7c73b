/* SPDX-License-Identifier: GPL-2.0-or-later */
/* evilpeer as a primary whose greeting is wrong. */
#include "evil.h"

#include <stdio.h>
#include <string.h>

static const uint8_t zeroes[1000];

void evil_hello(struct evil *e, const struct wire_hello *w)
{
	uint8_t buf[WIRE_CONTROL_MAX];
	size_t n = wire_put_hello(buf, sizeof buf, w);
	struct wire_header h = evil_header(e, WIRE_HELLO, 0, buf, n);
	evil_message(e, &h, buf);
}

static void hello_other_machine(struct evil *e)
{
	struct wire_hello w = e->hello;
	memcpy(w.machine, "0123456789abcdef", 16);
	evil_hello(e, &w);
}

static void hello_other_layout(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.blocks[0].size += WIRE_PAGE_SIZE;
	evil_hello(e, &w);
}

static void hello_absurd_size(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.blocks[0].size = 1ull << 63;
	evil_hello(e, &w);
}

static void hello_large_size(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.n_blocks = WIRE_BLOCKS_MAX;
	for (size_t i = 0; i < w.n_blocks; i++) {
		snprintf(w.blocks[i].id, sizeof w.blocks[i].id, "ram%zu", i);
		w.blocks[i].size = 1ull << 46;
	}
	evil_hello(e, &w);
}

static void hello_absurd_buffer(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.max_buffer = UINT64_MAX;
	evil_hello(e, &w);
}

static void hello_large_buffer(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.max_buffer = 1ull << 45;
	evil_hello(e, &w);
}

static void hello_small_buffer(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.max_buffer = 1;
	evil_hello(e, &w);
}

static void hello_delay(struct evil *e)
{
	struct wire_hello w = e->hello;
	w.delay = 0;
	evil_hello(e, &w);
}

static void hello_of(struct evil *e, uint64_t generation)
{
	struct wire_hello w = e->hello;
	w.generation = generation;
	e->generation = generation + 1;
	evil_hello(e, &w);
}

static void hello_old_generation(struct evil *e)
{
	hello_of(e, e->generation - 2);
}
static void hello_future_generation(struct evil *e)
{
	hello_of(e, e->generation + 1000);
}

static void hello_skips_generation(struct evil *e)
{
	e->generation++;
	evil_hello(e, &e->hello);
}

static void hello_truncated(struct evil *e)
{
	uint8_t buf[WIRE_CONTROL_MAX];
	size_t n = wire_put_hello(buf, sizeof buf, &e->hello);
	struct wire_header h = evil_header(e, WIRE_HELLO, 0, buf, n - 1);
	evil_message(e, &h, buf);
}

static void hello_garbage(struct evil *e)
{
	struct wire_header h = evil_header(e, WIRE_HELLO, 0, zeroes, sizeof zeroes);
	evil_message(e, &h, zeroes);
}

const struct evil_misdeed evil_hellos[] = {
	{"hello-other-machine", hello_other_machine, true},
	{"hello-other-layout", hello_other_layout, true},
	{"hello-absurd-size", hello_absurd_size, true},
	{"hello-large-size", hello_large_size, true},
	{"hello-absurd-buffer", hello_absurd_buffer, true},
	{"hello-large-buffer", hello_large_buffer, true},
	{"hello-small-buffer", hello_small_buffer, true},
	{"hello-delay", hello_delay, true},
	{"hello-old-generation", hello_old_generation, true},
	{"hello-future-generation", hello_future_generation, true},
	{"hello-skips-generation", hello_skips_generation, true},
	{"hello-truncated", hello_truncated, true},
	{"hello-garbage", hello_garbage, true},
	{NULL},
};
