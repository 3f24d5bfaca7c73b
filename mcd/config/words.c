/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/config/words.h"
#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

static void words_freep(char ***words)
{
	words_free(*words);
}

void words_free(char **words)
{
	for (char **w = words; w && *w; w++)
		free(*w);
	free(words);
}

static int needs_shell(char c, struct mc_error *err)
{
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
		"the command has a \"%c\" that only a shell would understand, and no shell runs "
		"it: write out what is meant, or put the word in single quotes",
		c);
}

/* Takes one word from *p (which stands on its first character) into buf, which is large enough
 * for the whole text. */
static int take_word(const char **p, char *buf, size_t *ret_len, struct mc_error *err)
{
	char quote = 0;
	size_t n = 0;
	const char *s = *p;

	for (; *s && (quote || !isspace((unsigned char)*s)); s++) {
		if (quote == '\'') {
			if (*s == '\'')
				quote = 0;
			else
				buf[n++] = *s;
		} else if (*s == '\\') {
			if (s[1] == '\0')
				return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
					"the command ends in a backslash: take it out, or write "
					"two for one");
			if (quote && !strchr("\"\\$`", s[1]))
				buf[n++] = *s;
			buf[n++] = *++s;
		} else if (*s == '$' || *s == '`') {
			return needs_shell(*s, err);
		} else if (quote) {
			if (*s == '"')
				quote = 0;
			else
				buf[n++] = *s;
		} else if (*s == '\'' || *s == '"') {
			quote = *s;
		} else if (strchr("|&;<>()", *s)) {
			return needs_shell(*s, err);
		} else {
			buf[n++] = *s;
		}
	}
	if (quote)
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"the command has a %s quote that is never closed: write the second one",
			quote == '"' ? "double" : "single");
	*ret_len = n;
	*p = s;
	return 0;
}

int words_split(const char *text, char ***ret_words, size_t *ret_n, struct mc_error *err)
{
	_cleanup_free_ char *buf = malloc(strlen(text) + 1);
	_cleanup_(words_freep) char **words = calloc(WORDS_MAX + 1, sizeof *words);
	size_t count = 0;
	if (!buf || !words)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to split a command");

	for (const char *p = text;;) {
		while (isspace((unsigned char)*p))
			p++;
		if (!*p)
			break;
		size_t len = 0;
		int r = take_word(&p, buf, &len, err);
		if (r < 0)
			return r;
		if (count == WORDS_MAX)
			return mc_error_set(err, -E2BIG, MC_ECLASS_CONFIG,
				"the command has more than %d words: shorten it", WORDS_MAX);
		words[count] = strndup(buf, len);
		if (!words[count])
			return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY,
				"no memory left to split a command");
		count++;
	}
	*ret_n = count;
	*ret_words = mc_steal_ptr(words);
	return 0;
}
