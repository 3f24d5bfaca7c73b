/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of QEMU's options, and of the devices and objects that cannot be protected, each with
 * what to do about it; and the form in which an option is refused.
 */
#include "mcd/guest/cmdline/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REFUSED(name, arg, advice)                                                                 \
	{                                                                                          \
		name, arg, OPTION_REFUSED, advice                                                  \
	}

static const struct option_rule rules[] = {
	/* The machine. */
	{"machine", true, OPTION_MACHINE, NULL},
	{"M", true, OPTION_MACHINE, NULL},
	{"m", true, OPTION_MEMORY, NULL},
	{"mem-prealloc", false, OPTION_DROP, NULL},
	{"numa", true, OPTION_NUMA, NULL},
	{"object", true, OPTION_OBJECT, NULL},
	{"device", true, OPTION_DEVICE, NULL},
	{"nodefaults", false, OPTION_NODEFAULTS, NULL},
	{"set", true, OPTION_SET, NULL},
	{"cpu", true, OPTION_CPU, NULL},
	{"accel", true, OPTION_ACCEL, NULL},
	{"smp", true, OPTION_PLAIN, NULL},
	{"global", true, OPTION_PLAIN, NULL},
	{"boot", true, OPTION_PLAIN, NULL},
	{"audio", true, OPTION_PLAIN, NULL},
	{"soundhw", true, OPTION_PLAIN, NULL},
	{"uuid", true, OPTION_PLAIN, NULL},
	{"cdrom", true, OPTION_PLAIN, NULL},
	{"iscsi", true, OPTION_PLAIN, NULL},
	{"usb", false, OPTION_PLAIN, NULL},
	{"usbdevice", true, OPTION_PLAIN, NULL},
	{"vga", true, OPTION_PLAIN, NULL},
	{"win2k-hack", false, OPTION_PLAIN, NULL},
	{"no-fd-bootchk", false, OPTION_PLAIN, NULL},
	{"no-acpi", false, OPTION_PLAIN, NULL},
	{"no-hpet", false, OPTION_PLAIN, NULL},
	{"acpitable", true, OPTION_PLAIN, NULL},
	{"smbios", true, OPTION_PLAIN, NULL},
	{"tpmdev", true, OPTION_PLAIN, NULL},
	{"bios", true, OPTION_PLAIN, NULL},
	{"kernel", true, OPTION_PLAIN, NULL},
	{"append", true, OPTION_PLAIN, NULL},
	{"initrd", true, OPTION_PLAIN, NULL},
	{"shim", true, OPTION_PLAIN, NULL},
	{"dtb", true, OPTION_PLAIN, NULL},
	{"compat", true, OPTION_PLAIN, NULL},
	{"fw_cfg", true, OPTION_PLAIN, NULL},
	{"option-rom", true, OPTION_PLAIN, NULL},
	{"rtc", true, OPTION_PLAIN, NULL},
	{"icount", true, OPTION_PLAIN, NULL},
	{"watchdog", true, OPTION_PLAIN, NULL},
	{"watchdog-action", true, OPTION_PLAIN, NULL},
	{"action", true, OPTION_PLAIN, NULL},
	{"no-reboot", false, OPTION_PLAIN, NULL},
	{"no-shutdown", false, OPTION_PLAIN, NULL},
	{"enable-kvm", false, OPTION_ACCEL, NULL},
	{"singlestep", false, OPTION_PLAIN, NULL},
	{"seed", true, OPTION_PLAIN, NULL},
	{"no-user-config", false, OPTION_PLAIN, NULL},

	/* Disks. */
	{"drive", true, OPTION_DRIVE, NULL},
	{"blockdev", true, OPTION_BLOCKDEV, NULL},
	{"hda", true, OPTION_DISK, NULL},
	{"hdb", true, OPTION_DISK, NULL},
	{"hdc", true, OPTION_DISK, NULL},
	{"hdd", true, OPTION_DISK, NULL},
	{"fda", true, OPTION_DISK, NULL},
	{"fdb", true, OPTION_DISK, NULL},
	{"sd", true, OPTION_DISK, NULL},
	{"mtdblock", true, OPTION_DISK, NULL},
	{"pflash", true, OPTION_DISK, NULL},

	/* Network. */
	{"netdev", true, OPTION_NETDEV, NULL},
	{"nic", true, OPTION_NIC, NULL},
	{"net", true, OPTION_NIC, NULL},

	/* The host's side. */
	{"name", true, OPTION_NAME, NULL},
	{"serial", true, OPTION_SERIAL, NULL},
	{"parallel", true, OPTION_SERIAL, NULL},
	{"debugcon", true, OPTION_SERIAL, NULL},
	{"chardev", true, OPTION_CHARDEV, NULL},
	{"add-fd", true, OPTION_HOST, NULL},
	{"audiodev", true, OPTION_HOST, NULL},
	{"display", true, OPTION_HOST, NULL},
	{"nographic", false, OPTION_HOST, NULL},
	{"curses", false, OPTION_HOST, NULL},
	{"sdl", false, OPTION_HOST, NULL},
	{"spice", true, OPTION_HOST, NULL},
	{"portrait", false, OPTION_HOST, NULL},
	{"rotate", true, OPTION_HOST, NULL},
	{"full-screen", false, OPTION_HOST, NULL},
	{"vnc", true, OPTION_HOST, NULL},
	{"k", true, OPTION_HOST, NULL},
	{"monitor", true, OPTION_HOST, NULL},
	{"qmp", true, OPTION_HOST, NULL},
	{"qmp-pretty", true, OPTION_HOST, NULL},
	{"mon", true, OPTION_HOST, NULL},
	{"pidfile", true, OPTION_HOST, NULL},
	{"overcommit", true, OPTION_HOST, NULL},
	{"gdb", true, OPTION_HOST, NULL},
	{"s", false, OPTION_HOST, NULL},
	{"d", true, OPTION_HOST, NULL},
	{"D", true, OPTION_HOST, NULL},
	{"dfilter", true, OPTION_HOST, NULL},
	{"L", true, OPTION_HOST, NULL},
	{"echr", true, OPTION_HOST, NULL},
	{"only-migratable", false, OPTION_HOST, NULL},
	{"runas", true, OPTION_RUNAS, NULL},
	{"sandbox", true, OPTION_HOST, NULL},
	{"trace", true, OPTION_HOST, NULL},
	{"plugin", true, OPTION_HOST, NULL},
	{"async-teardown", false, OPTION_HOST, NULL},
	{"run-with", true, OPTION_RUNAS, NULL},
	{"msg", true, OPTION_HOST, NULL},
	{"enable-sync-profile", false, OPTION_HOST, NULL},

	/* What mcd does itself, or could not carry over. */
	REFUSED("incoming", true, "mcd itself starts the standby; take the option out"),
	REFUSED("daemonize", false,
		"mcd keeps the VM running in the background; take the option out"),
	REFUSED("S", false, "mcd starts the vCPUs; take the option out"),
	REFUSED("preconfig", false, "mcd does not go through that phase; take the option out"),
	REFUSED("loadvm", true, "the state comes from a checkpoint; take the option out"),
	REFUSED("snapshot", false,
		"writes to temporary files would be lost in a takeover; take "
		"the option out, and make the disks read-only (readonly=on)"),
	REFUSED("mem-path", true,
		"the guest's RAM is on memory that mcd shares with QEMU; take the option out"),
	REFUSED("readconfig", true,
		"mcd has to see the whole machine; write its options into the command"),
	REFUSED("writeconfig", true, "QEMU would end after it; take the option out"),
	REFUSED("chroot", true, "QEMU reaches its memory and sockets by path; take the option out"),
	REFUSED("fsdev", true, "a shared folder cannot be checkpointed; use a network one instead"),
	REFUSED("virtfs", true,
		"a shared folder cannot be checkpointed; use a network one instead"),
	REFUSED("xen-domid", true, "mcd works with KVM or TCG; take the option out"),
	REFUSED("xen-attach", false, "mcd works with KVM or TCG; take the option out"),
	REFUSED("xen-domid-restrict", false, "mcd works with KVM or TCG; take the option out"),
	REFUSED("dump-vmstate", true, "QEMU would end after it; take the option out"),
	REFUSED("h", false, "QEMU would end after it; take the option out"),
	REFUSED("help", false, "QEMU would end after it; take the option out"),
	REFUSED("version", false, "QEMU would end after it; take the option out"),
	REFUSED("audio-help", false, "QEMU would end after it; take the option out"),
};

