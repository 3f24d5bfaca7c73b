/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * NBD as it is spoken here, byte by byte.  All integers are big-endian.
 *
 * Negotiation.  Server first:
 *
 *	 0  8  "NBDMAGIC"
 *	 8  8  "IHAVEOPT"
 *	16  2  flags: 1 FIXED_NEWSTYLE, 2 NO_ZEROES
 *
 * Client: 4 bytes of flags, the same two bits.  Then options until EXPORT_NAME or GO:
 *
 *	 0  8  "IHAVEOPT"
 *	 8  4  option
 *	12  4  length of its payload
 *
 * each answered by one reply or more, but for EXPORT_NAME:
 *
 *	 0  8  0x0003e889045565a9
 *	 8  4  option
 *	12  4  type of the reply; bit 31: an error
 *	16  4  length of its payload
 *
 *	EXPORT_NAME  payload: the name
 *	             answered by: size (8), transmission flags (2), and 124 zero bytes unless both
 *	             sides said NO_ZEROES; there is no way to say no but to close
 *	LIST         no payload
 *	             answered by: REP_SERVER (length of the name (4), name) for each export; REP_ACK
 *	INFO, GO     payload: length of the name (4), name, number of infos wanted (2),
 *	             those (2 each)
 *	             answered by: REP_INFO for EXPORT: 0 (2), size (8), transmission flags (2);
 *	                          REP_INFO for BLOCK_SIZE: 3 (2), minimum (4), preferred (4),
 *	                          maximum (4);
 *	                          REP_ACK
 *	ABORT        answered by: REP_ACK, and the connection ends
 *
 * Transmission.  A request:
 *
 *	 0  4  0x25609513
 *	 4  2  flags: 1 FUA, 2 NO_HOLE (WRITE_ZEROES only)
 *	 6  2  command
 *	 8  8  cookie
 *	16  8  offset
 *	24  4  length; after WRITE so many bytes follow
 *
 * and its answer, in the order of the requests:
 *
 *	 0  4  0x67446698
 *	 4  4  0, or an errno (EIO 5, EINVAL 22)
 *	 8  8  cookie
 *
 * followed by the data of a READ that succeeded.
 */
/* clang-format on */
#include "diskmirror/nbd.h"

#include "common/be.h"

#include <errno.h>
#include <string.h>

#define MAGIC_NBD     0x4e42444d41474943ull /* "NBDMAGIC" */
#define MAGIC_OPTION  0x49484156454f5054ull /* "IHAVEOPT" */
#define MAGIC_REPLY   0x0003e889045565a9ull
#define MAGIC_REQUEST 0x25609513u
#define MAGIC_ANSWER  0x67446698u

#define FIXED_NEWSTYLE 1u
#define NO_ZEROES      2u

/* HAS_FLAGS, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN: all connections write into one
 * queue, so what one was answered the others see.  Not SEND_FLUSH: there is nothing to flush, and
 * QEMU would wait for the answer in each `stop`, when the guest stands still. */
#define EXPORT_FLAGS (1u << 0 | 1u << 3 | 1u << 5 | 1u << 6 | 1u << 8)

#define BLOCK_MIN       1u
#define BLOCK_PREFERRED 65536u

