/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of the command line, a row each; what QEMU makes of the result: test-cmdline-qemu.c. */
#include "mcd/guest/cmdline/cmdline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct mc_error err;
static char command[2000];

/* A VM with NICs net0 and net1, or none. */
static struct config_vm vm_of(const char *text, size_t nics)
{
	snprintf(command, sizeof command, "%s", text);
	struct config_vm vm = {
		.name = "vm1",
		.path = "/etc/mcd/vms.d/vm1.conf",
		.command = command,
		.n_nics = nics,
		.nics =
			{
				{.id = "net0", .bridge = "br0", .mac = {0x52, 0x54, 0, 1, 2, 3}},
				{.id = "net1", .bridge = "br0", .mac = {0x52, 0x54, 0, 1, 2, 4}},
			},
	};
	return vm;
}

static struct cmdline_plan plan_of(const char *text, size_t nics)
{
	struct config_vm vm = vm_of(text, nics);
	struct cmdline_plan plan;
	err = MC_ERROR_INIT;
	if (cmdline_plan(&vm, &plan, &err) < 0)
		fail_msg("%s\n%s", text, err.msg);
	return plan;
}

/* The final command as one text, a space between the words. */
static char *built(const char *text, size_t nics, bool incoming)
{
	static char out[4000];
	struct config_vm vm = vm_of(text, nics);
	struct cmdline_plan plan = plan_of(text, nics);
	const int ram_fds[16] = {10, 11, 12}, tap_fds[2] = {20, 21};
	struct cmdline_inputs in = {
		.ram_fds = ram_fds,
		.tap_fds = tap_fds,
		.qmp_path = "/run/mcd/vm1/qmp.sock",
		.qmp_oob_path = "/run/mcd/vm1/a,b.sock",
		.name = "vm1",
		.incoming = incoming,
	};
	char **argv;
	if (cmdline_build(&vm, &plan, &in, &argv, &err) < 0)
		fail_msg("%s", err.msg);
	size_t n = 0;
	for (char **w = argv; *w; w++)
		n += (size_t)snprintf(out + n, sizeof out - n, "%s%s", n ? " " : "", *w);
	cmdline_argv_free(argv);
	cmdline_plan_clear(&plan);
	return out;
}

#define TAIL                                                                                       \
	" -global migration.send-configuration=off -machine suppress-vmdesc=on -no-shutdown"       \
	" -qmp unix:/run/mcd/vm1/qmp.sock,server=on,wait=off"                                      \
	" -qmp unix:/run/mcd/vm1/a,,b.sock,server=on,wait=off"
#define OWN(size, fd)                                                                              \
	" -object memory-backend-file,id=mcd-ram,size=" size ",mem-path=/proc/self/fd/" fd         \
	",share=on -machine memory-backend=mcd-ram"

