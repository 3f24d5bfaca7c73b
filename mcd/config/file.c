/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inih parses; around it we count the lines and keep the section's whole name, because its handler
 * gets no line number and a section name cut to 49 bytes, and with its defaults it cuts lines at
 * 200 bytes, which every QEMU command exceeds.
 */
#include "mcd/config/file.h"
#include "common/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_SIZE_MAX (256 * 1024)

struct reader {
	struct conf_file *file;
	struct mc_error *err; /* the first error stays: it is the one to be mended first */
	bool failed;
	const char *next, *end;
	unsigned line;
	bool indented;
	char *section; /* of the line being parsed */
	bool in_value; /* a key was seen since the last head: an indented line goes on with it */
};

/* inih's settings are process-wide variables; ours hold for all that we read with it. */
static void set_up_inih(void)
{
	ini_use_stack = false;
	ini_initial_alloc = FILE_SIZE_MAX + 3;
	ini_max_line = FILE_SIZE_MAX + 3;
	ini_allow_inline_comments = false; /* " ;" may be part of a command */
	ini_stop_on_first_error = true;
}

int conf_file_error(
	const struct conf_file *f, unsigned line, struct mc_error *err, const char *fmt, ...)
{
	char text[560];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG, "%s:%u: %s", f->path, line, text);
}

#define reader_error(r, ...)                                                                       \
	do {                                                                                       \
		if (!(r)->failed)                                                                  \
			conf_file_error((r)->file, (r)->line, (r)->err, __VA_ARGS__);              \
		(r)->failed = true;                                                                \
	} while (0)

static struct conf_item *add_item(struct reader *r, const char *key, const char *value)
{
	struct conf_file *f = r->file;
	struct conf_item *grown = reallocarray(f->items, f->n + 1, sizeof *grown);
	if (!grown)
		goto no_memory;
	f->items = grown;
	struct conf_item it = {.line = r->line, .section = strdup(r->section)};
	if (key) {
		it.key = strdup(key);
		it.value = strdup(value);
	}
	if (!it.section || (key && (!it.key || !it.value))) {
		free(it.section);
		free(it.key);
		free(it.value);
		goto no_memory;
	}
	f->items[f->n] = it;
	return &f->items[f->n++];

no_memory:
	reader_error(r, "there is no memory left to read this file");
	return NULL;
}

static const struct conf_item *find(const struct conf_file *f, const char *section, const char *key)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct conf_item *it = &f->items[i];
		if (strcmp(it->section, section) == 0 && !it->key == !key &&
			(!key || strcmp(it->key, key) == 0))
			return it;
	}
	return NULL;
}

static void begin_section(struct reader *r, const char *start, const char *eol)
{
	const char *close = memchr(start, ']', (size_t)(eol - start));
	if (!close)
		return; /* inih reports the line */
	for (const char *p = close + 1; p < eol; p++)
		if (!isspace((unsigned char)*p)) {
			reader_error(r, "there is text after the section's head: put it in a line "
					"of its own");
			return;
		}
	char *name = malloc((size_t)(close - start) + 1);
	if (!name) {
		reader_error(r, "there is no memory left to read this file");
		return;
	}
	size_t n = 0;
	for (const char *p = start; p < close; p++) {
		bool space = isspace((unsigned char)*p);
		if (!space)
			name[n++] = *p;
		else if (n && name[n - 1] != ' ')
			name[n++] = ' ';
	}
	while (n && name[n - 1] == ' ')
		n--;
	name[n] = '\0';
	free(r->section);
	r->section = name;
	r->in_value = false;
	const struct conf_item *before = find(r->file, name, NULL);
	if (before)
		reader_error(r,
			"section [%.80s] is already at line %u: put its keys together there", name,
			before->line);
	else
		add_item(r, NULL, NULL);
}

/* fgets() over the file in memory, for inih, which always offers room for the whole file. */
static char *read_line(char *buf, int size, void *opaque)
{
	struct reader *r = opaque;
	if (r->failed || r->next == r->end)
		return NULL;
	const char *start = r->next, *eol = memchr(start, '\n', (size_t)(r->end - start));
	size_t len = eol ? (size_t)(eol - start) + 1 : (size_t)(r->end - start);
	if (len >= (size_t)size) { /* not with our settings */
		reader_error(r, "the line is too long");
		return NULL;
	}
	memcpy(buf, start, len);
	buf[len] = '\0';
	r->next += len;
	r->line++;

	const char *text = start, *end = start + len;
	if (r->line == 1 && len >= 3 && memcmp(start, "\xef\xbb\xbf", 3) == 0)
		text += 3;
	const char *word = text;
	while (word < end && isspace((unsigned char)*word))
		word++;
	r->indented = word > text;
	/* As inih has it: an indented [ goes on with a value, if there is one. */
	if (word < end && *word == '[' && !(r->indented && r->in_value)) {
		begin_section(r, word + 1, end);
		if (r->failed)
			return NULL;
	}
	return buf;
}

