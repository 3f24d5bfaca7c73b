/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster gate by its histories, the announcements by their bytes, and cluster.c over a backend
 * of the test's own. */
#include "common/clock.h"
#include "failover/cluster-private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* --- the gate --------------------------------------------------------------------------------- */

/* Nodes A, B, C are bits 1, 2, 4; we are A.  Histories are words:
 *   Q8 / q8   quorum callback of ring 8: quorate / not     N8        nodelist callback of ring 8
 *   C8:7      CPG's ring 8 with members 7                   L6        CPG: nodes 6 have left
 *   S         we stood still       T  calm again            X / +     corosync gone / connected
 * and after each the gate must be as the capital or small letter in `gate` says: o open, - closed.
 */
struct history {
	const char *promise;
	size_t nodes;
	const char *words, *gate;
};

static struct cluster_ring ring(const char *hex, char **end)
{
	return (struct cluster_ring){1, strtoull(hex, end, 16)};
}

static void step(struct cluster_view *v, const char *word, size_t nodes)
{
	char *rest = NULL;
	switch (word[0]) {
	case '+':
		cluster_view_connect(v, nodes);
		return;
	case 'X':
		cluster_view_disconnect(v);
		return;
	case 'Q':
	case 'q':
		cluster_view_quorum(v, ring(word + 1, &rest), word[0] == 'Q');
		return;
	case 'N':
		cluster_view_nodelist(v, ring(word + 1, &rest));
		return;
	case 'C': {
		struct cluster_ring r = ring(word + 1, &rest);
		cluster_view_ring(v, r, (uint32_t)strtoul(rest + 1, NULL, 16));
		return;
	}
	case 'L':
		cluster_view_left(v, (uint32_t)strtoul(word + 1, NULL, 16));
		return;
	case 'S':
		cluster_view_stall(v);
		return;
	case 'T':
		cluster_view_calm(v);
		return;
	}
	fail_msg("no such word: %s", word);
}

static const struct history histories[] = {
	{"nothing is known before both have spoken", 3, "+ N4 Q4 C4:7", "---o"},
	{"in whichever order they speak", 3, "+ C4:7 N4 Q4", "---o"},
	{"an inquorate start stays closed until quorum comes", 3, "+ N4 q4 C4:1 N8 Q8 C8:7",
		"------o"},
	{"CPG tells of the partition before quorum does", 3, "+ N4 Q4 C4:7 L6 C8:1 N8 q8",
		"---o----"},
	{"quorum tells of the partition before CPG does", 3, "+ N4 Q4 C4:7 N8 q8 L6 C8:1",
		"---o----"},
	{"CPG's ring without its \"left\" is enough", 3, "+ N4 Q4 C4:7 C8:1", "---o-"},
	{"the quorate flag of the ring before does not open a new one", 3,
		"+ N4 Q4 C4:7 L6 C8:1 q8 N8 NC QC CC:7", "---o------o"},
	{"a survivor stays open while one of three leaves, CPG first", 3,
		"+ N4 Q4 C4:7 L1 C8:6 N8 Q8", "---ooo-o"},
	{"a survivor is open once quorum has spoken, quorum first", 3, "+ N4 Q4 C4:7 N8 Q8 L1 C8:6",
		"---o-ooo"},
	{"a nodelist without quorum's word suspends (quorum device)", 3, "+ N4 Q4 C4:7 N8 C8:6 Q8",
		"---o--o"},
	{"thawed: closed although quorum never said no", 3, "+ N4 Q4 C4:7 S L6 C8:7 N8 Q8",
		"---o----o"},
	{"thawed: closed until both agree on the new ring, quorum first", 3,
		"+ N4 Q4 C4:7 S N8 Q8 L6 C8:7", "---o----o"},
	{"thawed, not noticed by us: \"left\" closes it", 3, "+ N4 Q4 C4:7 L6 C8:7 N8 Q8",
		"---o---o"},
	{"a standstill that nobody noticed ends with time", 3, "+ N4 Q4 C4:7 S T", "---o-o"},
	{"time alone does not end a disagreement", 3, "+ N4 Q4 C4:7 S L6 C8:7 T N8 Q8",
		"---o-----o"},
	{"\"left\" that comes late is forgotten with time", 3, "+ N4 Q4 C4:7 N8 Q8 C8:7 L6 T",
		"---o-oo-o"},
	{"corosync gone closes it", 3, "+ N4 Q4 C4:7 X", "---o-"},
	{"corosync back opens it only after both have spoken again", 3,
		"+ N4 Q4 C4:7 X + N4 Q4 C4:7", "---o----o"},
	{"two nodes in two-node mode: the survivor goes on", 2, "+ N4 Q4 C4:3 L2 C8:1 N8 Q8",
		"---ooo-o"},
	{"half of four is quorum's decision", 4, "+ N4 Q4 C4:f LC C8:3 N8 q8", "---ooo--"},
	{"a minority that a quorum device keeps quorate is open", 3, "+ N4 Q4 C4:7 L6 C8:1 N8 Q8",
		"---o---o"},
	{"losses add up over rings that quorum has not followed", 5,
		"+ N4 Q4 C4:1f L10 C8:f L8 CC:7 L4 C10:3", "---ooooo--"},
	{"nodes lost earlier do not count as here", 5, "+ N4 Q4 C4:7 L4 C8:3", "---o--"},
};

