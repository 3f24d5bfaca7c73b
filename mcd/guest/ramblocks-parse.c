/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Texts that describe QEMU's memory: "info ramblock" and /proc/PID/maps.
 *
 *   QEMU 7.2   <name>  <page size> KiB  0x<offset> 0x<used> 0x<total>
 *   QEMU 8.1+  the same, then 0x<address> and ro|rw
 *
 * Names are right-aligned and may be long or contain spaces, so lines are read from their right
 * end.
 */
#include "common/cleanup.h"
#include "mcd/guest/ramblocks-private.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>

/* Cuts the last word off the text and returns it, or NULL. */
static char *pop_word(char *text)
{
	size_t n = strlen(text);
	while (n && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
	if (!n)
		return NULL;
	while (n && !isspace((unsigned char)text[n - 1]))
		n--;
	if (!n)
		return NULL; /* the first word is the name, and never taken */
	text[n - 1] = '\0';
	return text + n;
}

static bool parse_hex(const char *word, uint64_t *ret)
{
	if (!word || strncmp(word, "0x", 2) || !isxdigit((unsigned char)word[2]))
		return false;
	char *end;
	errno = 0;
	uint64_t v = strtoull(word, &end, 16);
	if (*end || errno)
		return false;
	*ret = v;
	return true;
}

static bool is_page_unit(const char *word)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	for (size_t i = 0; word && i < sizeof unit / sizeof *unit; i++)
		if (!strcmp(word, unit[i]))
			return true;
	return false;
}

static bool parse_line(char *line, struct ramblock_line *ret)
{
	struct ramblock_line l = {0};
	uint64_t hex[4];
	size_t n = 0;
	char *w = pop_word(line);
	if (w && (!strcmp(w, "ro") || !strcmp(w, "rw"))) {
		l.read_only = w[1] == 'o';
		w = pop_word(line);
	}
	for (; n < 4 && parse_hex(w, &hex[n]); n++)
		w = pop_word(line);
	if (n < 3 || !is_page_unit(w) || !(w = pop_word(line)) || !isdigit((unsigned char)*w))
		return false;
	/* hex[] is from right to left. */
	l.hva = n == 4 ? hex[0] : 0;
	l.total = hex[n - 3];
	l.used = hex[n - 2];
	while (isspace((unsigned char)*line))
		line++;
	size_t len = strlen(line);
	while (len && isspace((unsigned char)line[len - 1]))
		line[--len] = '\0';
	if (!len || len > RAMBLOCK_ID_MAX)
		return false;
	memcpy(l.id, line, len + 1);
	*ret = l;
	return true;
}

int ramblocks_parse(
	const char *text, struct ramblock_line **ret, size_t *ret_n, struct mc_error *err)
{
	_cleanup_free_ char *copy = strdup(text);
	_cleanup_free_ struct ramblock_line *v = NULL;
	size_t n = 0, cap = 0;
	bool head = false;
	char *save = NULL;
	for (char *line = copy ? strtok_r(copy, "\r\n", &save) : NULL; line;
		line = strtok_r(NULL, "\r\n", &save)) {
		if (!head) {
			head = strstr(line, "Block Name") && strstr(line, "Total");
			if (head)
				continue;
		}
		if (n == RAMBLOCK_LINES_MAX)
			return mc_error_set(err, -EPROTO, MC_ECLASS_GUEST,
				"this QEMU lists more than %d blocks of memory, which cannot be "
				"right",
				RAMBLOCK_LINES_MAX);
		if (n == cap) {
			cap = cap ? 2 * cap : 32;
			struct ramblock_line *bigger = realloc(v, cap * sizeof *v);
			if (!bigger)
				return mc_error_set(
					err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
			v = bigger;
		}
		/* Skipping a line that is not understood could leave out a block of RAM. */
		_cleanup_free_ char *shown = strdup(line);
		if (!head || !parse_line(line, &v[n]))
			return mc_error_set(err, -EPROTO, MC_ECLASS_GUEST,
				"this QEMU lists its memory in an unknown layout (\"%.200s\"); use "
				"a QEMU version that mcd knows (7.2 or later)",
				shown ? shown : "");
		n++;
	}
	if (!n)
		return mc_error_set(err, -EPROTO, MC_ECLASS_GUEST,
			"this QEMU lists no memory (info ramblock); use a QEMU version that mcd "
			"knows (7.2 or later)");
	*ret = mc_steal_ptr(v);
	*ret_n = n;
	return 0;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && !strcmp(s + n - m, end);
}

bool ramblocks_is_rom(const struct ramblock_line *l)
{
	/* "/rom@...": files that QEMU hands to the firmware (ACPI tables), made anew at each reset.
	 * "*.rom": pc.rom and the option ROMs of PCI cards.  The firmware itself: roms.c. */
	return l->read_only || !strncmp(l->id, "/rom@", 5) || ends_with(l->id, ".rom") ||
	       !strcmp(l->id, "pc.bios") || !strcmp(l->id, "isa-bios") ||
	       !strcmp(l->id, "pc.isa-bios");
}

int ramblocks_refuse(const char *id, bool is_backend, struct mc_error *err)
{
	const char *what = "private memory of a device that mcd cannot copy",
		   *cure = "remove the device that has it from the command line";
	if (is_backend || ends_with(id, ".ram")) {
		what = "guest RAM that is not shared";
		cure = "give the memory backend share=on, or give the size by -m alone and let mcd "
		       "supply the memory";
	} else if (ends_with(id, "vga.vram") || strstr(id, "qxl.") ||
		   ends_with(id, "vmsvga.vram")) {
		what = "the memory of a display adapter";
		cure = "use -nodefaults -vga none and a serial console or a remote desktop in the "
		       "guest";
	} else if (!strncmp(id, "system.flash", 12)) {
		what = "a flash chip that the guest can write";
		cure = "start the firmware with -bios FILE instead of -drive if=pflash or -machine "
		       "pflash0";
	} else if (strstr(id, "ivshmem")) {
		what = "memory shared with another program";
		cure = "remove the ivshmem device";
	} else if (!strcmp(id, "tpm-ppi")) {
		what = "memory of the TPM";
		cure = "add ppi=off to the TPM device";
	}
	return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
		"memory block \"%s\" is %s, and would be missing after a takeover; %s", id, what,
		cure);
}

