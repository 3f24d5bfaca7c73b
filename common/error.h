/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one error convention of the project.
 *
 * A function that can fail returns 0 (or a useful non-negative value) on success and a negative
 * errno on failure, takes a `struct mc_error *err` as its last argument and fills it on failure
 * only.  `ret_` out-parameters are untouched on failure.  A function either reports through its
 * error object or logs, never both.  The message is a whole sentence for the administrator: what
 * was wrong, and what to do about it.  Whatever was put into it, it is UTF-8 without control
 * characters, and cut between two characters if it was too long (common/text.h).
 */
#pragma once
#include <stdarg.h>

/* Classes travel over the control socket and between hosts; programs match them, people read the
 * message.  The list is part of the control protocol (docs/control-protocol.md). */
#define MC_ECLASS_FAILED       "Failed"
#define MC_ECLASS_INVALID      "InvalidArgument"
#define MC_ECLASS_BAD_REQUEST  "BadRequest"
#define MC_ECLASS_UNKNOWN_VM   "UnknownVm"
#define MC_ECLASS_UNKNOWN_PEER "UnknownPeer"
#define MC_ECLASS_UNREACHABLE  "PeerUnreachable"
#define MC_ECLASS_WRONG_KEY    "WrongKey"
#define MC_ECLASS_VERSION      "WrongVersion"
#define MC_ECLASS_STATE        "WrongState"
#define MC_ECLASS_NOT_OWNER    "NotOwner"
#define MC_ECLASS_NO_MAJORITY  "NoMajority"
#define MC_ECLASS_GUEST        "GuestUnsuitable"
#define MC_ECLASS_QMP          "QemuError"
#define MC_ECLASS_PERMISSION   "NoPermission"
#define MC_ECLASS_KERNEL       "KernelUnsuitable"
#define MC_ECLASS_MEMORY       "NotEnoughMemory"
#define MC_ECLASS_TIMEOUT      "Timeout"
#define MC_ECLASS_PROTOCOL     "ProtocolError"
#define MC_ECLASS_CONFIG       "ConfigError"

struct mc_error {
	int code;        /* negative errno, 0 while unset */
	const char *cls; /* one of MC_ECLASS_*: a string constant, never freed */
	char msg[760];
};

#define MC_ERROR_INIT                                                                              \
	(struct mc_error)                                                                          \
	{                                                                                          \
		0, MC_ECLASS_FAILED, ""                                                            \
	}

/* Fills err (which may be NULL) and returns code, so that `return mc_error_set(...)` reads well. */
int mc_error_set(struct mc_error *err, int code, const char *cls, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "context: " in front of the message; code and class stay.  Returns err's code. */
int mc_error_wrap(struct mc_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Maps a class name received from elsewhere to our constant; MC_ECLASS_FAILED if unknown. */
const char *mc_error_class(const char *name);
