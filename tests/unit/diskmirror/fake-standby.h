/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A standby for tests of the primary's side: it takes the disk stream from a socket, keeps what it
 * was sent, and checks by itself that epochs come in order and add up.
 */
#pragma once
#include "diskmirror/stream.h"

#define FAKE_LOG_MAX 100000

struct fake_message {
	struct disk_header h;
	uint64_t first; /* the first 8 bytes of the payload, 0 if it is shorter */
};

struct fake_standby;

/* Accepts the HELLO, and answers it, in a thread.  Takes over fd. */
struct fake_standby *fake_start(int fd);
/* Ends the thread, closes the socket. */
void fake_stop(struct fake_standby *f);
/* From the next message on nothing is read any more / all is read again. */
void fake_freeze(struct fake_standby *f, bool frozen);
/* The socket ends. */
void fake_hang_up(struct fake_standby *f);

/* Bounded waits, false when it did not come about within 10 s. */
bool fake_wait_end(
	struct fake_standby *f, uint64_t epoch, struct disk_epoch_sum *ret, uint32_t *ret_flags);
bool fake_wait_messages(struct fake_standby *f, size_t n);
/* What arrived so far, but for the HELLO: a copy, owned by the caller. */
struct fake_message *fake_log(struct fake_standby *f, size_t *ret_n);
/* "" or what was wrong with the stream. */
const char *fake_complaint(struct fake_standby *f);
/* A disk's content with all that arrived; allocated after the HELLO.  Look only when nothing is
 * sent. */
uint8_t *fake_image(struct fake_standby *f, size_t disk);

/* Digests of the image's blocks [first, first + n), as the standby's TABLE. */
void fake_send_table(struct fake_standby *f, uint16_t disk, uint64_t first, size_t n);
void fake_send(struct fake_standby *f, const struct disk_header *h, const void *payload);