static void each_history(void **state)
{
	for (size_t i = 0; i < sizeof histories / sizeof *histories; i++) {
		const struct history *h = &histories[i];
		struct cluster_view v = {.managed = true};
		char words[200], *save = NULL;
		size_t n = 0;
		assert_false(cluster_gate(&v));
		snprintf(words, sizeof words, "%s", h->words);
		for (char *w = strtok_r(words, " ", &save); w;
			w = strtok_r(NULL, " ", &save), n++) {
			step(&v, w, h->nodes);
			bool want = h->gate[n] == 'o';
			if (cluster_gate(&v) != want)
				fail_msg("%s: in \"%s\" after word %zu (%s) the gate is %s: %s",
					h->promise, h->words, n + 1, w, want ? "closed" : "open",
					cluster_verdict_text(cluster_verdict(&v)));
		}
		assert_int_equal(n, strlen(h->gate));
	}
}

static void without_a_manager_the_gate_is_open(void **state)
{
	struct cluster_view v = {0};
	assert_true(cluster_gate(&v));
}

/* --- announcements ---------------------------------------------------------------------------- */

static const struct cluster_vm sample[2] = {
	{.name = "vm1", .peer = "hostB", .role = "primary", .state = "protected", .generation = 7},
	{.name = "vm2",
		.role = "none",
		.state = "failed",
		.generation = 1,
		.alarm = "it broke \xc3\xa4\n"},
};

static void an_announcement_comes_out_as_it_went_in(void **state)
{
	static uint8_t buf[CLUSTER_ANNOUNCE_MAX];
	static struct cluster_vm got[CLUSTER_VMS_MAX];
	size_t len = cluster_announce_encode(buf, "hostA", sample, 2);
	assert_int_equal(cluster_announce_decode(buf, len, "hostA", got), 2);
	assert_string_equal(got[0].host, "hostA");
	assert_string_equal(got[0].name, "vm1");
	assert_string_equal(got[0].peer, "hostB");
	assert_string_equal(got[0].role, "primary");
	assert_string_equal(got[0].state, "protected");
	assert_int_equal(got[0].generation, 7);
	assert_string_equal(got[1].alarm, "it broke ???");
	len = cluster_announce_encode(buf, "hostA", NULL, 0);
	assert_int_equal(cluster_announce_decode(buf, len, "hostA", got), 0);
}

static void a_malformed_announcement_is_refused(void **state)
{
	static uint8_t good[CLUSTER_ANNOUNCE_MAX], bad[CLUSTER_ANNOUNCE_MAX];
	static struct cluster_vm got[CLUSTER_VMS_MAX];
	size_t len = cluster_announce_encode(good, "hostA", sample, 2);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(cluster_announce_decode(good, n, "hostA", got), -EBADMSG);
	assert_int_equal(cluster_announce_decode(good, len + 1, "hostA", got), -EBADMSG);
	assert_int_equal(cluster_announce_decode(good, len, "hostB", got),
		-EBADMSG); /* not whom it came from */
	static const struct {
		size_t at;
		uint8_t value;
		const char *what;
	} broken[] = {
		{0, 'x', "magic"},
		{5, 2, "version"},
		{6, 1, "count"},
		{7, 3, "count"},
		{8, 1, "reserved"},
		{16, 0, "no host"},
		{16 + 63, 'x', "host not ended"},
		{80, '/', "name"},
		{80, 0, "no name"},
		{80 + 40, 'x', "behind the name"},
		{80 + 128 + 15, 'x', "role not ended"},
		{80 + 144, '\n', "state"},
		{80 + 480 + 176 + 200, 1, "behind the alarm"},
	};
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		memcpy(bad, good, len);
		bad[broken[i].at] = broken[i].value;
		if (cluster_announce_decode(bad, len, "hostA", got) != -EBADMSG)
			fail_msg("taken in spite of: %s", broken[i].what);
	}
}

/* --- a backend of our own --------------------------------------------------------------------- */

static int fake_open(struct cluster *c, struct mc_error *err)
{
	for (size_t i = 0; i < 3; i++)
		c->hosts[i] = c->overrides[i];
	c->n_hosts = 3;
	strcpy(c->self, "hostA");
	c->view.managed = true;
	c->stall_limit = 3600 * MC_SEC;
	c->seen_at = mc_now();
	return 0;
}

