/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster key file.
 *
 * As mcctl keygen writes it: 64 random bytes as 128 lower-case hex digits and a newline.  Read as:
 *  1. a file of printable ASCII and white space is text: white space at its end is dropped;
 *     an even number of hex digits is decoded, any other text is the key as it stands;
 *  2. any other file is the key as it stands;
 *  3. the key so obtained has LINK_KEY_MIN..LINK_KEY_MAX bytes.
 * So an editor that adds a newline does not change the key.
 */
#include "common/link.h"
#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#define CREATED_BYTES 64
#define FILE_MAX      (2 * LINK_KEY_MAX + 64) /* hex digits and some white space */

static bool is_text(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] >= 0x7f || (!isprint(p[i]) && !isspace(p[i])))
			return false;
	return true;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes in place; false (and the buffer untouched) if it is not all hex digits. */
static bool decode_hex(uint8_t *p, size_t *n)
{
	if (*n % 2)
		return false;
	for (size_t i = 0; i < *n; i++)
		if (hex_digit(p[i]) < 0)
			return false;
	for (size_t i = 0; i < *n; i += 2)
		p[i / 2] = (uint8_t)(hex_digit(p[i]) << 4 | hex_digit(p[i + 1]));
	*n /= 2;
	return true;
}

static int check_file(int fd, const char *path, struct mc_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "cannot stat key file %s: %s",
			path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"key file %s is not a regular file; make one with 'mcctl keygen %s'", path,
			path);
	if (st.st_mode & 077)
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"key file %s can be read or changed by others than its owner (mode %03o); "
			"run 'chmod 600 %s', and replace the key if others may have seen it",
			path, (unsigned)st.st_mode & 0777, path);
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return mc_error_set(err, -EPERM, MC_ECLASS_PERMISSION,
			"key file %s belongs to user %u; it must belong to root or to the user mcd "
			"runs as: run 'chown root %s'",
			path, (unsigned)st.st_uid, path);
	return 0;
}

int link_key_load(const char *path, struct link_key *ret, struct mc_error *err)
{
	/* O_NONBLOCK: opening a FIFO by mistake must not hang. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG,
			"cannot open key file %s: %s; make it once with 'mcctl keygen %s' and copy "
			"it to every host",
			path, strerror(errno), path);
	int r = check_file(fd, path, err);
	if (r < 0)
		return r;

	uint8_t buf[FILE_MAX + 1];
	size_t n = 0;
	while (n < sizeof buf) {
		ssize_t got = read(fd, buf + n, sizeof buf - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			r = mc_error_set(err, -errno, MC_ECLASS_CONFIG,
				"cannot read key file %s: %s", path, strerror(errno));
			goto out;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	bool too_long = n > FILE_MAX;
	if (!too_long && is_text(buf, n)) {
		while (n && isspace(buf[n - 1]))
			n--;
		decode_hex(buf, &n);
	}
	if (too_long || n < LINK_KEY_MIN || n > LINK_KEY_MAX) {
		r = mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"key file %s holds a key of %s%zu bytes, but it must have %d to %d; make "
			"one with 'mcctl keygen' and copy it to every host",
			path, too_long ? "more than " : "", too_long ? (size_t)FILE_MAX : n,
			LINK_KEY_MIN, LINK_KEY_MAX);
		goto out;
	}
	memset(ret, 0, sizeof *ret);
	ret->len = n;
	memcpy(ret->bytes, buf, n);
out:
	explicit_bzero(buf, sizeof buf);
	return r;
}

int link_key_create(const char *path, struct mc_error *err)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t key[CREATED_BYTES];
	char text[2 * CREATED_BYTES + 1];
	int r = gnutls_rnd(GNUTLS_RND_KEY, key, sizeof key);
	if (r < 0)
		return mc_error_set(err, -EIO, MC_ECLASS_FAILED, "cannot get random bytes: %s",
			gnutls_strerror(r));
	for (size_t i = 0; i < sizeof key; i++) {
		text[2 * i] = digits[key[i] >> 4];
		text[2 * i + 1] = digits[key[i] & 15];
	}
	text[sizeof text - 1] = '\n';

	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		int e = errno;
		r = e == EEXIST ? mc_error_set(err, -e, MC_ECLASS_INVALID,
					  "%s exists and is not overwritten: hosts that still use "
					  "it would no longer understand this one; remove it first "
					  "if you mean to replace it",
					  path)
				: mc_error_set(err, -e, MC_ECLASS_FAILED,
					  "cannot create key file %s: %s", path, strerror(e));
		goto out;
	}
	ssize_t n = write(fd, text, sizeof text);
	if (n != (ssize_t)sizeof text || fchmod(fd, 0600) < 0 || fsync(fd) < 0) {
		int e = n >= 0 && n < (ssize_t)sizeof text ? ENOSPC : errno;
		r = mc_error_set(err, -e, MC_ECLASS_FAILED, "cannot write key file %s: %s", path,
			strerror(e));
		unlink(path);
		goto out;
	}
	r = 0;
out:
	explicit_bzero(key, sizeof key);
	explicit_bzero(text, sizeof text);
	return r;
}
