/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/ask.h"

#include "common/clock.h"
#include "common/log.h"
#include "mcd/vm/mailbox.h"
#include "mcd/vm/owner.h"
#include "mcd/vm/vm.h"
#include "mcd/vm/waits.h"

#include <errno.h>

#define LOOK_WAIT       MC_SEC          /* for a majority, where nothing else can be done */
#define LOOK_WHILE_WAIT (100 * MC_MSEC) /* where something else may happen meanwhile */

static struct decision look_at_facts(struct vm_question *q)
{
	struct vm *vm = q->vm;
	struct own_record newest = vm_newest_record(vm);
	struct decide_facts f = {
		.role = q->role,
		.ownership = decide_ownership(&newest, q->generation, vm_self(vm)),
		.proposed = q->proposed,
		.quorate = env_quorate(vm->env),
		.leaving = vm->quit,
		.guest_gone = !vm->guest || !guest_alive(vm->guest),
	};
	q->asker->gather(q, &f);
	return decide(&f, &q->config);
}

static void rest(struct vm_question *q)
{
	vm_wait(q->vm, mc_now() + q->pause);
	q->asker->listen(q);
}

/* One attempt.  Whatever it came to is seen in the facts; an outcome that is not known stays ours
 * to find out (failover/README.md, 15), so `proposed` never goes back. */
static void propose(
	struct vm_question *q, const struct decision *d, const char *owner, const char *standby)
{
	struct mc_error err = MC_ERROR_INIT;
	q->asker->before(q, d);
	q->proposed = true;
	int r = vm_propose(q->vm, owner, standby, WAIT_VOTE, &err);
	q->won = r == 0;
	if (r == 0 || r == -ESTALE)
		return;
	q->asker->stuck(q, d, err.msg);
	rest(q);
}

static void look(struct vm_question *q, const struct decision *d)
{
	struct mc_error err = MC_ERROR_INIT;
	struct own_record rec;
	bool again = q->answered;
	q->answered = vm_look(q->vm, LOOK_WAIT, &rec, &err) == 0;
	if (q->answered && !again)
		return;
	q->asker->stuck(q, d,
		q->answered ? "the voters that answer do not know the newest record" : err.msg);
	rest(q);
}

struct decision vm_ask(struct vm_question *q)
{
	bool begun = false;
	for (;;) {
		struct decision d = look_at_facts(q);
		bool open = d.action == ACT_WAIT || d.action == ACT_HOLD || d.action == ACT_LOOK ||
			    d.action == ACT_PROPOSE_SELF || d.action == ACT_PROPOSE_NONE ||
			    d.action == ACT_HAND_OVER;
		if (open && !begun)
			q->asker->begin(q, &d);
		begun = true;
		switch (d.action) {
		case ACT_PROPOSE_SELF:
			propose(q, &d, vm_self(q->vm), "");
			break;
		case ACT_PROPOSE_NONE:
			propose(q, &d, "", "");
			break;
		case ACT_HAND_OVER:
			propose(q, &d, q->peer, "");
			break;
		case ACT_LOOK:
			look(q, &d);
			break;
		case ACT_HOLD:
			q->asker->stuck(q, &d, d.reason);
			/* fall through */
		case ACT_WAIT:
			if (q->look) {
				struct own_record rec;
				q->answered = vm_look(q->vm, LOOK_WHILE_WAIT, &rec, NULL) == 0;
			}
			rest(q);
			break;
		default:
			return d;
		}
	}
}
