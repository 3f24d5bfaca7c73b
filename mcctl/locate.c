/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the daemon's socket and the cluster key are.  Of mcd.conf only two keys are read here: the
 * file is checked by mcd, and mcctl shall work although it has an error elsewhere. */
#include "mcctl/verb.h"

#include "common/cleanup.h"
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONFIG  "/etc/mcd/mcd.conf"
#define DEFAULT_RUN_DIR "/run/mcd"

struct paths {
	char run_dir[256], key_file[256];
};

static int on_key(void *ctx, const char *section, const char *name, const char *value)
{
	struct paths *p = ctx;
	if (!strcmp(section, "mcd") && !strcmp(name, "run-dir"))
		snprintf(p->run_dir, sizeof p->run_dir, "%s", value);
	else if (!strcmp(section, "mcd") && !strcmp(name, "key-file"))
		snprintf(p->key_file, sizeof p->key_file, "%s", value);
	return 1;
}

static int read_paths(const struct mcctl *m, struct paths *ret, struct mc_error *err)
{
	const char *config = m->config ? m->config : DEFAULT_CONFIG;
	/* mcd's defaults lie beside the real file. */
	_cleanup_free_ char *full = realpath(config, NULL);
	if (full)
		config = full;
	const char *slash = strrchr(config, '/');
	*ret = (struct paths){DEFAULT_RUN_DIR, ""};
	snprintf(ret->key_file, sizeof ret->key_file, "%.*scluster.key",
		slash ? (int)(slash + 1 - config) : 0, config);
	/* An error in a line is mcd's to report; the rest of the file counts. */
	if (ini_parse(config, on_key, ret) < 0 && m->config)
		return mc_error_set(err, -ENOENT, MC_ECLASS_CONFIG, "cannot read '%.200s': %s",
			config, strerror(errno));
	return 0;
}

static int copy(const char *path, char *ret, size_t size, struct mc_error *err)
{
	if (strlen(path) >= size)
		return mc_error_set(err, -ENAMETOOLONG, MC_ECLASS_CONFIG,
			"the path '%.200s' is too long", path);
	memcpy(ret, path, strlen(path) + 1);
	return 0;
}

int locate_socket(const struct mcctl *m, char *ret, size_t size, struct mc_error *err)
{
	if (m->socket)
		return copy(m->socket, ret, size, err);
	struct paths p;
	char path[300];
	int r = read_paths(m, &p, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%s/control.sock", p.run_dir);
	return copy(path, ret, size, err);
}

int locate_key(const struct mcctl *m, char *ret, size_t size, struct mc_error *err)
{
	struct paths p;
	int r = read_paths(m, &p, err);
	return r < 0 ? r : copy(p.key_file, ret, size, err);
}
