/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log sink: the one hidden global of the project.  Lines go to stderr, with the systemd
 * priority prefix "<N>" when stderr is the journal, else with time and level.  Nothing is logged
 * once an epoch above debug.  Thread-safe: a line is one write(2). */
#pragma once

enum mc_log_level {
	MC_LOG_ERROR = 3,
	MC_LOG_WARN = 4,
	MC_LOG_NOTICE = 5,
	MC_LOG_INFO = 6,
	MC_LOG_DEBUG = 7
};

/* Chooses the highest level that is printed (default info) and the name in front of each line
 * (a string constant, kept by reference; default none). */
void mc_log_setup(enum mc_log_level max, const char *name);

void mc_log(enum mc_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)  mc_log(MC_LOG_ERROR, __VA_ARGS__)
#define log_warn(...)   mc_log(MC_LOG_WARN, __VA_ARGS__)
#define log_notice(...) mc_log(MC_LOG_NOTICE, __VA_ARGS__)
#define log_info(...)   mc_log(MC_LOG_INFO, __VA_ARGS__)
#define log_debug(...)  mc_log(MC_LOG_DEBUG, __VA_ARGS__)
