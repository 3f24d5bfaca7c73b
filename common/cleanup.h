/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scope cleanup: `_cleanup_free_ char *p = ...` is freed when p goes out of scope.  Take a value
 * out of its scope with mc_steal_ptr / mc_steal_fd. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void mc_freep(void *p)
{
	free(*(void **)p);
}
static inline void mc_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void mc_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define _cleanup_(fn)    __attribute__((cleanup(fn)))
#define _cleanup_free_   _cleanup_(mc_freep)
#define _cleanup_close_  _cleanup_(mc_closep)
#define _cleanup_fclose_ _cleanup_(mc_fclosep)

#define mc_steal_ptr(p)                                                                            \
	({                                                                                         \
		__typeof__(p) steal_ = (p);                                                        \
		(p) = NULL;                                                                        \
		steal_;                                                                            \
	})

static inline int mc_steal_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}
