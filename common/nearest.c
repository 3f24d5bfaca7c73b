/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "Did you mean": the restricted Damerau-Levenshtein distance over a short list of names. */
#include "common/parse.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#define WORD_MAX 64 /* longer words are nobody's typing mistake */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;
	return m < c ? m : c;
}

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static unsigned distance(const char *a, size_t la, const char *b, size_t lb)
{
	unsigned before[WORD_MAX + 1] = {0}, prev[WORD_MAX + 1] = {0}, row[WORD_MAX + 1];
	for (size_t j = 0; j <= lb; j++)
		prev[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned change = prev[j - 1] + !same(a[i - 1], b[j - 1]);
			row[j] = min3(prev[j] + 1, row[j - 1] + 1, change);
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) &&
				same(a[i - 2], b[j - 1]) && before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		memcpy(before, prev, sizeof before);
		memcpy(prev, row, (lb + 1) * sizeof *row);
	}
	return prev[lb];
}

const char *mc_nearest(const char *word, const char *const *candidates, size_t n)
{
	size_t len = strlen(word);
	if (len == 0 || len > WORD_MAX)
		return NULL;
	/* One mistake in three letters, four at most: more is another word. */
	unsigned limit = len < 3 ? 1 : len / 3 > 4 ? 4 : (unsigned)(len / 3);
	const char *best = NULL;
	unsigned best_distance = limit + 1;
	for (size_t i = 0; i < n; i++) {
		size_t clen = strlen(candidates[i]);
		if (clen > WORD_MAX)
			continue;
		unsigned d = distance(word, len, candidates[i], clen);
		/* A distance as large as the candidate means that nothing of it is left. */
		if (d < best_distance && d < clen) {
			best = candidates[i];
			best_distance = d;
		}
	}
	return best;
}
