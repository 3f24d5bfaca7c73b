/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between vm.c and vm-life.c only. */
#pragma once
void *vm_thread(void *vm);
