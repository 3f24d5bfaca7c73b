/* SPDX-License-Identifier: GPL-2.0-or-later */
/* evilpeer as a primary: all is right up to the misdeed. */
#include "evil.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

/* --- a primary that does it right --- */

uint8_t evil_page[WIRE_RANGE_SIZE + WIRE_PAGE_SIZE];
const uint8_t evil_state[1000];

size_t evil_one_page(uint32_t block, uint32_t flags, uint64_t off, uint64_t len)
{
	put_le32(evil_page, block);
	put_le32(evil_page + 4, flags);
	put_le64(evil_page + 8, off);
	put_le64(evil_page + 16, len);
	return sizeof evil_page;
}

void evil_slab(struct evil *e, uint64_t epoch)
{
	size_t n = evil_one_page(0, 0, 0, WIRE_PAGE_SIZE);
	struct wire_header h = evil_header(e, WIRE_SLAB, epoch, evil_page, n);
	evil_message(e, &h, evil_page);
}

void evil_devices(struct evil *e, uint64_t epoch, size_t len)
{
	struct wire_header h = evil_header(e, WIRE_DEVICES, epoch, evil_state, len);
	evil_message(e, &h, evil_state);
}

/* What the COMMIT of one evil_slab() and the devices says. */
struct wire_commit evil_honest(const struct evil *e, uint64_t epoch)
{
	struct wire_epoch_digest d;
	evil_one_page(0, 0, 0, WIRE_PAGE_SIZE);
	wire_epoch_digest_init(&d, e->generation, epoch);
	wire_epoch_digest_add(&d, XXH3_64bits(evil_page, sizeof evil_page), sizeof evil_page);
	wire_epoch_digest_add(&d, XXH3_64bits(evil_state, sizeof evil_state), sizeof evil_state);
	return (struct wire_commit){1, sizeof evil_page, sizeof evil_state, d.h};
}

void evil_commit(struct evil *e, uint64_t epoch, const struct wire_commit *c)
{
	uint8_t buf[64];
	size_t n = wire_put_commit(buf, sizeof buf, c);
	struct wire_header h = evil_header(e, WIRE_COMMIT, epoch, buf, n);
	evil_message(e, &h, buf);
}

void evil_bare(struct evil *e, uint16_t type, uint64_t epoch)
{
	struct wire_header h = evil_header(e, type, epoch, NULL, 0);
	evil_message(e, &h, NULL);
}

static void greet(struct evil *e)
{
	struct wire_header h;
	uint8_t buf[WIRE_CONTROL_MAX];
	evil_hello(e, &e->hello);
	if (evil_recv(e, &h, buf, sizeof buf, mc_now() + 20 * MC_SEC) < 0 ||
		h.type != WIRE_HELLO_OK) {
		if (h.type == WIRE_ERROR)
			wire_get_error(buf, h.length, &evil_err, &evil_err);
		evil_die("a correct HELLO is not taken");
	}
}

void evil_epoch(struct evil *e, uint64_t n)
{
	struct wire_header h;
	struct wire_commit c = evil_honest(e, n);
	evil_slab(e, n);
	evil_devices(e, n, sizeof evil_state);
	evil_commit(e, n, &c);
	if (evil_recv(e, &h, NULL, 0, mc_now() + 5 * MC_SEC) < 0 || h.type != WIRE_ACK ||
		h.digest != c.digest)
		evil_die("a correct epoch is not acknowledged");
}

/* --- silence --- */

static void say_nothing(struct evil *e)
{
}

/* A whole image, and then nobody: the record that would name the standby is never decided. */
static void vanish_after_commit(struct evil *e)
{
	evil_epoch(e, 1);
	shutdown(e->fd, SHUT_WR);
}

static void no_hello(struct evil *e)
{
	evil_slab(e, 1);
}

static void correct_hello(struct evil *e)
{
	evil_hello(e, &e->hello);
}

static const struct evil_misdeed silences[] = {
	{"no-hello", no_hello, true},
	/* Silence has bounds of its own: 2 s for a HELLO, 30 s for the rest. */
	{"silent-from-the-start", say_nothing, true, 4},
	{"silent-after-hello", say_nothing, false, 40},
	{"silent-in-a-slab", evil_half_slab, false, 40},
	{"vanish-after-commit", vanish_after_commit, false, 4},
	/* Not a misdeed by itself; where the VM is protected already, or runs, it is. */
	{"correct-hello", correct_hello, true, 4},
	{NULL},
};

/* --- all of them --- */

static const struct evil_misdeed *const all[] = {evil_hellos, evil_bytes, evil_order, silences};
#define N_ALL (sizeof all / sizeof *all)

void evil_primary_list(void)
{
	for (size_t i = 0; i < N_ALL; i++)
		for (const struct evil_misdeed *m = all[i]; m->name; m++)
			puts(m->name);
}

static const struct evil_misdeed *find(const char *name)
{
	for (size_t i = 0; i < N_ALL; i++)
		for (const struct evil_misdeed *m = all[i]; m->name; m++)
			if (!strcmp(m->name, name))
				return m;
	return NULL;
}

int evil_primary(struct evil *e)
{
	const struct evil_misdeed *m = find(e->misdeed);
	const struct config_host *h = config_find_host(&e->cfg, e->peer);
	if (!m || !h) {
		fprintf(stderr, "evilpeer: no such misdeed, or no such host\n");
		return 2;
	}
	struct link_self self = {e->cfg.name, &e->key, 1, e->self->address};
	struct link_target to = {e->peer, h->address, h->port, LINK_DATA, e->vm};
	e->fd = link_connect(&self, &to, mc_now() + 2 * MC_SEC, NULL, &evil_err);
	if (e->fd < 0)
		evil_die("connecting");
	if (!m->before_hello)
		greet(e);
	evil_did(e);
	m->run(e);
	evil_end(e, (uint64_t)(m->patience ? m->patience : 2) * MC_SEC);
	close(e->fd);
	return 0;
}
