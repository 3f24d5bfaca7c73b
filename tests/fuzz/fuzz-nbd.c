/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a client sends to the NBD server: it comes to an end, and an op sees only what fits the
 * disk. */
#include "tests/fuzz/fuzz.h"

#include "common/be.h"
#include "diskmirror/nbd-private.h"
#include "diskmirror/nbd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 5000u

static const struct nbd_export disks[] = {{"vda", SIZE}, {"vdb", 2 * SIZE}};
static unsigned changed, lost;

static void check(unsigned export, uint64_t offset, uint32_t length)
{
	FUZZ_CHECK(export < 2 && length);
	FUZZ_CHECK(offset <= disks[export].size && length <= disks[export].size - offset);
}

static int on_write(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *data)
{
	check(export, offset, length);
	changed++;
	free(data);
	return 0;
}

static int on_zero(void *ctx, unsigned export, uint64_t offset, uint32_t length, bool trim)
{
	check(export, offset, length);
	changed++;
	return 0;
}

static int on_read(void *ctx, unsigned export, uint64_t offset, uint32_t length, void *buf)
{
	check(export, offset, length);
	memset(buf, 0, length);
	return 0;
}

static void on_lost(void *ctx, unsigned export)
{
	lost++;
}

static const struct nbd_ops ops = {on_write, on_zero, on_read, on_lost};

/* Takes what the server says, or it could not go on. */
static void *drain(void *arg)
{
	char buf[4096];
	while (recv(*(int *)arg, buf, sizeof buf, 0) > 0)
		;
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mc_error err = MC_ERROR_INIT;
	int fd[2];
	pthread_t t;
	if (size > FUZZ_SEED_MAX)
		return 0;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	FUZZ_CHECK(send(fd[0], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size || !size);
	shutdown(fd[0], SHUT_WR);
	FUZZ_CHECK(pthread_create(&t, NULL, drain, &fd[0]) == 0);
	changed = lost = 0;
	int i = nbd_handshake(fd[1], disks, 2, &err);
	FUZZ_CHECK(i < 2 && (i < 0 || !err.code));
	if (i >= 0) {
		int r = nbd_transmission(fd[1], &ops, NULL, (unsigned)i, disks[i].size, &err);
		FUZZ_CHECK(r <= 0 && r == err.code && (r == 0 || *err.msg));
	}
	close(fd[1]);
	pthread_join(t, NULL);
	close(fd[0]);
	return 0;
}

static uint8_t *put_option(uint8_t *p, uint32_t type, const void *payload, uint32_t len)
{
	memcpy(p, "IHAVEOPT", 8);
	put_be32(p + 8, type);
	put_be32(p + 12, len);
	if (len)
		memcpy(p + 16, payload, len);
	return p + 16 + len;
}

static uint8_t *put_request(
	uint8_t *p, uint16_t type, uint16_t flags, uint64_t offset, uint32_t len)
{
	struct nbd_request r = {
		.flags = flags, .type = type, .cookie = 77, .offset = offset, .length = len};
	nbd_put_request(p, &r);
	p += NBD_REQUEST_SIZE;
	if (type == NBD_CMD_WRITE) {
		memset(p, 0x5a, len);
		p += len;
	}
	return p;
}

/* The layout is at the head of diskmirror/nbd.c. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	uint8_t go[13] = {0, 0, 0, 3, 'v', 'd', 'b', 0, 1, 0, 3}, *p = buf;
	if (i > 3)
		return 0;
	put_be32(p, i == 1 ? 1 : 3);
	p += 4;
	if (i == 2) {
		p = put_option(p, 8, NULL, 0); /* structured replies */
		p = put_option(p, NBD_OPT_LIST, NULL, 0);
		p = put_option(p, NBD_OPT_INFO, go, 11);
	}
	p = i == 1 ? put_option(p, NBD_OPT_EXPORT_NAME, "vda", 3)
		   : put_option(p, i == 3 ? NBD_OPT_ABORT : NBD_OPT_GO, go, i == 3 ? 0 : 11);
	p = put_request(p, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, 700);
	p = put_request(p, NBD_CMD_READ, 0, 0, SIZE);
	p = put_request(p, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 100, 4900);
	p = put_request(p, NBD_CMD_FLUSH, 0, 0, 0);
	p = put_request(p, NBD_CMD_TRIM, 0, SIZE, SIZE); /* beyond the end of vda */
	p = put_request(p, NBD_CMD_WRITE, 0, SIZE - 1, 2);
	p = put_request(p, NBD_CMD_DISC, 0, 0, 0);
	return (size_t)(p - buf);
}
