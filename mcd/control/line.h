/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lines that the control socket sends, as malloc'd text with a newline; NULL without memory. */
#pragma once
#include "common/error.h"
#include <jansson.h>

/* Steals obj. */
char *control_line(json_t *obj);
char *control_error_line(json_t *id, const struct mc_error *err);
/* An event of this moment; steals data, which may be NULL. */
char *control_event_line(const char *event, json_t *data);

/* A JSON string of any bytes: a message may end in a piece of a character (it was cut there) or
 * quote a file, but jansson takes valid UTF-8 only. */
json_t *control_text(const char *s);
