/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of the NBD protocol that QEMU needs to write a disk to us: fixed newstyle negotiation
 * and simple replies.  Pure encoders and decoders; the byte layout is at the head of nbd.c.
 */
#pragma once
#include "common/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_MAX_REQUEST                                                                            \
	(1u << 20)           /* payload of one request or answer; QEMU splits what is larger */
#define NBD_MAX_OPTION 8192u /* longer ones are no option that anybody needs */
#define NBD_MAX_NAME   4096u /* of an export, by the protocol */

#define NBD_GREETING_SIZE     18
#define NBD_CLIENT_FLAGS_SIZE 4
#define NBD_OPTION_SIZE       16
#define NBD_REPLY_SIZE        20 /* to an option */
#define NBD_EXPORT_SIZE       134
#define NBD_INFO_EXPORT_SIZE  12
#define NBD_INFO_BLOCKS_SIZE  14
#define NBD_REQUEST_SIZE      28
#define NBD_ANSWER_SIZE       16 /* to a request */

enum nbd_option_type {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
};

enum nbd_reply_type {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER = 2,
	NBD_REP_INFO = 3,
	NBD_REP_ERR_UNSUP = 0x80000001,
	NBD_REP_ERR_INVALID = 0x80000003,
	NBD_REP_ERR_UNKNOWN = 0x80000006,
};

enum nbd_info { NBD_INFO_EXPORT = 0, NBD_INFO_BLOCK_SIZE = 3 };

enum nbd_command {
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_WRITE_ZEROES = 6,
};

#define NBD_CMD_FLAG_FUA     1u
#define NBD_CMD_FLAG_NO_HOLE 2u

enum nbd_errno { NBD_OK = 0, NBD_EIO = 5, NBD_EINVAL = 22 };

struct nbd_option {
	uint32_t type, length;
};

/* The payload of NBD_OPT_INFO and NBD_OPT_GO; the name points into it. */
struct nbd_query {
	const char *name; /* not terminated */
	size_t name_len;
	bool block_size; /* the client asks for, and then keeps to, our block sizes */
};

struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie; /* opaque, comes back in the answer */
	uint64_t offset;
	uint32_t length;
};

void nbd_put_greeting(uint8_t buf[NBD_GREETING_SIZE]);
/* -EBADMSG for flags that nobody defined; the protocol demands to close then. */
int nbd_get_client_flags(
	const uint8_t buf[NBD_CLIENT_FLAGS_SIZE], bool *ret_no_zeroes, struct mc_error *err);
/* -EBADMSG for a wrong magic or more than NBD_MAX_OPTION bytes: the connection must end. */
int nbd_get_option(
	const uint8_t buf[NBD_OPTION_SIZE], struct nbd_option *ret, struct mc_error *err);
/* -EINVAL: lengths that do not fit together; the answer is NBD_REP_ERR_INVALID. */
int nbd_get_query(const uint8_t *payload, size_t len, struct nbd_query *ret, struct mc_error *err);
void nbd_put_reply(uint8_t buf[NBD_REPLY_SIZE], uint32_t option, uint32_t type, uint32_t length);
/* The end of the negotiation by NBD_OPT_EXPORT_NAME; returns the bytes to send. */
size_t nbd_put_export(uint8_t buf[NBD_EXPORT_SIZE], uint64_t size, bool no_zeroes);
void nbd_put_info_export(uint8_t buf[NBD_INFO_EXPORT_SIZE], uint64_t size);
void nbd_put_info_blocks(uint8_t buf[NBD_INFO_BLOCKS_SIZE]);

/* -EBADMSG for a wrong magic, or a WRITE whose payload is too long to be skipped: the connection
 * must end. */
int nbd_get_request(
	const uint8_t buf[NBD_REQUEST_SIZE], struct nbd_request *ret, struct mc_error *err);
void nbd_put_request(uint8_t buf[NBD_REQUEST_SIZE], const struct nbd_request *r);
/* NBD_OK, or the error to answer with: unknown command or flag, empty or too long a range, one
 * beyond the export's end. */
enum nbd_errno nbd_check_request(const struct nbd_request *r, uint64_t size);
void nbd_put_answer(uint8_t buf[NBD_ANSWER_SIZE], enum nbd_errno error, uint64_t cookie);