int ramblocks_parse_maps(
	const char *text, struct ram_mapping **ret, size_t *ret_n, struct mc_error *err)
{
	_cleanup_free_ struct ram_mapping *v = NULL;
	size_t n = 0, cap = 0;
	bool open = false; /* v[n - 1] may go on in the next line */
	uint64_t next_off = 0;
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		uint64_t start, end, off, ino;
		unsigned int major, minor;
		char perm[5];
		bool fits = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64,
				    &start, &end, perm, &off, &major, &minor, &ino) == 7 &&
			    !strncmp(perm, "rw", 2) && perm[3] == 's' && ino;
		if (!fits) {
			open = false;
			continue;
		}
		struct ram_mapping *last = n ? &v[n - 1] : NULL;
		if (open && off == next_off && start == last->addr + last->len &&
			ino == last->ino && major == last->dev_major && minor == last->dev_minor) {
			last->len += end - start;
			next_off += end - start;
			continue;
		}
		open = !off;
		if (off)
			continue;
		if (n == cap) {
			cap = cap ? 2 * cap : 32;
			struct ram_mapping *bigger = realloc(v, cap * sizeof *v);
			if (!bigger)
				return mc_error_set(
					err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
			v = bigger;
		}
		v[n++] = (struct ram_mapping){start, end - start, major, minor, ino, end};
		next_off = end - start;
	}
	*ret = mc_steal_ptr(v);
	*ret_n = n;
	return 0;
}

int ramblocks_choose(const struct ram_wanted *w, const struct ram_mapping *maps, size_t n_maps,
	const struct ram_mapping **ret, struct mc_error *err)
{
	const struct ram_mapping *found = NULL;
	size_t hits = 0;
	for (size_t i = 0; i < n_maps; i++) {
		const struct ram_mapping *m = &maps[i];
		if (m->len != w->size || (w->hva && m->addr != w->hva))
			continue;
		if (w->by_file &&
			(m->ino != w->ino || makedev(m->dev_major, m->dev_minor) != w->dev))
			continue;
		found = m;
		hits++;
	}
	if (!hits)
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"the memory of backend \"%s\" (%" PRIu64
			" bytes) was not found among QEMU's shared mappings; use "
			"memory-backend-file or memory-backend-memfd with share=on and without "
			"hugepages, offsets or read-only options",
			w->id, w->size);
	if (hits > 1 || (!w->by_file && !w->hva && w->same_size > 1))
		return mc_error_set(err, -ENOTSUP, MC_ECLASS_GUEST,
			"backend \"%s\" cannot be told from another mapping of the same size "
			"(%" PRIu64
			" bytes); let mcd supply the memory, or use memory-backend-file, "
			"each with a file of its own",
			w->id, w->size);
	*ret = found;
	return 0;
}
