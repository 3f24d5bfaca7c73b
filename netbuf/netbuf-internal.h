/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the dispatch (netbuf.c) and the backends (relay.c, plug.c).
 *
 * The dispatch owns the state and the epoch numbers and refuses calls that make no sense, so that
 * every backend refuses the same ones in the same words.  A backend gets valid calls only.
 */
#pragma once
#include "netbuf/netbuf.h"

enum netbuf_state { NETBUF_CLOSED, NETBUF_OPEN, NETBUF_HOLDING };

struct netbuf_ops {
	const char *name;
	int (*probe)(struct mc_error *err);
	/* guest_fds is NULL for a new VM, else the taps to adopt. */
	int (*open)(const struct netbuf_config *cfg, const int *guest_fds, struct netbuf **ret,
		struct mc_error *err);
	int (*guest_fd)(struct netbuf *nb, size_t i);
	int (*hold)(struct netbuf *nb, uint64_t first, struct mc_error *err);
	int (*barrier)(struct netbuf *nb, uint64_t epoch, struct mc_error *err);
	int (*release)(struct netbuf *nb, uint64_t epoch, struct mc_error *err);
	int (*pass)(struct netbuf *nb, struct mc_error *err);
	int (*shut)(struct netbuf *nb, struct mc_error *err);
	int (*announce)(struct netbuf *nb, struct mc_error *err);
	void (*get_stats)(struct netbuf *nb, struct netbuf_stats *ret);
	void (*leave)(struct netbuf *nb); /* NULL: nothing stays, so the same as close */
	void (*close)(struct netbuf *nb);
};

/* The first member of every backend's own struct.  Touched by the VM's thread only. */
struct netbuf {
	const struct netbuf_ops *ops;
	size_t n_nics;
	enum netbuf_state state;
	uint64_t first;   /* of this hold */
	uint64_t running; /* epoch of the output now; those in [first, running) are closed */
};

extern const struct netbuf_ops netbuf_plug_ops;
extern const struct netbuf_ops netbuf_relay_ops;

/* For tests: one more backend, to be opened by its name (tests/fakes/netbuf-fake.c).  Not for
 * auto. */
void netbuf_add_backend(const struct netbuf_ops *ops);
