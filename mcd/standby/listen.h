/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

/* Serves what waits on the VM's bell: verbs, QEMU's end (restarted).  True: look at the facts of
 * failover again (suspicion, or a newer record). */
bool standby_listen(struct standby *s);
