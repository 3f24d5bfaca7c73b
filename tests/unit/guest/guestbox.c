/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/guest/guestbox.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The stand-in for cmdline.c: "command" is only what the test adds. */
int cmdline_build(const struct config_vm *vm, const struct cmdline_plan *plan,
	const struct cmdline_inputs *in, char ***ret_argv, struct mc_error *err)
{
	char *line;
	assert_true(
		asprintf(&line,
			"%s -accel tcg -machine pc,memory-backend=ram0,suppress-vmdesc=on -global "
			"migration.send-configuration=off -m 32M -object "
			"memory-backend-file,id=ram0,size=32M,mem-path=/proc/self/fd/%d,share=on "
			"-nodefaults -vga none -display none -name %s -qmp "
			"unix:%s,server=on,wait=off -qmp unix:%s,server=on,wait=off%s",
			vm->command, in->ram_fds[0], in->name, in->qmp_path, in->qmp_oob_path,
			in->incoming ? " -incoming defer" : "") > 0);
	char **argv = calloc(64, sizeof *argv), *save = NULL;
	size_t n = 0;
	for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
		argv[n++] = strdup(w);
	free(line);
	*ret_argv = argv;
	return 0;
}

void cmdline_argv_free(char **argv)
{
	for (size_t i = 0; argv[i]; i++)
		free(argv[i]);
	free(argv);
}

/* A test that fails does not reach its end: what it left is remembered here for forget_boxes. */
static struct left {
	char dir[64];
	struct guest *g;
} left[2];

int forget_boxes(void **state)
{
	for (size_t i = 0; i < 2; i++) {
		char command[sizeof left[i].dir + 16];
		snprintf(command, sizeof command, "rm -rf %.63s", left[i].dir);
		guest_kill(left[i].g);
		guest_free(left[i].g);
		if (*left[i].dir && system(command) != 0)
			return -1;
		left[i] = (struct left){0};
	}
	return 0;
}

void remember(struct box *b, struct guest *g)
{
	for (size_t i = 0; i < 2; i++)
		if (!*left[i].dir || !strcmp(left[i].dir, b->dir)) {
			strcpy(left[i].dir, b->dir);
			left[i].g = g;
			return;
		}
}

static void forget(struct box *b)
{
	for (size_t i = 0; i < 2; i++)
		if (!strcmp(left[i].dir, b->dir))
			left[i] = (struct left){0};
}

void box_init(struct box *b)
{
	*b = (struct box){.err = MC_ERROR_INIT, .plan = {.n_ram = 1}};
	strcpy(b->dir, "/tmp/test-guest-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	strcpy(b->vm.name, "vm1");
	b->ram_fd = memfd_create("test-ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->ram_fd, RAM_SIZE), 0);
	b->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->ram_fd, 0);
	assert_ptr_not_equal(b->ram, MAP_FAILED);
	remember(b, NULL);
}

int launch_as(
	struct box *b, const char *command, const char *run_dir, bool incoming, uint64_t timeout)
{
	char cmd[256];
	snprintf(cmd, sizeof cmd, "%s", command);
	b->vm.command = cmd;
	struct guest_launch l = {
		.vm = &b->vm,
		.plan = &b->plan,
		.run_dir = run_dir,
		.ram_fds = &b->ram_fd,
		.incoming = incoming,
		.deadline = mc_now() + timeout,
	};
	int r = guest_qemu.launch(&l, &b->g, &b->err);
	b->vm.command = NULL;
	if (r == 0)
		remember(b, b->g);
	return r;
}

void launch(struct box *b, bool incoming)
{
	box_init(b);
	if (launch_as(b, QEMU, b->dir, incoming, WAIT) < 0)
		fail_msg("%s", b->err.msg);
}

void path_of(const struct box *b, const char *leaf, char *path, size_t size)
{
	snprintf(path, size, "%s/%s", b->dir, leaf);
}

bool has(const struct box *b, const char *leaf)
{
	char path[256];
	path_of(b, leaf, path, sizeof path);
	return access(path, F_OK) == 0;
}

void box_clear(struct box *b)
{
	forget(b);
	guest_kill(b->g);
	guest_free(b->g);
	munmap(b->ram, RAM_SIZE);
	close(b->ram_fd);
	static const char *const leaves[] = {
		"qemu.log", "pid", "qemu/qmp.sock", "qemu/qmp-oob.sock"};
	for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
		char path[256];
		path_of(b, leaves[i], path, sizeof path);
		unlink(path);
	}
	rmdir(b->dir);
}

void ok(struct box *b, int r)
{
	if (r < 0)
		fail_msg("%s", b->err.msg);
}

void assert_said(const struct box *b, const char *part)
{
	if (!strstr(b->err.msg, part))
		fail_msg("\"%s\" is not in \"%s\"", part, b->err.msg);
}

bool runs(struct box *b)
{
	json_t *j = NULL;
	ok(b, qmp_command(qemu_of(b->g)->qmp, "query-status", NULL, WAIT, &j, &b->err));
	bool running = json_is_true(json_object_get(j, "running"));
	json_decref(j);
	return running;
}

enum guest_event event(struct box *b)
{
	uint64_t deadline = mc_now() + WAIT;
	for (;;) {
		enum guest_event ev = guest_next_event(b->g);
		if (ev != GUEST_EVENT_NONE || !mc_ms_left(deadline))
			return ev;
		struct pollfd p[] = {{.fd = qmp_fd(qemu_of(b->g)->qmp), .events = POLLIN},
			{.fd = guest_pidfd(b->g), .events = POLLIN}};
		poll(p, 2, mc_ms_left(deadline));
	}
}

void administrator(struct box *b, const char *command)
{
	ok(b, qmp_command(qemu_of(b->g)->oob, command, NULL, WAIT, NULL, &b->err));
}

void let_firmware_settle(struct box *b)
{
	uint64_t deadline = mc_now() + WAIT;
	for (char *text = NULL; mc_now() < deadline; poll(NULL, 0, 20)) {
		free(text);
		ok(b, qmp_hmp(qemu_of(b->g)->qmp, "info registers", WAIT, &text, &b->err));
		bool halted = strstr(text, "HLT=1") != NULL;
		if (halted) {
			free(text);
			return;
		}
	}
	fail_msg("the firmware does not come to rest");
}

enum guest_adopted adopt(struct box *b)
{
	enum guest_adopted how;
	guest_detach(b->g);
	b->g = NULL;
	ok(b, guest_qemu.adopt(&b->vm, b->dir, mc_now() + WAIT, &b->g, NULL, &how, &b->err));
	remember(b, b->g);
	return how;
}

void guest_writes(struct box *b, const char *port_and_value)
{
	char line[64], *text = NULL;
	snprintf(line, sizeof line, "o%s", port_and_value);
	ok(b, qmp_hmp(qemu_of(b->g)->qmp, line, WAIT, &text, &b->err));
	assert_string_equal(text, "");
	free(text);
}
