/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What frames look like on the other side: through a real bridge to a veth pair. */
#include "testnet.h"

#include "common/cleanup.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

static uint8_t buf[TN_FRAME_MAX];
static struct tn_frame got;

static struct tn *open_passing(void)
{
	struct tn *t = tn_open(1, "br0", 16 * MIB, "v1");
	OK(netbuf_pass(t->nb, &err_));
	return t;
}

static struct tn *open_holding(void)
{
	struct tn *t = tn_open(1, "br0", 16 * MIB, "v1");
	OK(netbuf_hold(t->nb, 1, &err_));
	return t;
}

static void let_out(struct tn *t)
{
	OK(netbuf_barrier(t->nb, 1, &err_));
	assert_false(tn_read(t, &got, 0));
	OK(netbuf_release(t->nb, 1, &err_));
}

static void check_tso_out(struct tn *t, bool vlan, size_t vnet_len)
{
	struct virtio_net_hdr h;
	size_t len = tn_build_tso(buf, 30000, 1448, vlan, &h);
	tn_guest_raw(netbuf_guest_fd(t->nb, 0), &h, vnet_len, buf, len);
	let_out(t);
	assert_true(tn_read(t, &got, 1000));
	assert_int_equal(got.tagged, vlan);
	assert_int_equal(got.len, len);
	assert_memory_equal(got.data, buf, len);
	assert_int_equal(got.vnet.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	assert_int_equal(got.vnet.gso_size, 1448);
	/* The watch takes the tag off and counts without it. */
	assert_int_equal(got.vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(got.vnet.csum_start, 34);
	assert_int_equal(got.vnet.csum_offset, 16);
	assert_int_equal(tn_stats(t).lost_frames, 0);
}

static void test_large_segments_stay_whole(void **state)
{
	struct tn *t = open_holding();
	check_tso_out(t, false, 10);
	tn_close(t);
}

static void test_large_segments_keep_their_vlan(void **state)
{
	struct tn *t = open_holding();
	check_tso_out(t, true, 10);
	assert_int_equal(got.tci, 0x2064);
	tn_close(t);
}

static void test_large_segments_in_a_vlan_pass_when_open(void **state)
{
	struct tn *t = open_passing();
	struct virtio_net_hdr h;
	size_t len = tn_build_tso(buf, 60000, 1400, true, &h);
	tn_guest_raw(netbuf_guest_fd(t->nb, 0), &h, 10, buf, len);
	assert_true(tn_read(t, &got, 1000));
	assert_int_equal(got.len, len);
	assert_memory_equal(got.data, buf, len);
	assert_int_equal(got.vnet.csum_start, 34);
	tn_close(t);
}

/* A modern virtio-net makes QEMU use 12 bytes in front of its frames; that is its business. */
static void test_qemus_vnet_header_length_does_not_matter(void **state)
{
	struct tn *t = open_holding();
	int len = 12;
	assert_return_code(ioctl(netbuf_guest_fd(t->nb, 0), TUNSETVNETHDRSZ, &len), 0);
	check_tso_out(t, false, 12);
	tn_close(t);
}

/* Whoever cannot take large segments gets them cut and with checksums by the kernel. */
static void test_large_segments_are_cut_for_a_plain_link(void **state)
{
	struct tn *t = open_passing();
	tn_run("ip link set v0 gso_max_size 2000");
	struct virtio_net_hdr h;
	size_t len = tn_build_tso(buf, 1448 * 5, 1448, false, &h), payload = 0;
	tn_guest_raw(netbuf_guest_fd(t->nb, 0), &h, 10, buf, len);
	while (payload < 1448 * 5 && tn_read(t, &got, 1000)) {
		assert_int_equal(got.len, 54 + 1448);
		assert_int_equal(got.vnet.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		payload += got.len - 54;
	}
	assert_int_equal(payload, 1448 * 5);
	tn_run("ip link set v0 gso_max_size 65536");
	tn_close(t);
}

static void test_vlan_tags_stay(void **state)
{
	static const struct {
		uint16_t outer, inner;
	} tags[] = {{0x8100, 0x0800}, {0x88a8, 0x8100}, {0x8100, 0x8100}, {0x8100, 0x0806}};
	struct tn *t = open_holding();
	for (size_t i = 0; i < 4; i++) {
		tn_build(buf, 300 + i, tn_peer, tags[i].outer, 0);
		memcpy(buf + 14, "\xe0\x64", 2); /* priority 7, VLAN 100 */
		buf[16] = (uint8_t)(tags[i].inner >> 8);
		buf[17] = (uint8_t)tags[i].inner;
		memset(buf + 18, (int)i, 300 + i - 18);
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, buf, 300 + i);
	}
	let_out(t);
	for (size_t i = 0; i < 4; i++) {
		assert_true(tn_read(t, &got, 1000));
		assert_true(got.tagged);
		assert_int_equal(got.tci, 0xe064);
		assert_int_equal(got.data[12] << 8 | got.data[13], tags[i].outer);
		assert_int_equal(got.data[16] << 8 | got.data[17], tags[i].inner);
		assert_int_equal(got.len, 300 + i);
		assert_int_equal(got.data[299 + i], i);
	}
	tn_close(t);
}

static void test_every_length_passes_unchanged(void **state)
{
	struct tn *t = open_passing();
	for (size_t len = 18; len <= 1514; len += 17) {
		tn_build(buf, len, tn_peer, TN_LOCAL, (uint32_t)len);
		for (size_t i = 18; i < len; i++)
			buf[i] = (uint8_t)(i * 7);
		tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, buf, len);
		if (!tn_read(t, &got, 1000))
			fail_msg("a frame of %zu bytes is lost", len);
		assert_int_equal(got.len, len);
		assert_memory_equal(got.data, buf, len);
	}
	tn_close(t);
}

static void guest_offload(struct tn *t, unsigned flags)
{
	assert_return_code(ioctl(netbuf_guest_fd(t->nb, 0), TUNSETOFFLOAD, flags), 0);
}

static bool guest_read(struct tn *t)
{
	return tn_guest_read(netbuf_guest_fd(t->nb, 0), &got, 1000);
}

static void test_large_input_stays_whole_for_a_guest_that_takes_it(void **state)
{
	struct tn *t = open_passing();
	struct virtio_net_hdr h;
	guest_offload(t, TUN_F_CSUM | TUN_F_TSO4);
	for (int vlan = 0; vlan < 2; vlan++) {
		size_t len = tn_build_tso(buf, 60000, 1448, vlan, &h);
		memcpy(buf, tn_mac, 6);
		memcpy(buf + 6, tn_peer, 6);
		tn_inject("v1", &h, buf, len);
		assert_true(guest_read(t));
		assert_int_equal(got.len, len);
		assert_memory_equal(got.data, buf, len);
		assert_int_equal(got.vnet.gso_size, 1448);
		assert_int_equal(got.vnet.csum_start, h.csum_start);
	}
	tn_close(t);
}

static void test_large_input_is_cut_for_a_guest_that_cannot_take_it(void **state)
{
	struct tn *t = open_passing();
	struct virtio_net_hdr h;
	guest_offload(t, 0);
	size_t len = tn_build_tso(buf, 1448 * 10, 1448, false, &h);
	memcpy(buf, tn_mac, 6);
	memcpy(buf + 6, tn_peer, 6);
	tn_inject("v1", &h, buf, len);
	for (int i = 0; i < 10; i++) {
		assert_true(guest_read(t));
		assert_int_equal(got.len, 54 + 1448);
		assert_int_equal(got.vnet.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		/* The checksum is whole: the sum over pseudo header and segment comes out as
		 * 0xffff. */
		uint32_t sum = 6 + 20 + 1448;
		for (size_t k = 26; k < got.len; k += 2)
			sum += (uint32_t)(got.data[k] << 8 | got.data[k + 1]);
		while (sum >> 16)
			sum = (sum & 0xffff) + (sum >> 16);
		assert_false(got.vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(sum, 0xffff);
	}
	tn_close(t);
}

static void test_input_with_a_vlan_tag_keeps_it(void **state)
{
	struct tn *t = open_passing();
	tn_build(buf, 200, tn_mac, 0x8100, 0);
	memcpy(buf + 6, tn_peer, 6);
	memcpy(buf + 14, "\x60\x05\x08\x00", 4);
	tn_inject("v1", NULL, buf, 200);
	assert_true(guest_read(t));
	assert_int_equal(got.len, 200);
	assert_memory_equal(got.data, buf, 200);
	tn_close(t);
}

static unsigned attr(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "r");
	unsigned v = 0;
	return f && fscanf(f, "%u", &v) == 1 ? v : 0;
}

static void test_jumbo_bridges_stay_jumbo(void **state)
{
	/* A sysfs of this namespace is not mounted: ask ip. */
	tn_run("ip link set v0 mtu 9000 && ip link set v1 mtu 9000");
	tn_run("ip -o link show br0 | grep -q 'mtu 9000'");
	struct tn *t = open_passing();
	tn_run("ip -o link show br0 | grep -q 'mtu 9000'");
	tn_build(buf, 9014, tn_peer, TN_LOCAL, 5);
	tn_guest_raw(netbuf_guest_fd(t->nb, 0), NULL, 10, buf, 9014);
	assert_true(tn_read(t, &got, 1000));
	assert_int_equal(got.len, 9014);
	memcpy(buf, tn_mac, 6);
	memcpy(buf + 6, tn_peer, 6);
	tn_inject("v1", NULL, buf, 9014);
	assert_true(guest_read(t));
	assert_int_equal(got.len, 9014);
	tn_close(t);
	tn_run("ip link set v0 mtu 1500 && ip link set v1 mtu 1500");
}

static void test_the_bridge_keeps_its_address_and_the_host_stays_silent(void **state)
{
	/* Without snooping, for which the bridge itself would speak to its ports. */
	tn_run("ip link add br1 type bridge mcast_snooping 0 && ip link set br1 up");
	tn_run("ip link add d0 address fa:00:00:00:00:99 type veth peer name d1 && ip link set d0 "
	       "master br1");
	/* As on a host that has IPv6 on. */
	tn_run("echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	struct tn *t = tn_open(1, "br1", MIB, "v1");
	tn_run("ip link show br1 | grep -qi fa:00:00:00:00:99");
	tn_run("ip -o link show master br1 | grep -qi fe:54:00:00:00:01");
	OK(netbuf_pass(t->nb, &err_));
	assert_false(tn_guest_read(netbuf_guest_fd(t->nb, 0), &got, 300));
	char path[100];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", t->ifname[0]);
	assert_int_equal(attr(path), 1);
	tn_close(t);
	tn_run("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
}

static void test_wrong_bridges_are_refused_with_the_cure(void **state)
{
	struct netbuf_nic nic = {.id = "net0", .bridge = "br9", .mac = {0x52, 0x54, 0, 0, 0, 1}};
	struct netbuf_config cfg = {
		.vm = "vm1", .backend = "relay", .nics = &nic, .n_nics = 1, .limit = MIB};
	struct netbuf *nb = NULL;
	struct mc_error err = MC_ERROR_INIT;
	assert_true(netbuf_open(&cfg, &nb, &err) < 0);
	assert_non_null(strstr(err.msg, "br9"));
	assert_string_equal(err.cls, MC_ECLASS_CONFIG);
	strcpy(nic.bridge, "v0");
	assert_true(netbuf_open(&cfg, &nb, &err) < 0);
	assert_non_null(strstr(err.msg, "not a Linux bridge"));
	assert_null(nb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_large_segments_stay_whole),
		cmocka_unit_test(test_large_segments_keep_their_vlan),
		cmocka_unit_test(test_large_segments_in_a_vlan_pass_when_open),
		cmocka_unit_test(test_qemus_vnet_header_length_does_not_matter),
		cmocka_unit_test(test_large_segments_are_cut_for_a_plain_link),
		cmocka_unit_test(test_vlan_tags_stay),
		cmocka_unit_test(test_every_length_passes_unchanged),
		cmocka_unit_test(test_large_input_stays_whole_for_a_guest_that_takes_it),
		cmocka_unit_test(test_large_input_is_cut_for_a_guest_that_cannot_take_it),
		cmocka_unit_test(test_input_with_a_vlan_tag_keeps_it),
		cmocka_unit_test(test_jumbo_bridges_stay_jumbo),
		cmocka_unit_test(test_the_bridge_keeps_its_address_and_the_host_stays_silent),
		cmocka_unit_test(test_wrong_bridges_are_refused_with_the_cure),
	};
	return cmocka_run_group_tests_name("netbuf relay: frames", tests, tn_enter_bridge, NULL);
}
