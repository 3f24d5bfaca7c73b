/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
#include "mcd/standby/session.h"

/* One message of the primary.  -ECANCELED: it ended the protection, or hands the VM over; -EINTR,
 * -ETIMEDOUT: nothing came, and the facts are to be looked at; others: the stream is over. */
int standby_receive(struct standby *s, struct mc_error *err);
