/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The requests of one NBD connection, and the socket I/O of both its phases. */
#include "diskmirror/nbd-private.h"

#include "common/cleanup.h"
#include "diskmirror/nbd.h"

#include <errno.h>
#include <sys/socket.h>

/* No deadlines here: a client of ours may be idle for days.  nbd_server_shut ends a wait. */
int nbd_recv(int fd, void *buf, size_t len)
{
	size_t got = 0;
	while (got < len) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, MSG_WAITALL);
		if (n == 0)
			return got ? -ECONNRESET : -ENODATA;
		if (n < 0 && errno != EINTR)
			return -ECONNRESET;
		if (n > 0)
			got += (size_t)n;
	}
	return 0;
}

int nbd_send(int fd, struct iovec *iov, size_t n)
{
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
	while (m.msg_iovlen) {
		ssize_t put = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (put < 0 && errno != EINTR)
			return -ECONNRESET;
		for (size_t left = put < 0 ? 0 : (size_t)put; m.msg_iovlen;) {
			if (left < m.msg_iov->iov_len) {
				m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + left;
				m.msg_iov->iov_len -= left;
				break;
			}
			left -= m.msg_iov->iov_len;
			m.msg_iov++;
			m.msg_iovlen--;
		}
	}
	return 0;
}

/* The payload of a WRITE that will be refused has to be read all the same. */
static int skip(int fd, uint32_t length)
{
	uint8_t buf[16384];
	while (length) {
		uint32_t n = length < sizeof buf ? length : (uint32_t)sizeof buf;
		int r = nbd_recv(fd, buf, n);
		if (r < 0)
			return r;
		length -= n;
	}
	return 0;
}

static int answer(int fd, const struct nbd_request *q, enum nbd_errno error, const void *data)
{
	uint8_t head[NBD_ANSWER_SIZE];
	nbd_put_answer(head, error, q->cookie);
	struct iovec v[] = {{head, sizeof head}, {(void *)data, q->length}};
	return nbd_send(fd, v, data ? 2 : 1);
}

/* Returns an op's result, or what nbd_recv says when the connection ends. */
static int do_write(int fd, const struct nbd_ops *ops, void *ctx, unsigned export,
	const struct nbd_request *q, bool *ret_gone)
{
	_cleanup_free_ void *data = malloc(q->length);
	int r = data ? nbd_recv(fd, data, q->length) : skip(fd, q->length);
	*ret_gone = r < 0;
	if (r < 0)
		return r;
	if (!data)
		return -ENOMEM;
	return ops->write(ctx, export, q->offset, q->length, mc_steal_ptr(data));
}

static int do_read(
	int fd, const struct nbd_ops *ops, void *ctx, unsigned export, const struct nbd_request *q)
{
	_cleanup_free_ void *data = malloc(q->length);
	int r = data ? ops->read(ctx, export, q->offset, q->length, data) : -ENOMEM;
	if (r == -ESHUTDOWN)
		return r;
	return answer(fd, q, r < 0 ? NBD_EIO : NBD_OK, r < 0 ? NULL : data);
}

static bool changes(const struct nbd_request *q)
{
	return q->type == NBD_CMD_WRITE || q->type == NBD_CMD_WRITE_ZEROES ||
	       q->type == NBD_CMD_TRIM;
}

static int refuse(int fd, const struct nbd_ops *ops, void *ctx, unsigned export,
	const struct nbd_request *q, enum nbd_errno e)
{
	int r;
	if (q->type == NBD_CMD_WRITE && (r = skip(fd, q->length)) < 0)
		return r;
	r = answer(fd, q, e, NULL);
	/* After the answer: what it leads to may be the end of the connection. */
	if (changes(q))
		ops->lost(ctx, export);
	return r;
}

/* One request; negative when the connection is over. */
static int serve(int fd, const struct nbd_ops *ops, void *ctx, unsigned export, uint64_t size,
	const struct nbd_request *q)
{
	enum nbd_errno e = nbd_check_request(q, size);
	bool gone = false;
	int r = 0;

	if (e != NBD_OK)
		return refuse(fd, ops, ctx, export, q, e);
	switch (q->type) {
	case NBD_CMD_READ:
		return do_read(fd, ops, ctx, export, q);
	case NBD_CMD_WRITE:
		r = do_write(fd, ops, ctx, export, q, &gone);
		break;
	case NBD_CMD_WRITE_ZEROES:
		r = ops->zero(
			ctx, export, q->offset, q->length, !(q->flags & NBD_CMD_FLAG_NO_HOLE));
		break;
	case NBD_CMD_TRIM:
		r = ops->zero(ctx, export, q->offset, q->length, true);
		break;
	}
	/* FLUSH and FUA need nothing: what is answered is in the stream's queue, and how durable
	 * the standby's copy is when an epoch is committed is not QEMU's to say. */
	if (gone || r == -ESHUTDOWN)
		return r;
	if (r == 0)
		return answer(fd, q, NBD_OK, NULL);
	r = answer(fd, q, NBD_EIO, NULL);
	ops->lost(ctx, export);
	return r;
}

int nbd_transmission(int fd, const struct nbd_ops *ops, void *ctx, unsigned export, uint64_t size,
	struct mc_error *err)
{
	bool wrote = false;
	int r;
	for (;;) {
		uint8_t buf[NBD_REQUEST_SIZE];
		struct nbd_request q;
		r = 0;
		if (nbd_recv(fd, buf, sizeof buf) < 0 || (r = nbd_get_request(buf, &q, err)) < 0)
			break;
		if (q.type == NBD_CMD_DISC)
			return 0;
		wrote |= changes(&q);
		if (serve(fd, ops, ctx, export, size, &q) < 0)
			break;
	}
	if (wrote)
		ops->lost(ctx, export);
	return r;
}
