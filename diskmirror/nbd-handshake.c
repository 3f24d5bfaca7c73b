/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The negotiation of one NBD connection. */
#include "diskmirror/nbd-private.h"

#include "common/be.h"
#include "diskmirror/nbd.h"

#include <errno.h>
#include <string.h>

/* A client that asks forever holds a thread and a place; nobody needs more than a few options. */
#define OPTIONS_MAX 128

static int send_buf(int fd, const void *buf, size_t len)
{
	struct iovec v = {(void *)buf, len};
	return nbd_send(fd, &v, 1);
}

static int reply(int fd, uint32_t option, uint32_t type, const void *payload, size_t len)
{
	uint8_t head[NBD_REPLY_SIZE];
	nbd_put_reply(head, option, type, (uint32_t)len);
	struct iovec v[] = {{head, sizeof head}, {(void *)payload, len}};
	return nbd_send(fd, v, len ? 2 : 1);
}

static int find_export(const struct nbd_export *exports, size_t n, const char *name, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(exports[i].name) == len && !memcmp(exports[i].name, name, len))
			return (int)i;
	return -ENOENT;
}

static int do_list(int fd, const struct nbd_export *exports, size_t n, size_t len)
{
	if (len)
		return reply(fd, NBD_OPT_LIST, NBD_REP_ERR_INVALID, NULL, 0);
	for (size_t i = 0; i < n; i++) {
		uint8_t buf[4 + 256];
		size_t name_len = strnlen(exports[i].name, 256);
		put_be32(buf, (uint32_t)name_len);
		memcpy(buf + 4, exports[i].name, name_len);
		int r = reply(fd, NBD_OPT_LIST, NBD_REP_SERVER, buf, 4 + name_len);
		if (r < 0)
			return r;
	}
	return reply(fd, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
}

/* INFO and GO.  Returns the export's index when that was named and acknowledged, -EAGAIN when the
 * client was told why not, other errors when the connection ended. */
static int do_query(int fd, const struct nbd_export *exports, size_t n, uint32_t option,
	const uint8_t *payload, size_t len)
{
	struct nbd_query q;
	uint8_t export[NBD_INFO_EXPORT_SIZE], blocks[NBD_INFO_BLOCKS_SIZE];
	int r;

	if (nbd_get_query(payload, len, &q, NULL) < 0) {
		r = reply(fd, option, NBD_REP_ERR_INVALID, NULL, 0);
		return r < 0 ? r : -EAGAIN;
	}
	int i = find_export(exports, n, q.name, q.name_len);
	if (i < 0) {
		static const char why[] = "no disk of that name is mirrored here";
		r = reply(fd, option, NBD_REP_ERR_UNKNOWN, why, sizeof why - 1);
		return r < 0 ? r : -EAGAIN;
	}
	nbd_put_info_export(export, exports[i].size);
	nbd_put_info_blocks(blocks);
	if ((r = reply(fd, option, NBD_REP_INFO, export, sizeof export)) < 0 ||
		(r = reply(fd, option, NBD_REP_INFO, blocks, sizeof blocks)) < 0 ||
		(r = reply(fd, option, NBD_REP_ACK, NULL, 0)) < 0)
		return r;
	return i;
}

static int do_export_name(int fd, const struct nbd_export *exports, size_t n, const uint8_t *name,
	size_t len, bool no_zeroes, struct mc_error *err)
{
	uint8_t buf[NBD_EXPORT_SIZE];
	int i = find_export(exports, n, (const char *)name, len);
	if (i < 0) /* by the protocol there is no other way to refuse */
		return mc_error_set(err, -ENOENT, MC_ECLASS_PROTOCOL,
			"an NBD client asked for an export that is none of the VM's disks");
	int r = send_buf(fd, buf, nbd_put_export(buf, exports[i].size, no_zeroes));
	return r < 0 ? r : i;
}

int nbd_handshake(int fd, const struct nbd_export *exports, size_t n, struct mc_error *err)
{
	uint8_t greeting[NBD_GREETING_SIZE], flags[NBD_CLIENT_FLAGS_SIZE], head[NBD_OPTION_SIZE];
	uint8_t payload[NBD_MAX_OPTION];
	bool no_zeroes;
	int r;

	nbd_put_greeting(greeting);
	if ((r = send_buf(fd, greeting, sizeof greeting)) < 0 ||
		(r = nbd_recv(fd, flags, sizeof flags)) < 0 ||
		(r = nbd_get_client_flags(flags, &no_zeroes, err)) < 0)
		return r;

	for (unsigned i = 0; i < OPTIONS_MAX; i++) {
		struct nbd_option o;
		if ((r = nbd_recv(fd, head, sizeof head)) < 0 ||
			(r = nbd_get_option(head, &o, err)) < 0 ||
			(r = nbd_recv(fd, payload, o.length)) < 0)
			return r;
		switch (o.type) {
		case NBD_OPT_EXPORT_NAME:
			return do_export_name(fd, exports, n, payload, o.length, no_zeroes, err);
		case NBD_OPT_ABORT:
			reply(fd, o.type, NBD_REP_ACK, NULL, 0);
			return -ENODATA;
		case NBD_OPT_LIST:
			r = do_list(fd, exports, n, o.length);
			break;
		case NBD_OPT_INFO:
		case NBD_OPT_GO:
			r = do_query(fd, exports, n, o.type, payload, o.length);
			if (r >= 0 && o.type == NBD_OPT_GO)
				return r;
			if (r == -EAGAIN)
				r = 0;
			break;
		default: /* structured replies, TLS, contexts: not here */
			r = reply(fd, o.type, NBD_REP_ERR_UNSUP, NULL, 0);
		}
		if (r < 0)
			return r;
	}
	return mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
		"an NBD client negotiated %u options without coming to an end", OPTIONS_MAX);
}
