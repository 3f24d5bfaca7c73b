/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/text.h"

#include <stdint.h>
#include <string.h>

/* Bytes of the well-formed character that s begins with (RFC 3629: no overlong forms, no
 * surrogates); 0: none; -1: it may have been one before it was cut off by the end. */
static int character(const unsigned char *s)
{
	if (s[0] < 0x80)
		return s[0] >= 0x20 && s[0] != 0x7f;
	int n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
		: s[0] >= 0xe0 && s[0] <= 0xef ? 3
		: s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
					       : 0;
	for (int i = 1; i < n; i++) {
		unsigned char low = 0x80, high = 0xbf;
		if (!s[i])
			return -1;
		if (i == 1 && s[0] == 0xe0)
			low = 0xa0;
		if (i == 1 && s[0] == 0xed)
			high = 0x9f;
		if (i == 1 && s[0] == 0xf0)
			low = 0x90;
		if (i == 1 && s[0] == 0xf4)
			high = 0x8f;
		if (s[i] < low || s[i] > high)
			return 0;
	}
	/* U+0080 to U+009F are control characters as well. */
	return n == 2 && s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n;
}

void mc_text_clean(char *text)
{
	unsigned char *s = (unsigned char *)text;
	while (*s) {
		int n = character(s);
		if (n < 0) {
			*s = 0;
			return;
		}
		if (n == 0)
			*s = *s == '\n' || *s == '\t' ? ' ' : '?';
		s += n ? n : 1;
	}
}

char *mc_text_copy(char *to, size_t cap, const char *text)
{
	size_t n = text ? strnlen(text, cap - 1) : 0;
	if (n)
		memmove(to, text, n);
	to[n] = 0;
	mc_text_clean(to);
	return to;
}
