/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a stranger sends to an acceptor: whatever it is, it is not let in.  (Nobody gets past the
 * proof without the key, so this covers what is read before it.) */
#include "tests/fuzz/fuzz.h"

#include "common/be.h"
#include "common/clock.h"
#include "common/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct link_key key = {32, "a key that no fuzzer will find..."};
	struct link_peer peer = {.instance = 77};
	struct mc_error err = MC_ERROR_INIT;
	int fd[2];
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	ssize_t n = send(fd[0], data, size < 4096 ? size : 4096, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n;
	shutdown(fd[0], SHUT_WR);
	static const struct link_self self = {"self", &key, 1, NULL};
	int r = link_accept(fd[1], &self, mc_now() + 5 * MC_SEC, &peer, &err);
	FUZZ_CHECK(r < 0 && r != -ETIMEDOUT && err.code == r && *err.msg);
	FUZZ_CHECK(peer.instance == 77);
	close(fd[0]);
	close(fd[1]);
	return 0;
}

/* The layout is at the head of common/link.c. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	if (i > 1)
		return 0;
	memset(buf, 0, 304);
	memcpy(buf, "mcd-link", 8);
	put_be16(buf + 8, 1);
	buf[10] = 1; /* HELLO */
	buf[16] = 1; /* connector */
	buf[17] = LINK_DATA;
	put_be64(buf + 24, 9);
	memset(buf + 32, 0x5a, 32);
	strcpy((char *)buf + 64, "hostB");
	strcpy((char *)buf + 128, "vm1");
	strcpy((char *)buf + 192, "self");
	if (i == 0)
		return 256;
	memcpy(buf + 256, "mcd-link", 8);
	put_be16(buf + 256 + 8, 1);
	buf[256 + 10] = 2; /* PROOF */
	return 304;
}
