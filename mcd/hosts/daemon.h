/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one mcd process consists of; made by bringup.c, read-only afterwards. */
#pragma once
#include "common/link.h"
#include "failover/cluster.h"
#include "failover/timing.h"
#include "failover/vote.h"
#include "mcd/config/config.h"
#include "mcd/control/control.h"
#include "mcd/life/table.h"
#include "mcd/vm/env.h"
#include "mcd/wire/keepalive.h"

struct listener;

struct daemon {
	struct config cfg;
	struct link_key key;
	struct link_self link; /* with that key, and an instance that is random */
	const struct config_host *self;
	const char *netbuf_name, *dirty_name; /* what "auto" comes to on this host */
	struct timing timing;
	sd_event *loop;
	struct control *control;
	struct cluster *cluster;
	struct voter *voter;
	struct keepalive *keepalive;
	struct listener *listener;
	struct vm_env env; /* what the VMs see of all this */
	struct table *vms;
};
