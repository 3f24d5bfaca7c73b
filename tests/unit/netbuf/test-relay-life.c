/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that die, taps that are taken over, a real QEMU. */
#include "testnet.h"

#include "common/cleanup.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct tn_frame got;

/* A process that holds output of a VM, as mcd does.  Returns its pid; ret_fd is its guest tap,
 * taken from it as a later mcd would take QEMU's. */
static pid_t holder(int *ret_fd, char ret_ifname[16])
{
	int out[2], guest = -1;
	assert_return_code(pipe2(out, O_CLOEXEC), errno);
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		struct tn *t = tn_open(1, "br0", 16 * MIB, "v1");
		netbuf_hold(t->nb, 1, NULL);
		for (unsigned i = 0; i < 500; i++)
			tn_send(t, 0, i);
		netbuf_barrier(t->nb, 1, NULL);
		for (unsigned i = 0; i < 500; i++)
			tn_send(t, 0, i);
		guest = netbuf_guest_fd(t->nb, 0);
		if (write(out[1], &guest, sizeof guest) != sizeof guest ||
			write(out[1], t->ifname[0], 16) != 16)
			_exit(1);
		for (;;)
			pause();
	}
	close(out[1]);
	assert_int_equal(read(out[0], &guest, sizeof guest), sizeof guest);
	assert_int_equal(read(out[0], ret_ifname, 16), 16);
	close(out[0]);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_return_code(pidfd, errno);
	*ret_fd = (int)syscall(SYS_pidfd_getfd, pidfd, guest, 0);
	assert_return_code(*ret_fd, errno);
	close(pidfd);
	return pid;
}

