/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the other end of an RDMA connection may send: the agreement, the private data, the header of
 * a message.  The first byte chooses the decoder.  What is accepted must be encoded to the same
 * bytes again, but for capabilities that are dropped.
 */
#include "tests/fuzz/fuzz.h"

#include "common/be.h"
#include "common/rdma/format.h"

#include <errno.h>
#include <string.h>

enum { OFFER, ANSWER, VERDICT, HELLO, REJECT, CONTROL, DECODERS };

static void check_error(int r, const struct mc_error *err)
{
	FUZZ_CHECK(r == -EPROTO || r == -EPROTONOSUPPORT);
	FUZZ_CHECK(err->code == r && *err->msg);
}

static void check_text(const char *p)
{
	FUZZ_CHECK(memchr(p, 0, RD_REASON_SIZE));
	for (; *p; p++)
		FUZZ_CHECK(*p >= ' ' && *p <= '~');
}

static void fuzz_agree(enum rd_agree_type type, const uint8_t *data, size_t size)
{
	uint8_t buf[RD_AGREE_SIZE] = {0}, again[RD_AGREE_SIZE];
	struct mc_error err = MC_ERROR_INIT;
	struct rd_agree a;
	memcpy(buf, data, size < sizeof buf ? size : sizeof buf);
	int r = rd_get_agree(buf, type, &a, &err);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	check_text(a.reason);
	rd_put_agree(again, &a);
	put_be16(buf + 8, get_be16(buf + 8) & RD_CAPS);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

static void fuzz_hello(const uint8_t *data, size_t size)
{
	uint8_t buf[RD_HELLO_SIZE], again[RD_HELLO_SIZE];
	struct mc_error err = MC_ERROR_INIT;
	struct rd_hello h;
	int r = rd_get_hello(data, size, &h, &err);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	memcpy(buf, data, sizeof buf);
	rd_put_hello(again, &h);
	put_be16(buf + 6, get_be16(buf + 6) & RD_CAPS);
	FUZZ_CHECK(!memcmp(buf, again, sizeof buf));
}

static void fuzz_control(const uint8_t *data, size_t size)
{
	uint8_t again[RD_CONTROL_SIZE];
	struct mc_error err = MC_ERROR_INIT;
	struct rd_control c;
	int r = rd_get_control(data, size, &c, &err);
	if (r < 0) {
		check_error(r, &err);
		return;
	}
	rd_put_control(again, &c);
	FUZZ_CHECK(!memcmp(data, again, sizeof again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char reason[RD_REASON_SIZE];
	if (!size)
		return 0;
	const uint8_t *p = data + 1;
	size_t n = size - 1;
	switch (data[0] % DECODERS) {
	case OFFER:
		fuzz_agree(RD_OFFER, p, n);
		break;
	case ANSWER:
		fuzz_agree(RD_ANSWER, p, n);
		break;
	case VERDICT:
		fuzz_agree(RD_VERDICT, p, n);
		break;
	case HELLO:
		fuzz_hello(p, n);
		break;
	case REJECT:
		rd_get_reject(p, n, reason);
		check_text(reason);
		break;
	case CONTROL:
		fuzz_control(p, n);
		break;
	}
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	const struct rd_agree offer = {.type = RD_OFFER, .caps = RD_CAP_STREAM},
			      yes = {.type = RD_ANSWER,
				      .port = 4711,
				      .address.s6_addr = {[10] = 0xff, 0xff, 10, 0, 0, 1}},
			      no = {.type = RD_VERDICT, .no = true, .reason = "no device"};
	const struct rd_hello hello = {RD_CAP_STREAM, 64, 7, 1ull << 40, 4u << 20, "token"};
	const struct rd_control placed = {1u << 20, RD_PLACED, 8, 3u << 20, 99},
				inl = {5, RD_INLINE, 0, 1, 2};
	memset(buf, 0, 300);
	switch (i) {
	case 0:
		buf[0] = OFFER;
		rd_put_agree(buf + 1, &offer);
		return 1 + RD_AGREE_SIZE;
	case 1:
		buf[0] = ANSWER;
		rd_put_agree(buf + 1, &yes);
		return 1 + RD_AGREE_SIZE;
	case 2:
		buf[0] = VERDICT;
		rd_put_agree(buf + 1, &no);
		return 1 + RD_AGREE_SIZE;
	case 3:
		buf[0] = HELLO;
		rd_put_hello(buf + 1, &hello);
		return 1 + RD_HELLO_SIZE;
	case 4:
		buf[0] = REJECT;
		rd_put_reject(buf + 1, "wrong token");
		return 1 + RD_REJECT_SIZE;
	case 5:
		buf[0] = CONTROL;
		rd_put_control(buf + 1, &placed);
		return 1 + RD_CONTROL_SIZE;
	case 6:
		buf[0] = CONTROL;
		rd_put_control(buf + 1, &inl);
		return 1 + RD_CONTROL_SIZE + 5;
	default:
		return 0;
	}
}
