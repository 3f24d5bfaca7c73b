/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fuzz target: one file, the libFuzzer entry point, and seeds made by our own encoders, so that
 * mutations start from what a real peer would send.  It runs under libFuzzer (-Dfuzz=true) or, as
 * an ordinary test without clang, under standalone.c.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FUZZ_SEED_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Optional: writes seed i into buf and returns its size; 0 = there are no more. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap) __attribute__((weak));

/* Like assert, also with NDEBUG: what a target checks beyond not crashing. */
#define FUZZ_CHECK(x) ((x) ? (void)0 : __builtin_trap())
