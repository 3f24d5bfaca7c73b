/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcctl/progress.h"

#include "mcctl/output.h"
#include <string.h>
#include <unistd.h>

#define BAR_WIDTH 30

static void format_left(double s, char buf[FORMAT_MAX])
{
	if (s >= 3600)
		snprintf(buf, FORMAT_MAX, "%.1f h left", s / 3600);
	else if (s >= 90)
		snprintf(buf, FORMAT_MAX, "%.0f min left", s / 60);
	else
		snprintf(buf, FORMAT_MAX, "%.0f s left", s);
}

void progress_show(void *ctx, const json_t *data)
{
	struct progress *p = ctx;
	if (!isatty(STDERR_FILENO))
		return;
	double percent = get_number(data, "percent");
	percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
	int full = (int)(percent * BAR_WIDTH / 100);
	char bar[BAR_WIDTH + 1], left[FORMAT_MAX], sent[FORMAT_MAX];
	memset(bar, '#', (size_t)full);
	memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
	bar[BAR_WIDTH] = '\0';
	p->shown = true;
	if (!json_object_get(data, "rate_mbs")) { /* verify: there is nothing sent */
		fprintf(stderr, "\r%s [%s] %3.0f%%\033[K", p->vm, bar, percent);
		fflush(stderr);
		return;
	}
	format_left(get_number(data, "eta_s"), left);
	fprintf(stderr, "\r%s [%s] %3.0f%%  round %.0f  %s at %.0f MB/s  %s\033[K", p->vm, bar,
		percent, get_number(data, "round"),
		format_bytes(get_number(data, "sent_bytes"), sent), get_number(data, "rate_mbs"),
		left);
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr); /* the line has done its duty */
	p->shown = false;
}