static int pokes;
static void fake_poke(struct cluster *c)
{
	pokes++;
}
static void fake_nothing(struct cluster *c)
{
}
static const struct cluster_ops fake = {
	"fake", fake_open, fake_nothing, fake_poke, fake_nothing, fake_nothing};

static const struct cluster_host hosts[3] = {
	{"hostA", "10.0.0.1", 7801},
	{"hostB", "10.0.0.2", 7801},
	{"hostC", "10.0.0.3", 0},
};
static const struct cluster_config config = {
	.mode = "static",
	.self = "hostA",
	.port = 7900,
	.hosts = hosts,
	.n_hosts = 3,
};

static struct cluster *open_fake(void)
{
	struct mc_error err = MC_ERROR_INIT;
	struct cluster *c;
	assert_int_equal(cluster_open_ops(&config, &fake, &c, &err), 0);
	return c;
}

static void a_static_cluster_is_what_the_file_says(void **state)
{
	struct mc_error err = MC_ERROR_INIT;
	struct cluster *c;
	size_t n;
	char text[100];
	assert_int_equal(cluster_open(&config, &c, &err), 0);
	const struct cluster_host *h = cluster_hosts(c, &n);
	assert_int_equal(n, 3);
	assert_string_equal(h[1].address, "10.0.0.2");
	assert_int_equal(h[2].port, 7900);
	assert_string_equal(cluster_self(c), "hostA");
	cluster_start(c);
	cluster_poke(c);
	assert_true(cluster_quorate(c));
	assert_null(cluster_vms(c, &n));
	cluster_describe(c, text, sizeof text);
	assert_string_equal(text, "static");
	cluster_alarm(c, text, sizeof text);
	assert_string_equal(text, "");
	cluster_close(c);
}

static void the_gate_closes_while_its_thread_is_not_seen(void **state)
{
	struct cluster *c = open_fake();
	char text[200];
	assert_false(cluster_quorate(c));
	cluster_view_connect(&c->view, 3);
	cluster_view_ring(&c->view, (struct cluster_ring){1, 8}, 7);
	cluster_view_quorum(&c->view, (struct cluster_ring){1, 8}, true);
	assert_true(cluster_quorate(c));
	cluster_describe(c, text, sizeof text);
	assert_string_equal(text, "fake (quorate, ring 1.8)");
	/* A host that was frozen: the caller wakes up before the thread has looked at the clock. */
	c->stall_limit = 1;
	assert_false(cluster_quorate(c));
	cluster_describe(c, text, sizeof text);
	assert_non_null(strstr(text, "after a standstill"));
	c->stall_limit = 3600 * MC_SEC;
	cluster_view_quorum(&c->view, (struct cluster_ring){1, 12}, false);
	cluster_alarm(c, text, sizeof text);
	assert_non_null(strstr(text, "outside the quorate part"));
	cluster_close(c);
}

static void announcements_are_kept_by_host_until_it_leaves(void **state)
{
	static uint8_t buf[CLUSTER_ANNOUNCE_MAX];
	struct cluster *c = open_fake();
	size_t n, len = cluster_announce_encode(buf, "hostB", sample, 2);
	assert_int_equal(
		cluster_take_announcement(c, 2, 10, buf, len), -EBADMSG); /* hostC is not hostB */
	assert_null(cluster_vms(c, &n));
	assert_int_equal(cluster_take_announcement(c, 1, 10, buf, len), 0);
	struct cluster_vm *vms = cluster_vms(c, &n);
	assert_int_equal(n, 2);
	assert_string_equal(vms[0].host, "hostB");
	free(vms);
	len = cluster_announce_encode(buf, "hostB", sample, 1);
	assert_int_equal(cluster_take_announcement(c, 1, 11, buf, len), 0);
	cluster_forget(c, 1, 10); /* the mcd before the one that spoke last */
	vms = cluster_vms(c, &n);
	assert_int_equal(n, 1);
	free(vms);
	cluster_forget(c, 1, 11);
	assert_null(cluster_vms(c, &n));
	assert_int_equal(cluster_take_announcement(c, 1, 12, buf, len), 0);
	cluster_close(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_history),
		cmocka_unit_test(without_a_manager_the_gate_is_open),
		cmocka_unit_test(an_announcement_comes_out_as_it_went_in),
		cmocka_unit_test(a_malformed_announcement_is_refused),
		cmocka_unit_test(a_static_cluster_is_what_the_file_says),
		cmocka_unit_test(the_gate_closes_while_its_thread_is_not_seen),
		cmocka_unit_test(announcements_are_kept_by_host_until_it_leaves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
