/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client's one connection: buffered lines over a non-blocking TCP socket. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ftconn {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	int fd;        /* -1: not connected */
	char why[128]; /* of the last failure */
	size_t in_at, in_len, out_len;
	char in[65536], out[65536];
};

/* "10.77.1.10" or "fd00::1". */
bool ftconn_address(struct ftconn *c, const char *host, uint16_t port);
/* Connects, trying again until the deadline. False: c->why. */
bool ftconn_open(struct ftconn *c, uint64_t deadline, const volatile bool *give_up);
void ftconn_close(struct ftconn *c);
/* Queues a line; false: no room, try after the next ftconn_turn. */
bool ftconn_put(struct ftconn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Sends and receives what is possible, waiting at most timeout_ns for something to do.
 * False: the connection is broken, c->why. */
bool ftconn_turn(struct ftconn *c, uint64_t timeout_ns);
/* The next line received, without its newline, valid until the next ftconn_turn; NULL: none. */
char *ftconn_line(struct ftconn *c);
uint64_t ftconn_now(void);
