/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static enum mc_log_level log_max = MC_LOG_INFO;
static const char *log_name;

void mc_log_setup(enum mc_log_level max, const char *name)
{
	log_max = max;
	log_name = name;
}

void mc_log(enum mc_log_level level, const char *fmt, ...)
{
	static const char *const names[] = {
		[MC_LOG_ERROR] = "error",
		[MC_LOG_WARN] = "warning",
		[MC_LOG_NOTICE] = "notice",
		[MC_LOG_INFO] = "info",
		[MC_LOG_DEBUG] = "debug",
	};
	if (level > log_max)
		return;
	int saved = errno;
	char line[1400];
	size_t n;
	if (getenv("JOURNAL_STREAM")) {
		n = (size_t)snprintf(line, sizeof line, "<%d>", (int)level);
	} else {
		struct timespec ts;
		struct tm tm;
		clock_gettime(CLOCK_REALTIME, &ts);
		localtime_r(&ts.tv_sec, &tm);
		n = strftime(line, sizeof line, "%H:%M:%S", &tm);
		n += (size_t)snprintf(line + n, sizeof line - n,
			".%03ld %s%s%s: ", ts.tv_nsec / 1000000, log_name ? log_name : "",
			log_name ? " " : "", names[level]);
	}
	va_list ap;
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	if (m > 0)
		n += (size_t)m < sizeof line - n - 1 ? (size_t)m : sizeof line - n - 2;
	line[n++] = '\n';
	ssize_t w = write(STDERR_FILENO, line, n);
	(void)w;
	errno = saved;
}
