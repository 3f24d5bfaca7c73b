/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target without libFuzzer:
 *
 *	fuzz-NAME [-runs=N] [-seed=S] [-write-seeds=DIR] [FILE...]
 *
 * First every seed of the target and every FILE as it is, then N random mutations of them (default
 * 200000).  The seed of the mutations is printed and differs from run to run; when the target dies,
 * so are the number of the run and its input in hex, which a unit test can be made of.
 * -write-seeds writes the target's seeds as files, for libFuzzer's corpus.
 */
#include "tests/fuzz/fuzz.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES_MAX 256

struct entry {
	uint8_t *data;
	size_t size;
};

static struct entry corpus[ENTRIES_MAX];
static size_t n_corpus;
static uint8_t input[FUZZ_SEED_MAX + 1];
static size_t input_size;
static unsigned long run_number;
static uint64_t rng;

/* The input goes to stderr byte by byte: printf may not be used in a signal handler. */
static void tell_input(void)
{
	static const char hex[] = "0123456789abcdef";
	char line[64];
	int n = snprintf(
		line, sizeof line, "\nrun %lu, input of %zu bytes:\n", run_number, input_size);
	ssize_t w = write(STDERR_FILENO, line, (size_t)n);
	for (size_t i = 0; i < input_size && i < 4096 && w > 0; i++) {
		char c[2] = {hex[input[i] >> 4], hex[input[i] & 15]};
		w = write(STDERR_FILENO, c, 2);
	}
	w = write(STDERR_FILENO, "\n", 1);
	(void)w;
}

static void died(int sig)
{
	tell_input();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Sanitizers end the process without a signal, but tell whoever asks before. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static uint64_t next(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static size_t below(size_t n)
{
	return n ? next() % n : 0;
}

static void add_entry(const uint8_t *data, size_t size)
{
	if (n_corpus == ENTRIES_MAX)
		return;
	uint8_t *copy = malloc(size ? size : 1);
	if (size)
		memcpy(copy, data, size);
	corpus[n_corpus++] = (struct entry){copy, size};
}

static int add_file(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "rb");
	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -errno;
	}
	add_entry(input, fread(input, 1, FUZZ_SEED_MAX, f));
	return 0;
}

static void put_number(void)
{
	static const uint64_t interesting[] = {
		0,
		1,
		2,
		4095,
		4096,
		4097,
		0x7f,
		0x80,
		0xff,
		0x7fff,
		0x8000,
		0xffff,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		5u << 20,
		INT64_MAX,
		1ull << 63,
		UINT64_MAX,
		UINT64_MAX - 4095,
	};
	size_t width = (size_t)1 << below(4);
	if (input_size < width)
		return;
	uint64_t v =
		below(4) ? interesting[below(sizeof interesting / sizeof *interesting)] : next();
	memcpy(input + below(input_size - width + 1), &v, width);
}

static void insert(const uint8_t *from, size_t n)
{
	size_t at = below(input_size + 1), tail = input_size - at;
	if (tail > FUZZ_SEED_MAX || n > FUZZ_SEED_MAX - at - tail)
		return;
	memmove(input + at + n, input + at, tail);
	if (from)
		memcpy(input + at, from, n);
	else
		for (size_t i = 0; i < n; i++)
			input[at + i] = (uint8_t)next();
	input_size += n;
}

static void mutate_once(void)
{
	static uint8_t piece[FUZZ_SEED_MAX];
	size_t at = below(input_size), n = below(input_size - at + 1);
	const struct entry *other = &corpus[below(n_corpus)];
	switch (below(8)) {
	case 0:
		if (input_size)
			input[at] ^= (uint8_t)(1u << below(8));
		break;
	case 1:
		if (input_size)
			input[at] = (uint8_t)next();
		break;
	case 2:
	case 3:
		put_number();
		break;
	case 4: /* cut a piece out */
		memmove(input + at, input + at + n, input_size - at - n);
		input_size -= n;
		break;
	case 5: /* repeat a piece */
		memcpy(piece, input + at, n);
		insert(piece, n);
		break;
	case 6:
		insert(NULL, below(32));
		break;
	case 7: /* a piece of another entry */
		at = below(other->size);
		insert(other->data + at, below(other->size - at + 1));
		break;
	}
}

static void run_input(void)
{
	/* Exactly as large as the input: reading beyond its end is seen by the sanitizer. */
	uint8_t *exact = malloc(input_size ? input_size : 1);
	memcpy(exact, input, input_size);
	LLVMFuzzerTestOneInput(exact, input_size);
	free(exact);
	run_number++;
}

static int write_seeds(const char *dir)
{
	for (size_t i = 0; i < n_corpus; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s/seed-%zu", dir, i);
		_cleanup_fclose_ FILE *f = fopen(path, "wb");
		if (!f || fwrite(corpus[i].data, 1, corpus[i].size, f) != corpus[i].size) {
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long runs = 200000;
	uint64_t seed = mc_now() ^ (uint64_t)getpid() << 32;
	const char *seeds_dir = NULL;

	if (fuzz_seed)
		for (unsigned i = 0; (input_size = fuzz_seed(i, input, FUZZ_SEED_MAX)) > 0; i++)
			add_entry(input, input_size);
	for (int i = 1; i < argc; i++) {
		if (!strncmp(argv[i], "-runs=", 6))
			runs = strtoul(argv[i] + 6, NULL, 0);
		else if (!strncmp(argv[i], "-seed=", 6))
			seed = strtoull(argv[i] + 6, NULL, 0);
		else if (!strncmp(argv[i], "-write-seeds=", 13))
			seeds_dir = argv[i] + 13;
		else if (add_file(argv[i]) < 0)
			return 1;
	}
	if (seeds_dir)
		return write_seeds(seeds_dir);
	add_entry(NULL, 0);

	for (int sig = 1; sig < 32; sig++)
		if (sig == SIGABRT || sig == SIGSEGV || sig == SIGBUS || sig == SIGILL ||
			sig == SIGFPE || sig == SIGTRAP)
			signal(sig, died);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell_input);
	fprintf(stderr, "%zu inputs, then %lu mutations: -seed=%#llx\n", n_corpus, runs,
		(unsigned long long)seed);

	for (size_t i = 0; i < n_corpus; i++) {
		input_size = corpus[i].size;
		memcpy(input, corpus[i].data, input_size);
		run_input();
	}
	rng = seed ? seed : 1; /* xorshift stays at 0 */
	for (unsigned long i = 0; i < runs; i++) {
		const struct entry *e = &corpus[below(n_corpus)];
		input_size = e->size;
		memcpy(input, e->data, input_size);
		for (size_t m = 1 + below(6); m > 0; m--)
			mutate_once();
		run_input();
	}
	for (size_t i = 0; i < n_corpus; i++)
		free(corpus[i].data);
	return 0;
}
