/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Failures of the fakes by their number: the n-th thing that is asked of any of them from now on
 * fails, whatever it is, so that a test can go through all there are, and needs no list of them.
 * What is told nobody (kill, free) does not count.  Thread-safe.
 */
#pragma once
#include <stdbool.h>

/* The calls n .. n + times - 1 fail with -code; the first is 0. */
void faults_arm(unsigned n, unsigned times, int code);
/* Ends it.  Returns how many calls there were. */
unsigned faults_end(void);
/* For the fakes: the code that this call is to fail with, or 0. */
int faults_next(void);
