/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What speaks against saving a guest (the rules: migratable.c). */
#pragma once

enum guest_blocker {
	GUEST_BLOCKER_NONE,   /* of no matter here */
	GUEST_BLOCKER_WARN,   /* nobody has tried it */
	GUEST_BLOCKER_REFUSE, /* QEMU dies when it saves, or none can load what it saved */
};

/* What one of query-migrate's blocked-reasons means. */
enum guest_blocker guest_blocker_of(const char *reason);
/* Why a device of that type cannot be saved though query-migrate is silent of it; NULL: it can. */
const char *guest_type_blocks(const char *type);