static void go_on_with(struct reader *r, struct conf_item *it, const char *more)
{
	size_t len = strlen(it->value), slashes = 0;
	while (slashes < len && it->value[len - 1 - slashes] == '\\')
		slashes++;
	len -= slashes % 2;
	char *joined = NULL;
	if (asprintf(&joined, "%.*s%s%s", (int)len, it->value,
		    len && it->value[len - 1] != ' ' ? " " : "", more) < 0) {
		reader_error(r, "there is no memory left to read this file");
		return;
	}
	free(it->value);
	it->value = joined;
	it->continued = true;
}

static int take_pair(void *opaque, const char *section, const char *key, const char *value)
{
	struct reader *r = opaque;
	if (r->failed)
		return 0;
	if (r->indented && r->in_value) {
		go_on_with(r, &r->file->items[r->file->n - 1], value);
		return !r->failed;
	}
	if (!r->section) {
		reader_error(r,
			"\"%.64s\" is in no section: begin with a line such as [mcd] or [vm]", key);
		return 0;
	}
	const struct conf_item *before = find(r->file, r->section, key);
	if (before) {
		reader_error(r, "%.64s is already given at line %u: keep one of the two", key,
			before->line);
		return 0;
	}
	add_item(r, key, value);
	r->in_value = true;
	return !r->failed;
}

static int read_whole(const char *path, char **ret, size_t *ret_len, struct mc_error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "%s cannot be read: %s", path,
			strerror(errno));
	if (!S_ISREG(st.st_mode))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s is not a regular file: write the configuration into a plain file",
			path);
	if (st.st_size > FILE_SIZE_MAX)
		return mc_error_set(err, -EFBIG, MC_ECLASS_CONFIG,
			"%s is larger than %d KiB: this cannot be a configuration file", path,
			FILE_SIZE_MAX / 1024);
	_cleanup_free_ char *text = malloc(FILE_SIZE_MAX + 1);
	if (!text)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to read %s", path);
	size_t len = 0;
	for (;;) {
		ssize_t n = read(fd, text + len, FILE_SIZE_MAX + 1 - len);
		if (n < 0)
			return mc_error_set(err, -errno, MC_ECLASS_CONFIG, "%s cannot be read: %s",
				path, strerror(errno));
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > FILE_SIZE_MAX) /* it grew meanwhile */
			return mc_error_set(err, -EFBIG, MC_ECLASS_CONFIG,
				"%s is larger than %d KiB: this cannot be a configuration file",
				path, FILE_SIZE_MAX / 1024);
	}
	if (memchr(text, '\0', len))
		return mc_error_set(err, -EINVAL, MC_ECLASS_CONFIG,
			"%s has a NUL byte in it: this cannot be a configuration file", path);
	*ret = mc_steal_ptr(text);
	*ret_len = len;
	return 0;
}

int conf_file_load(const char *path, struct conf_file *ret, struct mc_error *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, set_up_inih);

	struct conf_file file = {.n = 0};
	size_t path_len = strlen(path);
	if (path_len >= sizeof file.path)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the path %.200s... is longer than %zu bytes: use a shorter one", path,
			sizeof file.path - 1);
	memcpy(file.path, path, path_len + 1);

	_cleanup_free_ char *text = NULL;
	size_t len = 0;
	int code = read_whole(path, &text, &len, err);
	if (code < 0)
		return code;
	struct mc_error parse_err = MC_ERROR_INIT;
	struct reader r = {.file = &file, .err = &parse_err, .next = text, .end = text + len};
	int bad = ini_parse_stream(read_line, &r, take_pair, &r);
	free(r.section);
	if (bad > 0 && !r.failed) {
		r.line = (unsigned)bad;
		reader_error(&r, "this is neither \"[section]\" nor \"key = value\"");
	}
	if (r.failed || bad) {
		conf_file_clear(&file);
		if (err && r.failed)
			*err = parse_err;
		if (!r.failed)
			return mc_error_set(
				err, -ENOMEM, MC_ECLASS_MEMORY, "no memory left to read %s", path);
		return parse_err.code;
	}
	*ret = file;
	return 0;
}

void conf_file_clear(struct conf_file *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->items[i].section);
		free(f->items[i].key);
		free(f->items[i].value);
	}
	free(f->items);
	f->items = NULL;
	f->n = 0;
}
