/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The listening socket of the control protocol: one daemon for a path, mode 0600 from the start. */
#pragma once
#include "common/error.h"

struct control_socket {
	int listen_fd, lock_fd; /* -1: not open */
	char path[108];         /* as long as sockaddr_un takes */
};

/* Replaces a stale socket; -EADDRINUSE when another daemon holds PATH.lock. */
int control_socket_open(const char *path, struct control_socket *ret, struct mc_error *err);
/* Removes the name, then lets others have it.  Half-open and closed ones are fine. */
void control_socket_close(struct control_socket *s);
