/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source that mcd has its guests from. */
#include "mcd/guest/guest-private.h"

const struct guest_source guest_qemu = {.launch = qemu_launch, .adopt = qemu_adopt};
