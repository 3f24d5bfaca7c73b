/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A voter's memory of one VM on disk.  Byte layout and crash rules at the head of record.c. */
#pragma once
#include "common/error.h"
#include "failover/paxos.h"

struct record_file {
	int fd;           /* -1 while there is no file */
	unsigned current; /* slot that holds the newest record */
	uint64_t sequence;
	char host[LINK_NAME_MAX + 1], vm[LINK_NAME_MAX + 1];
};

/* Reads the file VM in directory dir_fd.  1 = read; 0 = there is none yet (a zero state; the file
 * is created by the first record_write); negative: it is damaged or another host's. */
int record_open(int dir_fd, const char *host, const char *vm, struct record_file *ret,
	struct paxos_acceptor *ret_state, struct mc_error *err);
void record_close(struct record_file *f);

/* Makes the state durable before it returns 0.  After a failure nothing is known about what is on
 * disk: the caller must not answer for this VM until it has been opened again. */
int record_write(int dir_fd, struct record_file *f, const struct paxos_acceptor *state,
	struct mc_error *err);
