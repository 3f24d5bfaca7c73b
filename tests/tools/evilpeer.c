/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * evilpeer: a peer that holds the cluster key and does one thing wrong, for tests/scenario/hostile.
 *
 *   evilpeer --config MCD.CONF --vm VM --peer HOST --generation G primary MISDEED
 *	offers the VM's protection to HOST's mcd, in the name of the host that MCD.CONF says
 *   evilpeer --config MCD.CONF standby -
 *	stands in for this host's mcd: beats, and takes one protection of a VM for each line
 *	"VM MISDEED" of its input
 *   evilpeer primary|standby
 *	lists the misdeeds
 *
 * Prints JSON lines: {"ready": MISDEED} when the standby will do it ("" when it has started), and
 * how it ended: {"misdeed", "end": "error"|"closed"|"open",
 * "class", "message", "acks", "at": when the misdeed was done (CLOCK_MONOTONIC), "took_ms"}.
 */
#include "evil.h"

#include "common/cleanup.h"
#include "mcd/guest/cmdline/cmdline.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct mc_error evil_err = MC_ERROR_INIT;

void evil_die(const char *what)
{
	fprintf(stderr, "evilpeer: %s: %s\n", what, evil_err.msg);
	exit(1);
}

/* --- sending --- */

void evil_send(struct evil *e, const void *data, size_t len)
{
	/* A peer that has had enough of us closes: that is an answer, see evil_end. */
	if (!e->gone && link_write(e->fd, data, len, mc_now() + 5 * MC_SEC) < 0)
		e->gone = true;
}

struct wire_header evil_header(
	const struct evil *e, uint16_t type, uint64_t epoch, const void *payload, size_t len)
{
	return (struct wire_header){
		.type = type,
		.generation = e->generation,
		.epoch = epoch,
		.length = len,
		.digest = XXH3_64bits(payload ? payload : "", len),
	};
}

void evil_message(struct evil *e, const struct wire_header *h, const void *payload)
{
	uint8_t buf[WIRE_HEADER_SIZE];
	wire_put_header(buf, h);
	evil_send(e, buf, sizeof buf);
	evil_send(e, payload, h->length);
}

/* A header that wire_put_header would not make: bytes are changed, and the checksum is made right
 * again. */
void evil_patched(struct evil *e, const struct wire_header *h, size_t at, const void *bytes,
	size_t n, const void *payload, size_t len)
{
	uint8_t buf[WIRE_HEADER_SIZE];
	wire_put_header(buf, h);
	memcpy(buf + at, bytes, n);
	if (at < 56)
		put_le64(buf + 56, XXH3_64bits(buf, 56));
	evil_send(e, buf, sizeof buf);
	evil_send(e, payload, len);
}

/* --- receiving --- */

/* The next message; 0, or link_read's error. What does not fit into buf is an error of ours. */
int evil_recv(struct evil *e, struct wire_header *h, void *buf, size_t cap, uint64_t deadline)
{
	uint8_t head[WIRE_HEADER_SIZE];
	int r = link_read(e->fd, head, sizeof head, deadline, -1);
	if (r < 0)
		return r;
	if (wire_get_header(head, h, &evil_err) < 0)
		evil_die("mcd itself sends nonsense");
	if (h->length > cap) {
		mc_error_set(&evil_err, -EMSGSIZE, MC_ECLASS_FAILED, "type %u, %zu bytes", h->type,
			(size_t)h->length);
		evil_die("a message is too long");
	}
	return h->length ? link_read(e->fd, buf, h->length, deadline, -1) : 0;
}

void evil_did(struct evil *e)
{
	e->at = mc_now();
}

/* Listens until the peer has had enough, at most that long; prints how it ended. */
void evil_end(struct evil *e, uint64_t patience)
{
	_cleanup_free_ uint8_t *buf = malloc(SLAB_SIZE);
	struct mc_error theirs = MC_ERROR_INIT;
	const char *end = "open";
	uint64_t deadline = e->at + patience;
	while (buf) {
		struct wire_header h;
		int r = evil_recv(e, &h, buf, SLAB_SIZE, deadline);
		if (r == -ETIMEDOUT)
			break;
		if (r < 0) {
			end = "closed";
			break;
		}
		e->acks += h.type == WIRE_ACK;
		if (h.type == WIRE_ERROR &&
			wire_get_error(buf, h.length, &theirs, &evil_err) == 0) {
			end = "error";
			break;
		}
	}
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:f}", "misdeed", e->misdeed, "end",
		end, "class", theirs.code ? theirs.cls : "", "message", theirs.msg, "acks",
		(json_int_t)e->acks, "at", (json_int_t)e->at, "took_ms",
		(double)(mc_now() - e->at) / 1e6);
	char *text = json_dumps(j, JSON_PRESERVE_ORDER);
	puts(text);
	fflush(stdout);
	free(text);
	json_decref(j);
}

/* --- what both roles need --- */

static void load(struct evil *e, const char *path)
{
	if (config_load(path, &e->cfg, &evil_err) < 0 ||
		link_key_load(e->cfg.key_file, &e->key, &evil_err) < 0)
		evil_die("configuration");
	e->self = config_find_host(&e->cfg, e->cfg.name);
}

/* What a primary of this VM says. */
static void make_hello(struct evil *e)
{
	struct config_vm *vm;
	struct cmdline_plan plan = {0};
	if (config_load_vm(&e->cfg, e->vm, &vm, &evil_err) < 0 ||
		cmdline_plan(vm, &plan, &evil_err) < 0)
		evil_die("configuration of the VM");
	e->hello = (struct wire_hello){
		.generation = e->generation - 1,
		.delay = 100 * MC_MSEC,
		.max_buffer = 32u << 20,
		.n_blocks = plan.n_ram,
	};
	memcpy(e->hello.machine, plan.digest, sizeof e->hello.machine);
	for (size_t i = 0; i < plan.n_ram; i++) {
		snprintf(e->hello.blocks[i].id, sizeof e->hello.blocks[i].id, "%s", plan.ram[i].id);
		e->hello.blocks[i].size = plan.ram[i].size;
	}
	cmdline_plan_clear(&plan);
	config_vm_free(vm);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", 1, NULL, 'c'}, {"vm", 1, NULL, 'v'},
		{"peer", 1, NULL, 'p'}, {"generation", 1, NULL, 'g'}, {0}};
	static struct evil e = {.fd = -1};
	const char *config = "/etc/mcd/mcd.conf";
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
		switch (o) {
		case 'c':
			config = optarg;
			break;
		case 'v':
			e.vm = optarg;
			break;
		case 'p':
			e.peer = optarg;
			break;
		case 'g': /* of the primary's record; the session is of the next one */
			e.generation = strtoull(optarg, NULL, 10) + 1;
			break;
		default:
			return 2;
		}
	bool primary = optind < argc && !strcmp(argv[optind], "primary");
	if (optind + 1 == argc) {
		(primary ? evil_primary_list : evil_standby_list)();
		return 0;
	}
	if (optind + 2 != argc || (primary && (!e.vm || !e.peer || !e.generation))) {
		fprintf(stderr,
			"usage: evilpeer --config FILE --vm VM --peer HOST --generation G primary "
			"MISDEED\n"
			"       evilpeer --config FILE standby -\n");
		return 2;
	}
	mc_log_setup(MC_LOG_ERROR, "evilpeer");
	e.misdeed = argv[optind + 1];
	load(&e, config);
	if (primary)
		make_hello(&e);
	return (primary ? evil_primary : evil_standby)(&e);
}
