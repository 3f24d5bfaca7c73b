/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a takeover will need of this host, had before anybody counts on it. */
#pragma once
#include "mcd/standby/session.h"

int reserve_descriptors(struct standby *s, struct mc_error *err);
/* For a device state of that length.  Before the ACK of the epoch that has it. */
int reserve_room(struct standby *s, size_t devices_len, struct mc_error *err);
/* Gives the descriptors back: the takeover begins, or there will be none. */
void reserve_release(struct standby *s);
