/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * What a host tells the others about its VMs: all of them each time, so that one message replaces
 * the one before and nothing has to be taken back.  Integers big-endian.
 *
 *   offset size
 *        0    4  magic "mcda"
 *        4    2  version of this layout: 1
 *        6    2  number of VMs, at most 64
 *        8    8  zero
 *       16   64  name of the host, which must be that of the node it comes from
 *       80  480  each VM:
 *                    0   64  name
 *                   64   64  peer, may be empty
 *                  128   16  role
 *                  144   24  state
 *                  168    8  generation
 *                  176  304  alarm, may be empty
 *
 * Text is printable ASCII, NUL-padded, at least one NUL; names as in vote-wire.c.  A message that
 * is anything else is dropped as a whole.
 */
/* clang-format on */
#include "common/be.h"
#include "failover/cluster-private.h"
#include "failover/vote-wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define HEADER  80
#define ENTRY   480
#define VERSION 1

_Static_assert(2 * (LINK_NAME_MAX + 1) == 128 && sizeof((struct cluster_vm *)0)->role == 16 &&
		       sizeof((struct cluster_vm *)0)->state == 24 &&
		       sizeof((struct cluster_vm *)0)->alarm == ENTRY - 176,
	"a VM's fields are as the table above says");
_Static_assert(CLUSTER_ANNOUNCE_MAX == HEADER + CLUSTER_VMS_MAX * ENTRY,
	"a buffer has room for all of them");

static const uint8_t magic[4] = {'m', 'c', 'd', 'a'};

static void put_text(uint8_t *p, size_t size, const char *text)
{
	memset(p, 0, size);
	for (size_t i = 0; i + 1 < size && text[i]; i++)
		p[i] = text[i] >= ' ' && text[i] < 0x7f ? (uint8_t)text[i] : '?';
}

static bool get_text(char *ret, size_t size, const uint8_t *p)
{
	size_t n = 0;
	while (n < size && p[n] >= ' ' && p[n] < 0x7f)
		n++;
	if (n == size)
		return false;
	for (size_t i = n; i < size; i++)
		if (p[i])
			return false;
	memcpy(ret, p, size);
	return true;
}

size_t cluster_announce_encode(
	uint8_t p[CLUSTER_ANNOUNCE_MAX], const char *host, const struct cluster_vm *vms, size_t n)
{
	assert(n <= CLUSTER_VMS_MAX);
	memset(p, 0, HEADER);
	memcpy(p, magic, sizeof magic);
	put_be16(p + 4, VERSION);
	put_be16(p + 6, (uint16_t)n);
	vote_put_name(p + 16, host);
	for (size_t i = 0; i < n; i++) {
		const struct cluster_vm *vm = &vms[i];
		uint8_t *e = p + HEADER + i * ENTRY;
		vote_put_name(e, vm->name);
		vote_put_name(e + 64, vm->peer);
		put_text(e + 128, sizeof vm->role, vm->role);
		put_text(e + 144, sizeof vm->state, vm->state);
		put_be64(e + 168, vm->generation);
		put_text(e + 176, sizeof vm->alarm, vm->alarm);
	}
	return HEADER + n * ENTRY;
}

static bool get_vm(struct cluster_vm *vm, const uint8_t *e)
{
	vm->generation = get_be64(e + 168);
	return vote_get_name(vm->name, e) && vote_name_valid(vm->name) &&
	       vote_get_name(vm->peer, e + 64) && get_text(vm->role, sizeof vm->role, e + 128) &&
	       get_text(vm->state, sizeof vm->state, e + 144) &&
	       get_text(vm->alarm, sizeof vm->alarm, e + 176);
}

int cluster_announce_decode(const void *msg, size_t len, const char *host, struct cluster_vm *ret)
{
	static const uint8_t zero[8];
	const uint8_t *p = msg;
	char from[LINK_NAME_MAX + 1];
	if (len < HEADER || memcmp(p, magic, sizeof magic) || get_be16(p + 4) != VERSION ||
		memcmp(p + 8, zero, sizeof zero))
		return -EBADMSG;
	size_t n = get_be16(p + 6);
	if (n > CLUSTER_VMS_MAX || len != HEADER + n * ENTRY || !vote_get_name(from, p + 16) ||
		strcmp(from, host))
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		if (!get_vm(&ret[i], p + HEADER + i * ENTRY))
			return -EBADMSG;
		memcpy(ret[i].host, from, sizeof from);
	}
	return (int)n;
}
