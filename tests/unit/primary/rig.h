/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A protection on its primary, hostA, in a test's own thread: the test plays the VM's thread and
 * calls protect_run and its like, which return when the protection is over.  A thread plays hostB
 * at the other end of the stream (far.c); a guest talks all the time.  What happens is written
 * down, and whatever leaves the host is judged by invariant 1 of mcd/README.md, in every test.
 *
 * The guest counts: it writes the count to its memory, and then sends a frame that says it.  So a
 * frame is known to whoever has the memory, and may leave only if hostB has acknowledged an epoch
 * with that count (or a later one) in its memory, under a decided record that names it, or if hostA
 * owns the VM alone.
 */
#pragma once
#include "failover/vote.h"
#include "mcd/vm/published.h"
#include "mcd/vm/vm.h"
#include "mcd/wire/transport.h"
#include "tests/fakes/fake-guest.h"
#include "tests/fakes/netbuf-fake.h"
#include "tests/fakes/transport-fake.h"
#include "tests/fakes/world.h"
#include "tests/unit/primary/far.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define RIG_NOTES 4096
#define RIG_NOTE  48
#define RIG_DISK  (1u << 20)

struct rig {
	struct world *w;
	struct vm *vm;
	struct guest *guest;
	struct netbuf *nb;
	uint64_t g0; /* the generation of {hostA, none}, before it is protected */
	struct transport_fake_plan plan; /* of the stream; far_posts: it counts hostB's messages */
	bool far_posts;
	struct far far;
	struct transport *near; /* the VM's end */

	/* What the test does at each moment; may be NULL.  `arg` is the test's. */
	void (*at)(struct rig *r, enum far_moment m, uint64_t epoch); /* far thread */
	/* before it; the test's thread */
	void (*at_guest)(struct rig *r, enum fake_guest_op op);
	void (*at_vote)(struct rig *r, const struct own_record *next);
	void (*at_network)(struct rig *r, enum netbuf_fake_op op, uint64_t epoch);
	int arg;
	bool quiet; /* the guest sends only what the test has it send */

	pthread_mutex_t
		talk; /* the guest says one thing at a time, whichever thread has it do so */
	pthread_mutex_t lock; /* of what follows; taken last */
	char notes[RIG_NOTES][RIG_NOTE];
	size_t n_notes;
	char breach[256]; /* "", or the first that was seen */
	bool held;        /* the hold has begun */
	uint64_t said;    /* the guest's count */
	uint64_t out;     /* the newest that left */
	uint64_t acked;   /* the count in what hostB has acknowledged */
};

struct rig_options {
	void (*change)(struct config *c); /* the host's configuration; NULL: a delay of 2 ms */
	const char *memory;               /* of the guest, as in QEMU's -m; NULL: 8M */
	bool disk;                        /* it has one, disk0, of 1 MiB */
	bool no_vm;                       /* the test makes it */
};
/* hostA runs vm1 unprotected, as sole owner.  o may be NULL. */
struct rig *rig_new(const struct rig_options *o);
void rig_free(struct rig *r);
int rig_setup(void **state); /* cmocka's, without options */
int rig_teardown(void **state);
/* main: argv[1] names one test, or all are run. */
#define rig_main(tests)                                                                            \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		mc_log_setup((enum mc_log_level)0, NULL);                                          \
		if (argc > 1)                                                                      \
			cmocka_set_test_filter(argv[1]);                                           \
		return cmocka_run_group_tests(tests, NULL, NULL);                                  \
	}
#define rig_test(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

/* Of a VM that was started or taken over by its own thread: its guest talks from here on, and
 * the notes begin; g0 is what is decided now. */
void rig_adopt(struct rig *r);
void rig_give_stream(struct rig *r); /* hostB waits at the other end of the next one */
/* Protects it with hostB until that is over, and judges. */
void rig_protect(struct rig *r);
/* After one protection, before the next: the notes and hostB begin anew, g0 is what is decided
 * now. */
void rig_again(struct rig *r);
void rig_judge(struct rig *r); /* fails the test if there was a breach */

/* --- any thread --- */
void rig_say(struct rig *r); /* the guest counts, writes and sends */
void rig_verb(struct rig *r, int verb, bool force);
void rig_note(struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void rig_breach(struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Waits, for a second at most, until that note is there. */
bool rig_wait(struct rig *r, const char *note);
/* The VM's thread, with the stream open: waits until hostB has taken all that was sent. */
void rig_settle(struct rig *r);
/* Notes a breach if the guest runs or the network is open: for a vote that is not decided yet. */
void rig_expect_held(struct rig *r);
/* The next n votes are stuck; the VM is rung at each, so that it asks again at once. */
void rig_stick(struct rig *r, unsigned n);

/* --- the test's thread --- */
int rig_index_after(struct rig *r, const char *note, const char *after);
/* The notes: "hold", "barrier 3", "release 3", "pass", "shut"; "guest pause"; "vote +1 {hostA,
 * hostB}" (the generation counted from g0); "got COMMIT 3"; "ack 3"; "link ended". */
int rig_index(struct rig *r, const char *note); /* of the first such; -1 */
unsigned rig_count(struct rig *r, const char *note);
void rig_order(struct rig *r, ...) __attribute__((sentinel)); /* each is there, in that order */
void rig_print(struct rig *r);
/* It goes on alone: unprotected, running, all that it ever said is out. */
void rig_expect_alone(struct rig *r);
/* What is held stayed held: it is still there, or was dropped, and the guest's copy is gone. */
void rig_expect_gone(struct rig *r);
void rig_expect_decided(struct rig *r, uint64_t after_g0, const char *owner, const char *standby);
/* The member `why` of the newest PROTECTION_ENDED. */
void rig_expect_end(struct rig *r, const char *why);