static void the_command_is_completed_with_ours(void **state)
{
	static const struct {
		const char *user;
		size_t nics;
		bool incoming;
		const char *result;
	} rows[] = {
		{"qemu -m 256M", 0, false,
			"qemu -m 256M -name guest=vm1" OWN("268435456", "10") " -nic none" TAIL},
		{"qemu -m 256 -nodefaults", 0, true,
			"qemu -m 256 -nodefaults -name guest=vm1" OWN("268435456", "10") TAIL
			" -incoming defer"},
		{"qemu -m size=1.5G -nic none -name x", 0, false,
			"qemu -m size=1.5G -nic none -name x" OWN("1610612736", "10") TAIL},
		{"qemu --m 1G -net none", 0, false,
			"qemu --m 1G -net none -name guest=vm1" OWN("1073741824", "10") TAIL},
		{"qemu -m 64M -mem-prealloc -name x", 1, false,
			"qemu -m 64M -name x" OWN("67108864",
				"10") " -netdev tap,id=net0,fd=20,vhost=off"
				      " -device virtio-net-pci,netdev=net0,mac=52:54:00:01:02:03" TAIL},
		{"qemu -m 64M -name x -netdev user,id=net0 -device e1000,netdev=net0 "
		 "-netdev '{\"type\":\"tap\",\"id\":\"net1\",\"vhost\":true}' -device "
		 "'{\"driver\":\"e1000\",\"netdev\":\"net1\"}'",
			2, false,
			"qemu -m 64M -name x -device e1000,netdev=net0,mac=52:54:00:01:02:03 -device "
			"{\"driver\":\"e1000\",\"netdev\":\"net1\",\"mac\":\"52:54:00:01:02:04\"}" OWN(
				"67108864",
				"10") " -netdev tap,id=net0,fd=20,vhost=off -netdev tap,id=net1,fd=21,vhost=on" TAIL},
		{"qemu -m 64M -name x -device e1000,netdev=net0,mac=52:54:00:09:09:09", 1, false,
			"qemu -m 64M -name x -device e1000,netdev=net0,mac=52:54:00:09:09:09" OWN(
				"67108864", "10") " -netdev tap,id=net0,fd=20,vhost=off" TAIL},
		{"qemu -m 64M -nodefaults -name x -append \"a 'b'  -S\" -device virtio-rng-pci", 0,
			false,
			"qemu -m 64M -nodefaults -name x -append a 'b'  -S -device virtio-rng-pci" OWN(
				"67108864", "10") TAIL},
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_string_equal(
			built(rows[i].user, rows[i].nics, rows[i].incoming), rows[i].result);
}

static void the_users_memory_backends_become_ours_with_id_size_and_policy(void **state)
{
	static const struct {
		const char *user, *result;
	} rows[] = {
		{"qemu -nodefaults -name x -m 64M -object memory-backend-memfd,id=ram0,size=64M,seal=off,share=off,host-nodes=0-1,policy=bind "
		 "-machine q35,memory-backend=ram0",
			"qemu -nodefaults -name x -m 64M -machine q35,memory-backend=ram0 -object "
			"memory-backend-file,id=ram0,size=67108864,mem-path=/proc/self/fd/10,share=on,host-nodes=0-1,policy=bind" TAIL},
		{"qemu -nodefaults -name x -M q35,memory-backend=r -object "
		 "'{\"qom-type\":\"memory-backend-file\",\"id\":\"r\",\"size\":67108864,\"mem-path\":\"/dev/shm/x\",\"prealloc\":true,\"hugetlb\":false,\"merge\":false,\"host-nodes\":[0,1]}'",
			"qemu -nodefaults -name x -M q35,memory-backend=r -object "
			"memory-backend-file,id=r,size=67108864,mem-path=/proc/self/fd/10,share=on,merge=off,host-nodes=0,host-nodes=1" TAIL},
		{"qemu -nodefaults -name x -m 3M -object memory-backend-ram,size=1M,id=a -object memory-backend-ram,size=2M,id=b "
		 "-numa node,memdev=b -numa node,memdev=a",
			"qemu -nodefaults -name x -m 3M -numa node,memdev=b -numa node,memdev=a -object "
			"memory-backend-file,id=a,size=1048576,mem-path=/proc/self/fd/10,share=on -object "
			"memory-backend-file,id=b,size=2097152,mem-path=/proc/self/fd/11,share=on" TAIL},
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		assert_string_equal(built(rows[i].user, 0, false), rows[i].result);
}

static void what_could_not_be_protected_is_refused_by_name_and_with_advice(void **state)
{
	static const struct {
		const char *user, *say;
	} rows[] = {
		{"", "must begin with the QEMU program"},
		{"-m 64M", "must begin with the QEMU program"},
		{"A=b qemu -m 64M", "cannot set variables"},
		{"qemu", "-m: it is missing"},
		{"qemu -m", "-m: nothing follows"},
		{"qemu -m 0", "-m 0: no guest can have that much"},
		{"qemu -m 1Q", "\"1Q\" is not a memory size"},
		{"qemu -m 0x40", "\"0x40\" is not a memory size"},
		{"qemu -m 99999999999999999999", "is not a memory size"},
		{"qemu -m 64M,slots=2,maxmem=1G", "take slots and maxmem out"},
		{"qemu -m 64M disk.img", "\"disk.img\" belongs to no option"},
		{"qemu -m 64M -", "a dash without an option"},
		{"qemu -m 64M -nic user", "-nic user: mcd makes the network side itself"},
		{"qemu -m 64M -net nic", "-net nic: mcd makes the network side itself"},
		{"qemu -m 64M -netdev user,id=other", "add a section [nic other]"},
		{"qemu -m 64M -netdev '{\"type\":\"user\",\"id\":\"other\"}'",
			"add a section [nic other]"},
		{"qemu -m 64M -netdev user", "there is no id in it"},
		{"qemu -m 64M -device e1000,netdev=other", "netdev=other is in no section"},
		{"qemu -m 64M -device e1000,netdev=net0 -device e1000,netdev=net0",
			"already another device's"},
		{"qemu -m 64M -incoming defer", "-incoming defer: mcd itself starts the standby"},
		{"qemu -m 64M -daemonize", "-daemonize: "},
		{"qemu -m 64M -S", "-S: mcd starts the vCPUs"},
		{"qemu -m 64M --S", "-S: mcd starts the vCPUs"},
		{"qemu -m 64M -snapshot", "-snapshot: "},
		{"qemu -m 64M -loadvm x", "-loadvm x: "},
		{"qemu -m 64M -mem-path /dev/hugepages", "-mem-path /dev/hugepages: "},
		{"qemu -m 64M -readconfig x", "-readconfig x: "},
		{"qemu -m 64M -virtfs local", "-virtfs local: a shared folder"},
		{"qemu -m 64M -set netdev.net0.script=x", "only devices can be changed so"},
		{"qemu -m 64M -device vfio-pci,host=01:00.0", "the state of a host device"},
		{"qemu -m 64M -device '{\"driver\":\"vhost-vsock-pci\"}'",
			"in another process or in the kernel"},
		{"qemu -m 64M -device pc-dimm,memdev=x", "memory modules are not in this release"},
		{"qemu -m 64M -device '{\"driver\":'", "is not valid JSON"},
		{"qemu -m 64M -device ,x=y", NULL}, /* an empty driver is QEMU's to refuse */
		{"qemu -m 64M -device x=y", "there is no driver in it"},
		{"qemu -m 64M -object id=x", "there is no type in it"},
		{"qemu -m 64M -object filter-mirror,id=x", "would let output out"},
		{"qemu -m 64M -object sev-guest,id=x", "encrypted memory"},
		{"qemu -m 64M -machine q35,confidential-guest-support=x", "encrypted memory"},
		{"qemu -m 64M -machine memory-backend=x", "there is no such memory backend"},
		{"qemu -m 64M -object memory-backend-ram,id=a,size=64M",
			"nothing uses this memory backend"},
		{"qemu -object memory-backend-ram,id=a", "needs id= and size="},
		{"qemu -object memory-backend-ram,id=a,size=1000", "whole pages"},
		{"qemu -object memory-backend-epc,id=a,size=1M", "SGX"},
		{"qemu -object memory-backend-new,id=a,size=1M",
			"does not know this kind of memory"},
		{"qemu -object memory-backend-memfd,id=a,size=1M,hugetlb=on",
			"hugetlb=on is not possible"},
		{"qemu -object '{\"qom-type\":\"memory-backend-memfd\",\"id\":\"a\",\"size\":4096,\"hugetlb\":true}'",
			"hugetlb=on is not possible"},
		{"qemu -object memory-backend-file,id=a,size=1M,mem-path=/dev/hugepages/x",
			"hugetlbfs"},
		{"qemu -object memory-backend-file,id=a,size=1M,pmem=on",
			"pmem=on is not possible"},
		{"qemu -object memory-backend-file,id=a,size=1M,offset=4096",
			"does not know \"offset\""},
		{"qemu -object memory-backend-ram,id=a,size=1M -object memory-backend-ram,id=a,size=1M",
			"already another backend's"},
		{"qemu -m 2M -object memory-backend-ram,id=a,size=1M -machine memory-backend=a",
			"make them equal"},
		{"qemu -m 2M -numa node,mem=1M", "write memdev=ID"},
		{"qemu -m 2M -numa node,memdev=a", "there is no such memory backend"},
		{"qemu -m 2M 'x", "single quote"},
		{"qemu -m 2M | tee log", "only a shell would understand"},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config_vm vm = vm_of(rows[i].user, 1);
		struct cmdline_plan plan;
		memset(&plan, 0x55, sizeof plan);
		err = MC_ERROR_INIT;
		int r = cmdline_plan(&vm, &plan, &err);
		if (!rows[i].say) {
			assert_int_equal(r, 0);
			cmdline_plan_clear(&plan);
			continue;
		}
		if (r >= 0)
			fail_msg("accepted: %s", rows[i].user);
		if (!strstr(err.msg, rows[i].say))
			fail_msg("\"%s\" gives \"%s\"", rows[i].user, err.msg);
		assert_non_null(
			strstr(err.msg, "/etc/mcd/vms.d/vm1.conf: the command of VM vm1: "));
		assert_true(
			!strcmp(err.cls, MC_ECLASS_GUEST) || !strcmp(err.cls, MC_ECLASS_CONFIG));
		for (size_t b = 0; b < sizeof plan; b++)
			assert_int_equal(((unsigned char *)&plan)[b], 0x55);
	}
}

static void writable_disks_are_reported_and_read_only_ones_are_not(void **state)
{
	static const struct {
		const char *option;
		bool disk;
	} rows[] = {
		{"-drive file=a.img", true},
		{"-drive file=a.img,if=virtio,readonly=on", false},
		{"-drive file=a.img,if=virtio,read-only=on", false},
		{"-drive file=a.img,readonly=off", true},
		{"-drive file=a.img,readonly=on,snapshot=on", true},
		{"-drive file=a.iso,media=cdrom", false},
		{"-cdrom a.iso", false},
		{"-hda a.img", true},
		{"-pflash vars.fd", true},
		{"-blockdev driver=file,node-name=n,filename=a", true},
		{"-blockdev driver=file,node-name=n,filename=a,read-only=on", false},
		{"-blockdev '{\"driver\":\"file\",\"node-name\":\"n\",\"filename\":\"a\",\"read-only\":true}'",
			false},
		{"-blockdev '{\"driver\":\"file\",\"node-name\":\"n\",\"filename\":\"a\"}'", true},
		{"-kernel vmlinuz", false},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[200];
		snprintf(text, sizeof text, "qemu -m 64M %s", rows[i].option);
		struct cmdline_plan plan = plan_of(text, 0);
		if (plan.foreign_disks != rows[i].disk)
			fail_msg("%s", rows[i].option);
		if (rows[i].disk)
			assert_true(strncmp(plan.disk_option, rows[i].option, 6) == 0);
		cmdline_plan_clear(&plan);
	}
}

static void user_accelerator_and_cpu_are_seen(void **state)
{
	static const struct {
		const char *option, *runas, *host_cpu;
		bool kvm;
	} rows[] = {
		{"-smp 2", "", "", false},
		{"-runas qemu", "qemu", "", false},
		{"-runas 107:36", "107:36", "", false},
		{"-run-with async-teardown=on,user=qemu", "qemu", "", false},
		{"-run-with async-teardown=on", "", "", false},
		{"-accel kvm,kernel-irqchip=split -cpu host,migratable=on", "", "host", true},
		{"-enable-kvm -cpu max", "", "max", true},
		{"-machine q35,accel=kvm:tcg -cpu EPYC", "", "", true},
		{"-accel tcg,thread=single -cpu hostile", "", "", false},
		{"-M accel=tcg:kvm", "", "", true},
		{"-accel tcg -accel kvm", "", "", true},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[200];
		snprintf(text, sizeof text, "qemu -m 64M %s", rows[i].option);
		struct cmdline_plan plan = plan_of(text, 0);
		if (plan.kvm != rows[i].kvm || strcmp(plan.runas, rows[i].runas) ||
			strcmp(plan.host_cpu, rows[i].host_cpu))
			fail_msg("%s: %d \"%s\" \"%s\"", rows[i].option, plan.kvm, plan.runas,
				plan.host_cpu);
		cmdline_plan_clear(&plan);
	}
}

static void the_guest_agents_socket_is_found(void **state)
{
#define PORT " -device virtserialport,name=org.qemu.guest_agent.0,chardev=ga"
	static const struct {
		const char *options, *path;
		bool port;
	} rows[] = {
		{"-chardev socket,id=ga,path=/run/ga,server=on,wait=off" PORT, "/run/ga", true},
		{PORT " --chardev path=/a,,b,id=ga,server=yes,backend=socket", "/a,b", true},
		{"-chardev '{\"backend\":\"socket\",\"id\":\"ga\",\"path\":\"/run/ga\",\"server\":true}' -device "
		 "'{\"driver\":\"virtserialport\",\"name\":\"org.qemu.guest_agent.0\",\"chardev\":\"ga\"}'",
			"/run/ga", true},
		{"-chardev socket,id=ga,path=ga,server=on" PORT, "", true},
		{"-chardev socket,id=ga,path=/run/ga" PORT, "", true},
		{"-chardev socket,id=ga,path=/run/ga,server=on,abstract=on" PORT, "", true},
		{"-chardev socket,id=other,path=/run/ga,server=on" PORT, "", true},
		{"-chardev pty,id=ga" PORT, "", true},
		{"-chardev socket,id=ga,path=/run/ga,server=on -device virtserialport,name=x,chardev=ga",
			"", false},
		{"-nographic", "", false},
	};
	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[400];
		snprintf(text, sizeof text, "qemu -m 64M %s", rows[i].options);
		struct cmdline_plan plan = plan_of(text, 0);
		if (plan.agent_port != rows[i].port || strcmp(plan.agent, rows[i].path))
			fail_msg("%s: %d \"%s\"", rows[i].options, plan.agent_port, plan.agent);
		cmdline_plan_clear(&plan);
	}
}

static bool same_digest(const char *a, const char *b)
{
	struct cmdline_plan pa = plan_of(a, 1), pb = plan_of(b, 1);
	bool same = strcmp(pa.digest, pb.digest) == 0;
	assert_int_equal(strlen(pa.digest), 16);
	cmdline_plan_clear(&pa);
	cmdline_plan_clear(&pb);
	return same;
}

static void the_digest_ignores_the_hosts_own_side(void **state)
{
	static const char *const rows[] = {
		"/opt/bin/qemu -m 64M",
		"qemu -m 65536K",
		"qemu -m 64M -name other -vnc :1 -D /tmp/log -pidfile /x -monitor stdio",
		"qemu -m 64M -netdev bridge,id=net0,br=br7",
		"qemu -m 64M -mem-prealloc -display none -nographic",
		"qemu -m 64M -runas qemu -run-with user=qemu",
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		if (!same_digest("qemu -m 64M", rows[i]))
			fail_msg("%s", rows[i]);
	assert_true(same_digest("qemu -m 64M -serial stdio", "qemu -m 64M -serial file:/x"));
	assert_true(
		same_digest("qemu -m 64M -chardev stdio,id=c", "qemu -m 64M -chardev null,id=c"));
}

static void the_digest_tells_machines_apart(void **state)
{
	static const char *const rows[] = {
		"kvm -m 64M",
		"qemu -m 65M",
		"qemu -m 64M -smp 2",
		"qemu -m 64M -device virtio-rng-pci",
		"qemu -m 64M -nodefaults",
		"qemu -m 64M -serial none",
		"qemu -m 64M -object memory-backend-ram,id=r,size=64M -machine memory-backend=r",
		"qemu -m 64M -device e1000,netdev=net0",
		"qemu -m 64M -append 'a b'",
		"qemu -m 64M -unheard-of x",
	};
	for (size_t i = 0; i < COUNT(rows); i++)
		if (same_digest("qemu -m 64M", rows[i]))
			fail_msg("%s", rows[i]);
	assert_false(same_digest("qemu -m 64M -serial none", "qemu -m 64M -serial stdio"));

	struct config_vm vm = vm_of("qemu -m 64M", 1);
	struct cmdline_plan a = plan_of("qemu -m 64M", 1), b;
	vm.nics[0].mac[5]++;
	assert_int_equal(cmdline_plan(&vm, &b, &err), 0);
	assert_string_not_equal(a.digest, b.digest);
	cmdline_plan_clear(&a);
	cmdline_plan_clear(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_is_completed_with_ours),
		cmocka_unit_test(the_users_memory_backends_become_ours_with_id_size_and_policy),
		cmocka_unit_test(what_could_not_be_protected_is_refused_by_name_and_with_advice),
		cmocka_unit_test(writable_disks_are_reported_and_read_only_ones_are_not),
		cmocka_unit_test(user_accelerator_and_cpu_are_seen),
		cmocka_unit_test(the_guest_agents_socket_is_found),
		cmocka_unit_test(the_digest_ignores_the_hosts_own_side),
		cmocka_unit_test(the_digest_tells_machines_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