#define refuse(err, code, fmt, ...)                                                                \
	mc_error_set(err, code, MC_ECLASS_PROTOCOL, "an NBD client " fmt, ##__VA_ARGS__)

void nbd_put_greeting(uint8_t buf[NBD_GREETING_SIZE])
{
	put_be64(buf, MAGIC_NBD);
	put_be64(buf + 8, MAGIC_OPTION);
	put_be16(buf + 16, FIXED_NEWSTYLE | NO_ZEROES);
}

int nbd_get_client_flags(
	const uint8_t buf[NBD_CLIENT_FLAGS_SIZE], bool *ret_no_zeroes, struct mc_error *err)
{
	uint32_t flags = get_be32(buf);
	if (flags & ~(FIXED_NEWSTYLE | NO_ZEROES))
		return refuse(err, -EBADMSG, "greeted with the unknown flags %#x", flags);
	*ret_no_zeroes = flags & NO_ZEROES;
	return 0;
}

int nbd_get_option(const uint8_t buf[NBD_OPTION_SIZE], struct nbd_option *ret, struct mc_error *err)
{
	if (get_be64(buf) != MAGIC_OPTION)
		return refuse(err, -EBADMSG, "sent what is not an option");
	uint32_t length = get_be32(buf + 12);
	if (length > NBD_MAX_OPTION)
		return refuse(err, -EBADMSG, "sent an option of %u bytes", length);
	*ret = (struct nbd_option){.type = get_be32(buf + 8), .length = length};
	return 0;
}

int nbd_get_query(const uint8_t *payload, size_t len, struct nbd_query *ret, struct mc_error *err)
{
	if (len < 6)
		return refuse(err, -EINVAL, "asked for an export with %zu bytes", len);
	uint32_t name_len = get_be32(payload);
	if (name_len > NBD_MAX_NAME || name_len > len - 6)
		return refuse(
			err, -EINVAL, "asked for an export with a name of %u bytes", name_len);
	const uint8_t *infos = payload + 4 + name_len;
	size_t n = get_be16(infos);
	if (len != 6 + (size_t)name_len + 2 * n)
		return refuse(
			err, -EINVAL, "asked for %zu infos in an option of %zu bytes", n, len);
	struct nbd_query q = {.name = (const char *)payload + 4, .name_len = name_len};
	for (size_t i = 0; i < n; i++)
		if (get_be16(infos + 2 + 2 * i) == NBD_INFO_BLOCK_SIZE)
			q.block_size = true;
	*ret = q;
	return 0;
}

void nbd_put_reply(uint8_t buf[NBD_REPLY_SIZE], uint32_t option, uint32_t type, uint32_t length)
{
	put_be64(buf, MAGIC_REPLY);
	put_be32(buf + 8, option);
	put_be32(buf + 12, type);
	put_be32(buf + 16, length);
}

size_t nbd_put_export(uint8_t buf[NBD_EXPORT_SIZE], uint64_t size, bool no_zeroes)
{
	memset(buf, 0, NBD_EXPORT_SIZE);
	put_be64(buf, size);
	put_be16(buf + 8, EXPORT_FLAGS);
	return no_zeroes ? 10 : NBD_EXPORT_SIZE;
}

void nbd_put_info_export(uint8_t buf[NBD_INFO_EXPORT_SIZE], uint64_t size)
{
	put_be16(buf, NBD_INFO_EXPORT);
	put_be64(buf + 2, size);
	put_be16(buf + 10, EXPORT_FLAGS);
}

void nbd_put_info_blocks(uint8_t buf[NBD_INFO_BLOCKS_SIZE])
{
	put_be16(buf, NBD_INFO_BLOCK_SIZE);
	put_be32(buf + 2, BLOCK_MIN);
	put_be32(buf + 6, BLOCK_PREFERRED);
	put_be32(buf + 10, NBD_MAX_REQUEST);
}

int nbd_get_request(
	const uint8_t buf[NBD_REQUEST_SIZE], struct nbd_request *ret, struct mc_error *err)
{
	if (get_be32(buf) != MAGIC_REQUEST)
		return refuse(err, -EBADMSG, "sent what is not a request");
	struct nbd_request r = {
		.flags = get_be16(buf + 4),
		.type = get_be16(buf + 6),
		.cookie = get_be64(buf + 8),
		.offset = get_be64(buf + 16),
		.length = get_be32(buf + 24),
	};
	if (r.type == NBD_CMD_WRITE && r.length > NBD_MAX_REQUEST)
		return refuse(err, -EBADMSG, "wants to write %u bytes at once", r.length);
	*ret = r;
	return 0;
}

void nbd_put_request(uint8_t buf[NBD_REQUEST_SIZE], const struct nbd_request *r)
{
	put_be32(buf, MAGIC_REQUEST);
	put_be16(buf + 4, r->flags);
	put_be16(buf + 6, r->type);
	put_be64(buf + 8, r->cookie);
	put_be64(buf + 16, r->offset);
	put_be32(buf + 24, r->length);
}

enum nbd_errno nbd_check_request(const struct nbd_request *r, uint64_t size)
{
	unsigned allowed = NBD_CMD_FLAG_FUA;
	switch (r->type) {
	case NBD_CMD_READ:
		if (r->length > NBD_MAX_REQUEST)
			return NBD_EINVAL;
		break;
	case NBD_CMD_WRITE_ZEROES:
		allowed |= NBD_CMD_FLAG_NO_HOLE;
		break;
	case NBD_CMD_WRITE:
	case NBD_CMD_TRIM:
		break;
	case NBD_CMD_FLUSH:
		return r->offset || r->length || r->flags & ~allowed ? NBD_EINVAL : NBD_OK;
	default:
		return NBD_EINVAL;
	}
	if (r->flags & ~allowed || !r->length || r->offset > size || r->length > size - r->offset)
		return NBD_EINVAL;
	return NBD_OK;
}

void nbd_put_answer(uint8_t buf[NBD_ANSWER_SIZE], enum nbd_errno error, uint64_t cookie)
{
	put_be32(buf, MAGIC_ANSWER);
	put_be32(buf + 4, error);
	put_be64(buf + 8, cookie);
}
