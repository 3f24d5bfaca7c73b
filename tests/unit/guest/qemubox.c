/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "qemubox.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU      "qemu-system-x86_64"
#define MAX_WORDS 64

bool qemubox_installed(void)
{
	return system("command -v " QEMU " >/dev/null 2>&1") == 0;
}

static int make_ram(struct qemubox *b)
{
	for (int i = 0; i < QEMUBOX_RAMS; i++) {
		b->ram_fd[i] = memfd_create("qemubox", 0); /* QEMU inherits it */
		if (b->ram_fd[i] < 0 || ftruncate(b->ram_fd[i], QEMUBOX_RAM))
			return -errno;
		b->ram[i] = mmap(
			NULL, QEMUBOX_RAM, PROT_READ | PROT_WRITE, MAP_SHARED, b->ram_fd[i], 0);
		if (b->ram[i] == MAP_FAILED)
			return -errno;
	}
	return 0;
}

static void exec_qemu(const struct qemubox *b, const char *options)
{
	char text[4096] = QEMU, *word[MAX_WORDS + 1], *save = NULL;
	size_t at = strlen(text), rams = 0, objects = 0, n = 0;
	for (const char *p = options; (p = strstr(p, "memory-backend-")); p++)
		objects++;
	at += (size_t)snprintf(text + at, sizeof text - at,
		" -accel tcg -display none -m %zuM -qmp unix:%s/qmp.sock,server=on,wait=off ",
		(objects ? objects : 1) * (size_t)(QEMUBOX_RAM >> 20), b->dir);
	for (const char *p = options; *p && at < sizeof text - 16; p++) {
		if (p[0] == '%' && p[1] == 'd') {
			at += (size_t)snprintf(text + at, 16, "%d", b->ram_fd[rams++]);
			p++;
		} else {
			text[at++] = *p;
			text[at] = '\0';
		}
	}
	for (char *w = strtok_r(text, " ", &save); w && n < MAX_WORDS;
		w = strtok_r(NULL, " ", &save))
		word[n++] = w;
	word[n] = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp(word[0], word);
	_exit(127);
}

int qemubox_start(struct qemubox *b, const char *options, struct mc_error *err)
{
	char path[80];
	memset(b, 0, sizeof *b);
	strcpy(b->dir, "/tmp/qemubox-XXXXXX");
	if (!mkdtemp(b->dir))
		return mc_error_set(err, -errno, MC_ECLASS_FAILED, "no directory for QEMU");
	int r = make_ram(b);
	if (r < 0)
		return mc_error_set(err, r, MC_ECLASS_MEMORY, "no memory for QEMU");
	b->pid = fork();
	if (!b->pid)
		exec_qemu(b, options);
	snprintf(path, sizeof path, "%s/qmp.sock", b->dir);
	return qmp_open(path, false, mc_now() + 20 * MC_SEC, &b->qmp, err);
}

void qemubox_stop(struct qemubox *b)
{
	char path[80];
	if (!*b->dir)
		return;
	qmp_close(b->qmp);
	if (b->pid > 0) {
		kill(b->pid, SIGKILL);
		waitpid(b->pid, NULL, 0);
	}
	for (int i = 0; i < QEMUBOX_RAMS; i++) {
		if (b->ram[i] && b->ram[i] != MAP_FAILED)
			munmap(b->ram[i], QEMUBOX_RAM);
		if (b->ram_fd[i] > 0)
			close(b->ram_fd[i]);
	}
	snprintf(path, sizeof path, "%s/qmp.sock", b->dir);
	unlink(path);
	rmdir(b->dir);
	memset(b, 0, sizeof *b);
}
