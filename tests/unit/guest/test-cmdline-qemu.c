/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real QEMU accepts what cmdline_build makes, and its RAM is on our descriptor. */
#include "common/clock.h"
#include "common/qmp.h"
#include "mcd/guest/cmdline/cmdline.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define QEMU    "qemu-system-x86_64 -accel tcg -display none -vga none -serial none -monitor none "
#define TIMEOUT (30 * MC_SEC)

static char dir[] = "/tmp/mcd-test-cmdline-XXXXXX";
static char qmp_path[64], oob_path[64];
static bool have_netns;

struct machine {
	pid_t pid;
	struct qmp *qmp;
	int ram_fds[16], tap_fd;
	size_t n_ram;
};

static int make_dir(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(qmp_path, sizeof qmp_path, "%s/qmp,1.sock", dir); /* a comma, to be doubled */
	snprintf(oob_path, sizeof oob_path, "%s/oob.sock", dir);
	/* A tap of our own in a network that nobody else sees. */
	have_netns = unshare(CLONE_NEWNET) == 0;
	return 0;
}

static int remove_dir(void **state)
{
	unlink(qmp_path);
	unlink(oob_path);
	return rmdir(dir);
}

static int open_tap(void)
{
	struct ifreq ifr = {
		.ifr_name = "mcdtest0", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static struct machine start(const char *command, bool nic, bool incoming)
{
	static char text[1000];
	snprintf(text, sizeof text, "%s", command);
	struct config_vm vm = {.name = "vm1",
		.path = "vm1.conf",
		.command = text,
		.n_nics = nic,
		.nics = {{.id = "net0", .bridge = "br0", .mac = {0x52, 0x54, 0, 1, 2, 3}}}};
	struct cmdline_plan plan;
	struct mc_error err = MC_ERROR_INIT;
	struct machine m = {.tap_fd = -1};
	if (cmdline_plan(&vm, &plan, &err) < 0)
		fail_msg("%s", err.msg);
	m.n_ram = plan.n_ram;
	for (size_t i = 0; i < plan.n_ram; i++) {
		m.ram_fds[i] = memfd_create(plan.ram[i].id, 0);
		assert_true(m.ram_fds[i] >= 0);
		assert_int_equal(ftruncate(m.ram_fds[i], (off_t)plan.ram[i].size), 0);
	}
	if (nic)
		assert_true((m.tap_fd = open_tap()) >= 0);
	struct cmdline_inputs in = {.ram_fds = m.ram_fds,
		.tap_fds = &m.tap_fd,
		.qmp_path = qmp_path,
		.qmp_oob_path = oob_path,
		.name = "vm1",
		.incoming = incoming};
	char **argv;
	assert_int_equal(cmdline_build(&vm, &plan, &in, &argv, &err), 0);
	m.pid = fork();
	if (m.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execvp(argv[0], argv);
		_exit(127);
	}
	cmdline_argv_free(argv);
	cmdline_plan_clear(&plan);
	assert_true(m.pid > 0);
	if (qmp_open(qmp_path, false, mc_now() + TIMEOUT, &m.qmp, &err) < 0) {
		kill(m.pid, SIGKILL);
		fail_msg("%s\n%s", command, err.msg);
	}
	return m;
}

static void stop(struct machine *m)
{
	qmp_close(m->qmp);
	kill(m->pid, SIGKILL);
	waitpid(m->pid, NULL, 0);
	for (size_t i = 0; i < m->n_ram; i++)
		close(m->ram_fds[i]);
	if (m->tap_fd >= 0)
		close(m->tap_fd);
}

static void must_have(struct machine *m, const char *line, const char *needle)
{
	char *text = NULL;
	struct mc_error err = MC_ERROR_INIT;
	if (qmp_hmp(m->qmp, line, TIMEOUT, &text, &err) < 0)
		fail_msg("%s", err.msg);
	if (!strstr(text, needle))
		fail_msg("%s has no %s:\n%s", line, needle, text);
	free(text);
}

static bool has_status(struct machine *m, const char *wanted)
{
	json_t *j = NULL;
	const char *status;
	assert_int_equal(qmp_command(m->qmp, "query-status", NULL, TIMEOUT, &j, NULL), 0);
	assert_int_equal(json_unpack(j, "{s:s}", "status", &status), 0);
	bool same = strcmp(status, wanted) == 0;
	json_decref(j);
	return same;
}

static void qemu_runs_with_its_ram_block_named_after_our_id(void **state)
{
	struct machine m = start(QEMU "-m 64M", false, false);
	assert_true(has_status(&m, "running"));
	must_have(&m, "info ramblock", "mcd-ram ");
	must_have(&m, "info name", "vm1");
	struct mc_error err = MC_ERROR_INIT;
	struct qmp *oob;
	if (qmp_open(oob_path, true, mc_now() + TIMEOUT, &oob, &err) < 0)
		fail_msg("%s", err.msg);
	qmp_close(oob);
	stop(&m);
}

static void a_write_through_our_descriptor_is_seen_by_the_guest(void **state)
{
	struct machine m =
		start(QEMU "-m 64M", false, true); /* incoming: nothing runs, RAM is ours */
	assert_true(has_status(&m, "inmigrate"));
	assert_int_equal(pwrite(m.ram_fds[0], "\x12\x34\x56\x78", 4, 0x200000), 4);
	must_have(&m, "xp /1wx 0x200000", "0x78563412");
	stop(&m);
}

static void the_users_backends_keep_their_names(void **state)
{
	struct machine m = start(QEMU
		"-m 64M -smp 2 -object memory-backend-ram,id=left,size=32M -object "
		"'{\"qom-type\":\"memory-backend-memfd\",\"id\":\"right\",\"size\":33554432,\"merge\":false}' "
		"-numa node,memdev=left,cpus=0 -numa node,memdev=right,cpus=1",
		false, true);
	must_have(&m, "info ramblock", "left ");
	must_have(&m, "info ramblock", "right ");
	stop(&m);
	m = start(QEMU "-machine q35,memory-backend=main -object "
		       "memory-backend-file,id=main,size=64M,mem-path=/dev/shm/none,share=on",
		false, false);
	must_have(&m, "info ramblock", "main ");
	stop(&m);
}

static void the_nic_is_on_our_tap_with_our_mac(void **state)
{
	int probe = have_netns ? open_tap() : -1;
	if (probe < 0) {
		print_message("skipped: no permission for a network namespace with a tap\n");
		skip();
	}
	close(probe);
	static const char *const devices[] = {"", "-device e1000,netdev=net0",
		"-netdev user,id=net0 -device "
		"'{\"driver\":\"virtio-net-pci\",\"netdev\":\"net0\"}'"};
	for (size_t i = 0; i < 3; i++) {
		char text[500];
		snprintf(text, sizeof text, QEMU "-m 64M %s", devices[i]);
		struct machine m = start(text, true, i == 1);
		must_have(&m, "info network", "macaddr=52:54:00:01:02:03");
		must_have(&m, "info network", "net0: index=0,type=tap,fd=");
		stop(&m);
	}
}

static void no_nic_means_none(void **state)
{
	struct machine m = start(QEMU "-m 64M", false, false);
	char *text = NULL;
	assert_int_equal(qmp_hmp(m.qmp, "info network", TIMEOUT, &text, NULL), 0);
	assert_null(strstr(text, "macaddr"));
	free(text);
	stop(&m);
}

int main(void)
{
	if (system("command -v qemu-system-x86_64 >/dev/null") != 0) {
		printf("skipped: qemu-system-x86_64 is not installed\n");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(qemu_runs_with_its_ram_block_named_after_our_id),
		cmocka_unit_test(a_write_through_our_descriptor_is_seen_by_the_guest),
		cmocka_unit_test(the_users_backends_keep_their_names),
		cmocka_unit_test(the_nic_is_on_our_tap_with_our_mac),
		cmocka_unit_test(no_nic_means_none),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