static void kill_hard(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static bool arrives(int watch, int timeout_ms)
{
	struct pollfd p = {watch, POLLIN, 0};
	return poll(&p, 1, timeout_ms) == 1;
}

static void test_killed_holder_lets_nothing_out(void **state)
{
	_cleanup_close_ int guest = -1;
	char ifname[16];
	_cleanup_close_ int watch = tn_watch("v1");
	pid_t pid = holder(&guest, ifname);
	assert_true(if_nametoindex(ifname) > 0);
	kill_hard(pid);
	assert_int_equal(if_nametoindex(ifname), 0);
	/* The guest is alive (its tap is) and goes on sending, without harm to itself or others. */
	uint8_t f[60];
	tn_build(f, sizeof f, tn_peer, TN_LOCAL, 1);
	for (int i = 0; i < 100; i++)
		tn_guest_raw(guest, NULL, 10, f, sizeof f);
	assert_false(arrives(watch, 100));
}

static void test_a_living_guest_is_adopted(void **state)
{
	_cleanup_close_ int guest = -1;
	char ifname[16];
	pid_t pid = holder(&guest, ifname);
	kill_hard(pid);
	struct tn *t = tn_open(0, "", MIB, "v1");
	struct netbuf_nic nic = {.id = "net0", .bridge = "br0"};
	memcpy(nic.mac, tn_mac, 6);
	t->cfg.nics = &nic;
	t->cfg.n_nics = 1;
	t->cfg.limit = 16 * MIB;
	netbuf_close(mc_steal_ptr(t->nb));
	OK(netbuf_adopt(&t->cfg, &guest, &t->nb, &err_));
	assert_true(netbuf_guest_fd(t->nb, 0) != guest);

	/* Closed at first: the new mcd does not know yet whether it still owns the VM. */
	tn_send(t, 0, 1);
	OK(netbuf_hold(t->nb, 50, &err_));
	tn_expect_none(t);
	tn_send(t, 0, 2);
	OK(netbuf_barrier(t->nb, 50, &err_));
	tn_expect_none(t);
	assert_int_equal(tn_stats(t).held_frames, 1);
	OK(netbuf_release(t->nb, 50, &err_));
	assert_true(tn_read(t, &got, 1000));
	assert_int_equal(tn_number(&got), 2);
	uint8_t in[60];
	tn_build(in, sizeof in, tn_mac, TN_LOCAL, 3);
	memcpy(in + 6, tn_peer, 6);
	tn_inject("v1", NULL, in, sizeof in);
	assert_true(tn_guest_read(guest, &got, 1000));
	assert_int_equal(tn_number(&got), 3);
	tn_close(t);
}

static void test_foreign_taps_are_not_adopted(void **state)
{
	struct netbuf_nic nic = {.id = "net0"};
	struct netbuf_config cfg = {
		.vm = "vm1", .backend = "relay", .nics = &nic, .n_nics = 1, .limit = MIB};
	struct netbuf *nb = NULL;
	struct mc_error err = MC_ERROR_INIT;
	_cleanup_close_ int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_true(netbuf_adopt(&cfg, &tap, &nb, &err) < 0); /* not attached to anything */
	assert_string_equal(err.cls, MC_ECLASS_GUEST);
	struct ifreq ifr = {.ifr_name = "tap9", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	assert_return_code(ioctl(tap, TUNSETIFF, &ifr), errno);
	/* In the host's namespace its output could not be held. */
	assert_true(netbuf_adopt(&cfg, &tap, &nb, &err) < 0);
	assert_non_null(strstr(err.msg, "namespace"));
	_cleanup_close_ int plain = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	struct ifreq no = {.ifr_name = "tap8", .ifr_flags = IFF_TAP | IFF_NO_PI};
	assert_return_code(ioctl(plain, TUNSETIFF, &no), errno);
	assert_true(netbuf_adopt(&cfg, &plain, &nb, &err) < 0);
	assert_non_null(strstr(err.msg, "vnet"));
	assert_null(nb);
}

static void test_close_removes_every_interface(void **state)
{
	struct tn *t = tn_open(2, "br0", MIB, "v1");
	char names[2][16];
	memcpy(names, t->ifname, sizeof names);
	assert_true(if_nametoindex(names[0]) > 0 && if_nametoindex(names[1]) > 0);
	/* The same VM cannot run twice on this host. */
	struct netbuf *nb = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_int_equal(netbuf_open(&t->cfg, &nb, &err), -EBUSY);
	tn_close(t);
	assert_true(if_nametoindex(names[0]) == 0 && if_nametoindex(names[1]) == 0);
}

static void test_removed_bridge_tap_is_survived_and_counted(void **state)
{
	struct tn *t = tn_open(1, "br0", MIB, "v1");
	OK(netbuf_hold(t->nb, 1, &err_));
	tn_send(t, 0, 1);
	tn_run("ip link del %s", t->ifname[0]);
	OK(netbuf_barrier(t->nb, 1, &err_));
	OK(netbuf_release(t->nb, 1, &err_));
	OK(netbuf_pass(t->nb, &err_));
	assert_int_equal(tn_stats(t).lost_frames, 1);
	tn_close(t);
}

static void test_lowered_interfaces_recover(void **state)
{
	struct tn *t = tn_open(1, "br0", MIB, "v1");
	OK(netbuf_pass(t->nb, &err_));
	tn_run("ip link set %s down", t->ifname[0]);
	tn_send(t, 0, 1);
	uint64_t deadline = mc_now() + 2 * MC_SEC;
	while (!tn_stats(t).lost_frames && mc_now() < deadline)
		usleep(200);
	assert_int_equal(tn_stats(t).lost_frames, 1);
	tn_run("ip link set %s up", t->ifname[0]);
	uint8_t f[60];
	tn_build(f, sizeof f, tn_peer, TN_LOCAL, 2);
	tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, f, sizeof f);
	assert_true(tn_read(t, &got, 1000));
	assert_int_equal(tn_number(&got), 2);
	tn_close(t);
}

/* One line of QMP, unless it is an event. */
static void qmp_line(FILE *f, char *line, size_t size)
{
	do
		if (!fgets(line, (int)size, f))
			fail_msg("QEMU has ended");
	while (strstr(line, "\"event\""));
}

static void test_real_qemu_takes_the_tap(void **state)
{
	if (system("command -v qemu-system-x86_64 >/dev/null")) {
		print_message("SKIP: there is no qemu-system-x86_64\n");
		skip();
	}
	struct tn *t = tn_open(1, "br0", MIB, "v1");
	int in[2], out[2], fd = netbuf_guest_fd(t->nb, 0);
	assert_return_code(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), errno);
	char netdev[60];
	snprintf(netdev, sizeof netdev, "tap,id=net0,fd=%d", fd);
	pid_t pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 1);
		fcntl(fd, F_SETFD, 0);
		execlp("qemu-system-x86_64", "qemu-system-x86_64", "-accel", "tcg", "-m", "32",
			"-nodefaults", "-display", "none", "-qmp", "stdio", "-netdev", netdev,
			"-device",
			"virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=", (char *)NULL);
		_exit(1);
	}
	close(in[0]);
	close(out[1]);
	_cleanup_fclose_ FILE *w = fdopen(in[1], "w");
	_cleanup_fclose_ FILE *r = fdopen(out[0], "r");
	assert_true(w && r);
	char line[2000];
	qmp_line(r, line, sizeof line); /* the greeting */
	OK(netbuf_hold(t->nb, 1, &err_));
	fprintf(w, "{\"execute\":\"qmp_capabilities\"}\n");
	fflush(w);
	qmp_line(r, line, sizeof line);
	/* QEMU itself sends a RARP through the NIC: real frames by its real way of writing them. */
	fprintf(w, "{\"execute\":\"announce-self\",\"arguments\":{\"initial\":10,\"max\":10,"
		   "\"rounds\":2,\"step\":10}}\n");
	fflush(w);
	qmp_line(r, line, sizeof line);
	assert_non_null(strstr(line, "return"));
	tn_wait_held(t, 2);
	fprintf(w, "{\"execute\":\"stop\"}\n");
	fflush(w);
	qmp_line(r, line, sizeof line);
	OK(netbuf_barrier(t->nb, 1, &err_));
	tn_expect_none(t);
	OK(netbuf_release(t->nb, 1, &err_));
	for (int i = 0; i < 2; i++) {
		assert_true(tn_read(t, &got, 1000));
		assert_memory_equal(got.data + 6, tn_mac, 6);
		assert_memory_equal(got.data + 12, "\x80\x35", 2);
	}
	kill_hard(pid);
	tn_close(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_holder_lets_nothing_out),
		cmocka_unit_test(test_a_living_guest_is_adopted),
		cmocka_unit_test(test_foreign_taps_are_not_adopted),
		cmocka_unit_test(test_close_removes_every_interface),
		cmocka_unit_test(test_removed_bridge_tap_is_survived_and_counted),
		cmocka_unit_test(test_lowered_interfaces_recover),
		cmocka_unit_test(test_real_qemu_takes_the_tap),
	};
	return cmocka_run_group_tests_name("netbuf relay: life", tests, tn_enter_bridge, NULL);
}
