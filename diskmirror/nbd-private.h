/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the files of the NBD server. */
#pragma once
#include "diskmirror/nbd-server.h"
#include <sys/uio.h>

/* Blocks until all of it was read or written, or the connection ended or was shut: -ECONNRESET
 * (-ENODATA: nothing came, the client left).  nbd_send changes iov. */
int nbd_recv(int fd, void *buf, size_t len);
int nbd_send(int fd, struct iovec *iov, size_t n);

/* Negotiates until a client has chosen an export (its index is returned), or left: negative, with
 * err set when it did something wrong. */
int nbd_handshake(int fd, const struct nbd_export *exports, size_t n, struct mc_error *err);
/* Serves requests until the client leaves: 0, or -EBADMSG with err set when it did something
 * wrong. */
int nbd_transmission(int fd, const struct nbd_ops *ops, void *ctx, unsigned export, uint64_t size,
	struct mc_error *err);
