/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM on hostB as the standby of hostA, in memory: the VM's own thread runs the code under
 * test, and the test's thread plays the primary, message by message, so that it may assert at
 * every step.
 *
 * hostA owns the VM by record 6; the protection is of generation 7.  What the primary's guest has
 * written is in `now`; `image` is what the last acknowledged epoch was, bit for bit.
 */
#pragma once
#include "common/clock.h"
#include "mcd/standby/standby.h"
#include "mcd/standby/session.h"
#include "mcd/vm/make.h"
#include "mcd/vm/mailbox.h"
#include "tests/fakes/fake-guest.h"
#include "tests/fakes/netbuf-fake.h"
#include "tests/fakes/transport-fake.h"
#include "tests/fakes/world.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#define RIG_GENERATION 7u /* = GENERATION of tests/unit/diskmirror/fake-primary.h */
#define RIG_RAM        (8u << 20)
#define RIG_VOTES      64
#define RIG_WAIT       (5 * MC_SEC) /* for what must come */

struct rig_image {
	uint8_t *ram;
	char devices[64];
	uint64_t epoch;
	enum wire_guest guest;
};

/* What was so when the VM asked the voters for something. */
struct rig_vote {
	struct own_record asked;
	int acknowledged; /* what the primary's COMMIT, sent at that moment, came to */
	/* the guest; its network; the takeover file is there */
	bool activated, runs, visible, kept;
};

struct rig {
	struct vm_env env; /* first: the VM's thread knows the rig by it */
	struct vm_env_ops ops;
	struct world *w;
	struct vm *vm;
	const char *more; /* of vms.d/vm1.conf: before rig_begin */

	pthread_mutex_t lock; /* of what is said so, an epoch's sums, and these three */
	pthread_cond_t changed;
	void (*job)(struct rig *r); /* what the VM's thread does; NULL: nothing */
	bool ends;

	struct transport *far, *near;
	struct transport_ops near_ops; /* the near end's, to see how far the VM is */
	int (*near_recv)(struct transport *t, struct wire_header *ret, uint64_t deadline,
		int wake_fd, struct mc_error *err);
	uint64_t received, finished;     /* messages; under the lock */
	struct transport_fake_plan plan; /* before rig_begin */
	uint64_t max_buffer;             /* of the HELLO: before far_hello */
	const char *rom;                 /* firmware, before far_sync; NULL: none */
	bool lost;                       /* a message of ours could not be sent any more */
	uint64_t sent;                   /* messages */
	uint8_t got[WIRE_CONTROL_MAX];   /* the payload that was received last */

	struct rig_image now, image;
	bool disks;                     /* the VM has some: their digest is part of an epoch's */
	struct disk_epoch_sum disk_sum; /* of the epoch that is sent */
	struct slab slab;
	struct wire_epoch_digest digest;
	struct wire_commit counted;

	struct rig_vote votes[RIG_VOTES];
	size_t n_votes;
	void (*at_vote)(struct rig *r, size_t n); /* by the VM's thread, before the answer */
};

int rig_setup(void **state); /* *state: the rig */
int rig_teardown(void **state);
#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)

/* --- the VM's thread --- */
void rig_make(struct rig *r); /* the VM; by rig_begin, if the test did not */
void rig_run(struct rig *r, void (*job)(struct rig *r));
void rig_begin(struct rig *r); /* runs standby_run */
void rig_join(struct rig *r);  /* until that is over */
bool rig_over(struct rig *r);
void rig_await(struct rig *r, enum vm_state state);
void rig_await_alarm(struct rig *r); /* the first */

/* --- the primary: what it says --- */
void far_post(struct rig *r, uint16_t type, const void *payload, size_t len);
void far_post_header(struct rig *r, const struct wire_header *h, const void *payload);
struct wire_header far_recv(struct rig *r); /* type 0: the connection ended */
struct wire_header far_expect(struct rig *r, uint16_t type);
void far_expect_nothing(struct rig *r); /* but the end of the connection, or an ERROR */
/* A HELLO as it must be. */
void far_describe(struct rig *r, struct wire_hello *ret);
void far_send_hello(struct rig *r, const struct wire_hello *hello);
void far_hello(struct rig *r);                           /* that, and its answer */
void far_sync(struct rig *r);                            /* all memory, and its answer */
void far_write(struct rig *r, uint64_t off, size_t len); /* something new, also into `slab` */
void far_slab(struct rig *r);                            /* some writes, as a message */
void far_send_slab(struct rig *r);                       /* `slab` as it is */
void far_devices(struct rig *r);
struct wire_commit far_sum(struct rig *r);
void far_send_commit(struct rig *r, const struct wire_commit *c);
void far_commit(struct rig *r);  /* as it must be */
void far_acked(struct rig *r);   /* expects the ACK: `image` is `now` */
void far_epoch(struct rig *r);   /* a whole epoch, until it is acknowledged */
void far_named(struct rig *r);   /* {hostA, hostB} is decided, and it says so */
void rig_protect(struct rig *r); /* from rig_begin until epoch 2 is acknowledged */
void far_taken(struct rig *r);   /* until the VM has begun with all that was sent */
void far_settled(struct rig *r); /* ... and is through with it */
void far_close(struct rig *r);
void far_dies(struct rig *r); /* its keep-alives stop, and nobody hears it */

/* --- what is to be seen --- */
void expect_runs(struct rig *r, const struct rig_image *image); /* joins before */
/* ... whatever had to be tried twice */
void expect_runs_after_all(struct rig *r, const struct rig_image *image);
void expect_gone(struct rig *r);
void rig_copy(struct rig_image *to, const struct rig_image *from);
bool rig_kept(struct rig *r, uint64_t *ret_generation); /* the takeover file */
void rig_call(struct rig *r, enum vm_verb verb, bool force);
