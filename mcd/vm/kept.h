/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Notes in RUN_DIR/NAME for the mcd that comes after this one and finds the VM running. */
#pragma once

struct vm;

void vm_machine_save(const struct vm *vm); /* vm->plan.digest and vm->inventory, without words */
void vm_machine_load(struct vm *vm);

/* With whom it is to be protected again: "" = with nobody.  Kept, too. */
void vm_want_peer(struct vm *vm, const char *peer);
void vm_peer_save(const struct vm *vm);
void vm_peer_load(struct vm *vm);
