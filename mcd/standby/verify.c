/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The standby's side of `mcctl verify`. */
#include "mcd/standby/verify.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/standby/peer.h"
#include "mcd/vm/range-digest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static bool within(const struct standby *s, const struct wire_verify_range *r)
{
	if (r->kind == WIRE_VERIFY_DISK)
		return s->disks &&
		       r->index < s->vm->cfg->n_disks; /* the file says how far it goes */
	return r->index < s->hello.n_blocks && r->off + r->len <= s->sizes[r->index];
}

int verify_take(struct standby *s, const struct wire_header *h, struct mc_error *err)
{
	_cleanup_free_ uint8_t *buf = malloc(h->length + 1);
	_cleanup_free_ struct wire_verify_range *v = calloc(WIRE_VERIFY_MAX, sizeof *v);
	size_t n;
	if (!buf || !v)
		return mc_error_set(
			err, -ENOMEM, MC_ECLASS_MEMORY, "no memory to compare what is asked for");
	int r = standby_payload(s, buf, mc_now() + 5 * MC_SEC, err);
	if (r == 0)
		r = wire_get_verify(buf, h->length, v, &n, err);
	if (r == 0 && (s->verify || h->epoch != s->committed + 1))
		r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
			"a second comparison within an epoch, or one of another epoch");
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!within(s, &v[i]))
			r = mc_error_set(err, -EBADMSG, MC_ECLASS_PROTOCOL,
				"a comparison of a range that this machine does not have");
	if (r < 0)
		return r;
	s->verify = mc_steal_ptr(v);
	s->verify_n = n;
	return 0;
}

static bool differs(struct standby *s, const struct wire_verify_range *r, int *disk_fds)
{
	struct mc_error err = MC_ERROR_INIT;
	uint64_t digest;
	if (r->kind == WIRE_VERIFY_MEMORY)
		return range_digest_memory(s->vm->ram_fds[r->index], s->replica[r->index], r->off,
			       r->len, &digest, &err) < 0 ||
		       digest != r->digest;
	int *fd = &disk_fds[r->index];
	if (*fd < 0)
		*fd = open(s->vm->cfg->disks[r->index].replica, O_RDONLY | O_CLOEXEC);
	/* What cannot be read is not equal. */
	return *fd < 0 || range_digest_file(*fd, r->off, r->len, &digest, &err) < 0 ||
	       digest != r->digest;
}

int verify_compare(struct standby *s, struct mc_error *err)
{
	uint32_t differ[WIRE_VERIFY_MAX];
	uint8_t buf[4 + 4 * WIRE_VERIFY_MAX];
	int fds[CONFIG_DISKS_MAX];
	size_t n = 0;
	if (!s->verify)
		return 0;
	memset(fds, -1, sizeof fds);
	for (size_t i = 0; i < s->verify_n; i++)
		if (differs(s, &s->verify[i], fds))
			differ[n++] = (uint32_t)i;
	for (size_t i = 0; i < CONFIG_DISKS_MAX; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(mc_steal_ptr(s->verify));
	size_t len = wire_put_verified(buf, sizeof buf, differ, n);
	struct wire_header h = {
		.type = WIRE_VERIFIED,
		.generation = s->generation,
		.epoch = s->committed,
		.length = len,
		.digest = XXH3_64bits(buf, len),
	};
	int r = transport_post(s->link, &h, buf, err);
	return r < 0 ? r : transport_flush(s->link, mc_now() + s->timing.ack_overdue, err);
}