const struct option_rule *option_find(const char *name)
{
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (strcmp(rules[i].name, name) == 0)
			return &rules[i];
	return NULL;
}

struct advice {
	const char *prefix, *text;
};

static const char *advice_for(const struct advice *list, const char *word)
{
	for (; list->prefix; list++)
		if (strncmp(word, list->prefix, strlen(list->prefix)) == 0)
			return list->text;
	return NULL;
}

const char *option_device_advice(const char *driver)
{
	static const struct advice list[] = {
		{"vfio-", "the state of a host device cannot be carried over; use a virtio device"},
		{"usb-host", "the state of a host device cannot be carried over; take it out"},
		{"usb-redir",
			"the state of a redirected device cannot be carried over; take it out"},
		{"usb-mtp", "a shared folder cannot be checkpointed; take it out"},
		{"vhost-", "a part of it runs in another process or in the kernel, where the "
			   "checkpoint cannot see it; use the virtio device that QEMU emulates"},
		{"ivshmem", "its memory is shared with others; take it out"},
		{"pc-dimm", "memory modules are not in this release; give all memory with -m"},
		{"nvdimm", "memory modules are not in this release; give all memory with -m"},
		{"virtio-mem", "memory devices are not in this release; give all memory with -m"},
		{"virtio-pmem", "memory devices are not in this release; give all memory with -m"},
		{"cxl-", "memory devices are not in this release; give all memory with -m"},
		{"virtio-9p", "a shared folder cannot be checkpointed; use a network one instead"},
		{NULL, NULL},
	};
	return advice_for(list, driver);
}

const char *option_object_advice(const char *type)
{
	static const struct advice list[] = {
		{"memory-backend-epc", "SGX memory cannot be read from outside; take it out"},
		{"sev-", "encrypted memory cannot be read from outside; take it out"},
		{"tdx-", "encrypted memory cannot be read from outside; take it out"},
		{"cryptodev-vhost-user", "another process writes the guest's memory for it; use "
					 "cryptodev-backend-builtin"},
		{"filter-mirror",
			"it would let output out before its checkpoint is safe; take it out"},
		{"filter-redirector",
			"it would let output out before its checkpoint is safe; take it out"},
		{"filter-rewriter", "it belongs to COLO, and mcd replaces that; take it out"},
		{"filter-replay", "mcd does not work with record/replay; take it out"},
		{"colo-compare", "it belongs to COLO, and mcd replaces that; take it out"},
		{"x-remote-object",
			"a device in another process cannot be checkpointed; take it out"},
		{"x-vfio-user-server",
			"a device in another process cannot be checkpointed; take it out"},
		{NULL, NULL},
	};
	return advice_for(list, type);
}

int cmdline_refuse(struct mc_error *err, const char *option, const char *arg, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return mc_error_set(err, -EINVAL, MC_ECLASS_GUEST, "-%s%s%.120s%s: %s", option,
		*arg ? " " : "", arg, strlen(arg) > 120 ? "..." : "", text);
}
