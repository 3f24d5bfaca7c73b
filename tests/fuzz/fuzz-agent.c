/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest's agent may say: whatever bytes come, a line stays within its buffer, nothing is
 * taken before the sentinel, and what the agent says of itself can be printed.
 */
#include "tests/fuzz/fuzz.h"

#include "mcd/guest/agent.h"

#include <stdlib.h>
#include <string.h>

static void check_line(const char *line)
{
	struct mc_error err = MC_ERROR_INIT;
	int64_t number = 42;
	FUZZ_CHECK(strlen(line) < AGENT_LINE_MAX);
	int r = agent_answer(line, &number, &err);
	FUZZ_CHECK(r == 0 || (number == 42 && err.code == r && *err.msg));
	for (const char *p = err.msg; *p; p++)
		FUZZ_CHECK(*p >= 0x20 && *p <= 0x7e);
	/* An answer is a number, or an object, or none. */
	FUZZ_CHECK(r != 0 || agent_answer(line, NULL, &err) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* By itself on the heap, so that a sanitizer sees a write behind it. */
	struct agent_reader *r = calloc(1, sizeof *r);
	int synced = 0;
	for (size_t i = 0; i < size; i++) {
		synced = synced || data[i] == 0xff;
		if (agent_reader_byte(r, data[i])) {
			FUZZ_CHECK(synced);
			check_line(r->line);
		}
	}
	free(r);
	return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
	static const char *const seeds[] = {
		"\xff{\"return\": 305419896}\n{\"return\": 1795282800123456789}\n{\"return\": "
		"{}}\n",
		"{\"return\": 1}\n{\"retu\xff{\"error\": {\"class\": \"GenericError\", \"desc\": "
		"\"hwclock failed\"}}\n",
		"\xff\xff{\"return\": 99999999999999999999}\n{\"return\": -1}\r\n{\"return\": "
		"1e3}\n\n",
		"\xff{\"error\": {\"desc\": \"\\u0007\\u00e4\"}}\n{\"error\": {}}\n[1]\n\"\n",
	};
	if (i < sizeof seeds / sizeof *seeds && strlen(seeds[i]) <= cap) {
		memcpy(buf, seeds[i], strlen(seeds[i]));
		return strlen(seeds[i]);
	}
	if (i == sizeof seeds / sizeof *seeds && cap > 3 * AGENT_LINE_MAX) {
		memset(buf, 'x', 3 * AGENT_LINE_MAX);
		buf[0] = 0xff;
		buf[AGENT_LINE_MAX - 1] = '\n'; /* as long as possible, then too long */
		buf[3 * AGENT_LINE_MAX - 1] = '\n';
		return 3 * AGENT_LINE_MAX;
	}
	return 0;
}
