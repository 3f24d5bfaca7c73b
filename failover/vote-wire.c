/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clang-format off */
/*
 * A vote message, request or answer: always 512 bytes.  All integers big-endian.
 *
 *   offset size
 *        0    4  magic "mcdv"
 *        4    2  version of this layout: 2
 *        6    1  type: enum paxos_type, VOTE_HEARD_REQUEST, VOTE_HEARD_ANSWER
 *        7    1  refusal: enum paxos_refusal if type is PAXOS_REFUSED, else 0
 *        8    8  id: chosen by the requester, repeated in the answer
 *       16    8  group: first 8 bytes of SHA-256 over the number of the list of voters (8 bytes)
 *                and their names, sorted, each as 64 bytes
 *       24    8  number: age in ns in VOTE_HEARD_ANSWER, else 0
 *       32   64  subject: VM, or host for VOTE_HEARD_*
 *       96   16  ballot of the proposer
 *      112   16  promised
 *      128   16  accepted
 *      144  136  decided record
 *      280  136  value
 *      416    8  list: number of the sender's list of voters
 *      424   88  zero
 *
 * ballot: 8 round, 8 host (paxos_host_id; 0 = none, then round is 0 too).  2^64 - 256 + n is the
 *         n-th host, 1 to 16, of a list that nobody knows any more: only in `promised` and
 *         `accepted`.
 * record: 8 generation, 64 owner, 64 standby.
 * name:   printable ASCII without '/' and space, NUL-padded to 64, at least one NUL.
 *
 * A message with any other content is not answered: the connection is closed.
 *
 * Version 1 had in a ballot the place of its host in the sorted list (1 byte, 7 zero) in place of
 * the host, and no list.  An mcd that speaks it and one that speaks this one do not count for each
 * other: each closes the other's connection, and says why.  So while hosts are upgraded one by one
 * there is a majority of the one or of the other, or none.
 */
/* clang-format on */
#include "failover/vote-wire.h"
#include "common/be.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#define NAME_SIZE (LINK_NAME_MAX + 1)
#define VERSION   2
#define PADDING   424

_Static_assert(32 + NAME_SIZE == 96 && 96 + 3 * VOTE_BALLOT_SIZE == 144 &&
		       144 + 2 * VOTE_RECORD_SIZE + 8 == PADDING,
	"the fields follow each other as in the table above");
_Static_assert(8 + 2 * NAME_SIZE == VOTE_RECORD_SIZE && PADDING + 88 == VOTE_MSG_SIZE,
	"a record is a generation and two names, a message has 512 bytes");
_Static_assert(VOTERS_MAX < 255, "a place in a list is one of those that are set apart");

static const uint8_t magic[4] = {'m', 'c', 'd', 'v'};

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

void vote_put_name(uint8_t p[NAME_SIZE], const char *name)
{
	memset(p, 0, NAME_SIZE);
	memcpy(p, name, strnlen(name, LINK_NAME_MAX));
}

bool vote_get_name(char ret[NAME_SIZE], const uint8_t p[NAME_SIZE])
{
	size_t n = 0;
	while (n < NAME_SIZE && p[n] > ' ' && p[n] < 0x7f && p[n] != '/')
		n++;
	if (n == NAME_SIZE || !all_zero(p + n, NAME_SIZE - n))
		return false;
	memcpy(ret, p, NAME_SIZE);
	return true;
}

bool vote_name_valid(const char *name)
{
	uint8_t p[NAME_SIZE];
	char got[NAME_SIZE];
	if (!name[0] || name[0] == '.' || strlen(name) > LINK_NAME_MAX)
		return false;
	vote_put_name(p, name);
	return vote_get_name(got, p);
}

void vote_put_record(uint8_t p[VOTE_RECORD_SIZE], const struct own_record *r)
{
	put_be64(p, r->generation);
	vote_put_name(p + 8, r->owner);
	vote_put_name(p + 72, r->standby);
}

bool vote_get_record(struct own_record *ret, const uint8_t p[VOTE_RECORD_SIZE])
{
	struct own_record r = {.generation = get_be64(p)};
	if (!vote_get_name(r.owner, p + 8) || !vote_get_name(r.standby, p + 72) ||
		!own_record_valid(&r))
		return false;
	*ret = r;
	return true;
}

void vote_put_ballot(uint8_t p[VOTE_BALLOT_SIZE], const struct ballot *b)
{
	assert(b->host || !b->round);
	put_be64(p, b->round);
	put_be64(p + 8, b->host);
}

bool vote_get_ballot(struct ballot *ret, const uint8_t p[VOTE_BALLOT_SIZE])
{
	struct ballot b = {.round = get_be64(p), .host = get_be64(p + 8)};
	if ((!b.host && b.round) || b.host == BALLOT_UNKNOWN ||
		b.host > BALLOT_BY_PLACE(VOTERS_MAX))
		return false;
	*ret = b;
	return true;
}

bool vote_get_ballot_v1(struct ballot *ret, const uint8_t p[VOTE_BALLOT_SIZE])
{
	struct ballot b = {.round = get_be64(p), .host = p[8] ? BALLOT_BY_PLACE(p[8]) : 0};
	if (p[8] > VOTERS_MAX || (!p[8] && b.round) || !all_zero(p + 9, 7))
		return false;
	*ret = b;
	return true;
}

uint64_t vote_group_id(const struct paxos_group *g)
{
	uint8_t text[8 + VOTERS_MAX * NAME_SIZE], digest[32] = {0};
	put_be64(text, g->number);
	for (size_t i = 0; i < g->n; i++)
		vote_put_name(text + 8 + i * NAME_SIZE, g->names[i]);
	gnutls_hash_fast(GNUTLS_DIG_SHA256, text, 8 + g->n * NAME_SIZE, digest);
	return get_be64(digest);
}

void vote_encode(uint8_t p[VOTE_MSG_SIZE], const struct vote_msg *m)
{
	memset(p, 0, VOTE_MSG_SIZE);
	memcpy(p, magic, sizeof magic);
	put_be16(p + 4, VERSION);
	p[6] = (uint8_t)m->paxos.type;
	p[7] = (uint8_t)m->paxos.refusal;
	put_be64(p + 8, m->id);
	put_be64(p + 16, m->group);
	put_be64(p + 24, m->number);
	vote_put_name(p + 32, m->subject);
	vote_put_ballot(p + 96, &m->paxos.ballot);
	vote_put_ballot(p + 112, &m->paxos.promised);
	vote_put_ballot(p + 128, &m->paxos.accepted);
	vote_put_record(p + 144, &m->paxos.decided);
	vote_put_record(p + 280, &m->paxos.value);
	put_be64(p + 416, m->list);
}

static bool valid_type(uint8_t type)
{
	return (type >= PAXOS_PREPARE && type <= VOTE_HEARD_REQUEST) ||
	       (type >= PAXOS_PROMISE && type <= VOTE_HEARD_ANSWER);
}

bool vote_decode(struct vote_msg *ret, const uint8_t p[VOTE_MSG_SIZE])
{
	struct vote_msg m = {.id = get_be64(p + 8),
		.group = get_be64(p + 16),
		.number = get_be64(p + 24),
		.list = get_be64(p + 416)};
	if (memcmp(p, magic, sizeof magic) || get_be16(p + 4) != VERSION || !valid_type(p[6]))
		return false;
	if (p[6] == PAXOS_REFUSED ? p[7] < PAXOS_NOT_ELIGIBLE || p[7] > PAXOS_NOT_QUORATE
				  : p[7] != 0)
		return false;
	if (m.number && p[6] != VOTE_HEARD_ANSWER)
		return false;
	m.paxos.type = p[6];
	m.paxos.refusal = p[7];
	if (!vote_get_name(m.subject, p + 32) || !vote_name_valid(m.subject))
		return false;
	if (!vote_get_ballot(&m.paxos.ballot, p + 96) ||
		!vote_get_ballot(&m.paxos.promised, p + 112) ||
		!vote_get_ballot(&m.paxos.accepted, p + 128))
		return false;
	if (!vote_get_record(&m.paxos.decided, p + 144) ||
		!vote_get_record(&m.paxos.value, p + 280) ||
		!all_zero(p + PADDING, VOTE_MSG_SIZE - PADDING))
		return false;
	/* An accepted ballot without its value, or for a generation that is not the open one, would
	 * make a proposer adopt nonsense. */
	if (m.paxos.accepted.host && m.paxos.value.generation != m.paxos.decided.generation + 1)
		return false;
	if (ballot_unknown(&m.paxos.ballot))
		return false;
	*ret = m;
	return true;
}

bool vote_other_version(const uint8_t p[VOTE_MSG_SIZE])
{
	return !memcmp(p, magic, sizeof magic) && get_be16(p + 4) != VERSION;
}

const char *vote_refusal_text(enum paxos_refusal r)
{
	switch (r) {
	case PAXOS_NOT_ELIGIBLE:
		return "this host is not named in the newest ownership record";
	case PAXOS_CONFLICT:
		return "it knows another decided ownership record of the same generation; this "
		       "must never happen, report it";
	case PAXOS_MALFORMED:
		return "it did not understand the request; install the same version of mcd "
		       "everywhere";
	case PAXOS_OTHER_VOTERS:
		return "it has another list of voters; make the [host] sections of mcd.conf the "
		       "same everywhere";
	case PAXOS_NOT_QUORATE:
		return "corosync has told it that it is outside the quorate part of the cluster";
	case PAXOS_DISK:
		return "it cannot write its votes; check the file system of its state directory";
	}
	return "unknown reason";
}
