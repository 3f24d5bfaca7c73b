/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ftclient: the demo's client.  One TCP connection to the guest's service (ftproto.h); it sends
 * numbered requests without end, computes every answer by itself, and at the end asks the guest for
 * all that it ever acknowledged.
 *
 *   ftclient --host 10.77.1.10 --seconds 20                       a live line on the terminal
 *   ftclient --host 10.77.1.10 --report 200 --log requests.json   JSON lines for a program
 *
 * The last line on stdout is {"acked","lost","reconnects","stall_ms","stall_from_ns","stall_to_ns",
 * "p50_ms","p99_ms","bad",...}.  stall is the longest time without an answer.  Exit status 0: at
 * least one request, nothing lost or wrong, never disconnected.
 */
#include "ftconn.h"
#include "ftproto.h"
#include "ftstats.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS  1000000ull
#define SEC 1000000000ull

static struct {
	const char *host, *log;
	uint16_t port;
	double seconds, patience;
	unsigned window, payload;
	uint64_t think, report;
	bool live, check;
} opt = {.port = FT_PORT, .patience = 30, .window = 1, .payload = 64, .check = true};

static struct ftconn conn;
static struct ftstats stats;
static volatile bool ending, give_up; /* first and second SIGTERM or SIGINT */
static uint64_t reconnects, bad, lost;
static char check_text[256] = "", error_text[256] = "";
static FILE *log_file;
static size_t logged;

static void on_signal(int sig)
{
	(void)sig;
	if (ending)
		give_up = true;
	ending = true;
}

/* Keeps the first thing that went wrong, for the summary. */
static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
	va_list ap;

	if (error_text[0])
		return;
	va_start(ap, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, ap);
	va_end(ap);
	for (char *p = error_text; *p; p++)
		if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
			*p = ' '; /* it goes into JSON */
}

static void report(const char *state, uint64_t now, bool last)
{
	static uint64_t next;
	uint64_t every = opt.report ? opt.report : 100 * MS;
	double p50, p99;

	if (now < next && !last)
		return;
	next = now + every;
	if (log_file) {
		for (; logged < stats.acked; logged++)
			fprintf(log_file,
				"{\"n\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"answered\":%" PRIu64
				",\"chain\":\"%016" PRIx64 "\"}\n",
				stats.base + logged + 1, stats.reqs[logged].sent,
				stats.reqs[logged].answered, stats.reqs[logged].chain);
		fflush(log_file);
	}
	if (!opt.report && !opt.live)
		return;
	ftstats_latency(&stats, 512, &p50, &p99);
	if (opt.report) {
		printf("{\"time\":%" PRIu64
		       ",\"state\":\"%s\",\"sent\":%zu,\"acked\":%zu,\"p50_ms\":%.2f,"
		       "\"p99_ms\":%.2f,\"stall_ms\":%.1f,\"last_answer\":%" PRIu64 "}\n",
			now, state, stats.sent, stats.acked, p50, p99,
			(double)ftstats_stall(&stats, now) / 1e6, stats.last_answer);
		fflush(stdout);
	}
	if (opt.live)
		fprintf(stderr,
			"\r%8zu answered  p50 %7.1f ms  p99 %7.1f ms  longest silence %8.1f ms  "
			"%-12s",
			stats.acked, p50, p99, (double)ftstats_stall(&stats, now) / 1e6, state);
}

/* Asks and waits for one answer; only while nothing else is outstanding. NULL: failed. */
static char *ask(const char *request)
{
	uint64_t deadline = ftconn_now() + (uint64_t)(opt.patience * 1e9);
	char *line;

	ftconn_put(&conn, "%s\n", request);
	while (ftconn_now() < deadline && !give_up) {
		if (!ftconn_turn(&conn, 50 * MS))
			return NULL;
		if ((line = ftconn_line(&conn)))
			return line;
	}
	snprintf(conn.why, sizeof(conn.why), "no answer to %.20s", request);
	return NULL;
}

static bool start_from_stat(void)
{
	char *line = ask("STAT");

	if (!line || sscanf(line, "STAT %" SCNu64 " %" SCNx64, &stats.base, &stats.chain) != 2) {
		note("no answer to STAT: %s", line ? line : conn.why);
		return false;
	}
	return true;
}

static void make_payload(char *buf, uint64_t n)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";
	uint64_t x = n * 0x9e3779b97f4a7c15ull + 1;

	for (unsigned i = 0; i < opt.payload; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		buf[i] = letters[x & 31];
	}
	buf[opt.payload] = '\0';
}

static bool send_request(uint64_t now)
{
	char payload[FT_PAYLOAD_MAX + 1];
	uint64_t n = stats.base + stats.sent + 1;

	if (sizeof(conn.out) - conn.out_len < FT_LINE_MAX)
		return false;
	make_payload(payload, n);
	if (!ftstats_sent(&stats, ft_hash(FT_FNV_BASIS, payload, opt.payload), now)) {
		note("%s", "the client is out of memory");
		ending = true;
		return false;
	}
	return ftconn_put(&conn, "PUT %" PRIu64 " %s\n", n, payload);
}

static void take_answer(const char *line, uint64_t now)
{
	uint64_t n, chain, want = stats.base + stats.acked + 1;

	if (stats.acked == stats.sent) {
		bad++;
		note("an answer that nobody asked for: %s", line);
		return;
	}
	if (sscanf(line, "OK %" SCNu64 " %" SCNx64, &n, &chain) != 2 || n != want ||
		chain != stats.reqs[stats.acked].chain) {
		bad++;
		note("wrong answer: %s", line);
		ending = true; /* from here on every chain would differ */
	}
	ftstats_answered(&stats, now);
}

/* The connection broke, which is a failure whatever comes; what is unanswered is sent again. */
static bool reconnect(void)
{
	reconnects++;
	note("the connection broke: %s", conn.why);
	report("reconnecting", ftconn_now(), true);
	if (!ftconn_open(&conn, ftconn_now() + (uint64_t)(opt.patience * 1e9), &give_up)) {
		note("cannot connect again: %s", conn.why);
		return false;
	}
	for (size_t i = stats.acked; i < stats.sent; i++) {
		char payload[FT_PAYLOAD_MAX + 1];

		make_payload(payload, stats.base + i + 1);
		if (!ftconn_put(&conn, "PUT %" PRIu64 " %s\n", stats.base + i + 1, payload))
			return false;
	}
	return true;
}

/* False: it cannot go on, not even to the verification. */
static bool run(void)
{
	uint64_t now = ftconn_now(), start = now, next = now;
	uint64_t patience = (uint64_t)(opt.patience * 1e9);
	uint64_t end = opt.seconds > 0 ? start + (uint64_t)(opt.seconds * 1e9) : UINT64_MAX;

	while ((!ending && now < end) || stats.sent > stats.acked) {
		uint64_t wait = 20 * MS;
		char *line;

		while (!ending && now < end && now >= next && stats.sent - stats.acked < opt.window)
			if (!send_request(now))
				break;
		if (next > now && next - now < wait)
			wait = next - now;
		if (!ftconn_turn(&conn, wait)) {
			if (!reconnect())
				return false;
			continue;
		}
		now = ftconn_now();
		while ((line = ftconn_line(&conn))) {
			take_answer(line, now);
			next = now + opt.think;
		}
		if (stats.sent > stats.acked) {
			uint64_t oldest = stats.reqs[stats.acked].sent;
			uint64_t since = stats.last_answer > oldest ? stats.last_answer : oldest;

			if (now - since > patience || give_up) {
				note("%s", "no answer for too long");
				return false;
			}
			report(now - since > 500 * MS ? "waiting" : "answering", now, false);
		} else {
			report("answering", now, false);
		}
	}
	return true;
}

/* Asks for every acknowledged request again, up to 512 at a time. */
static bool verify(void)
{
	size_t asked = 0, seen = 0;
	uint64_t last = ftconn_now();

	while (seen < stats.acked) {
		char *line;

		while (asked < stats.acked && asked - seen < 512 &&
			ftconn_put(&conn, "GET %" PRIu64 "\n", stats.base + asked + 1))
			asked++;
		if (!ftconn_turn(&conn, 50 * MS)) {
			if (!reconnect())
				return false;
			asked = seen;
			continue;
		}
		while ((line = ftconn_line(&conn)) && seen < asked) {
			uint64_t n = 0, chain = 0;

			if (sscanf(line, "OK %" SCNu64 " %" SCNx64, &n, &chain) != 2 ||
				n != stats.base + seen + 1 || chain != stats.reqs[seen].chain) {
				lost++;
				note("an acknowledged request is gone or changed: %s", line);
			}
			seen++;
			last = ftconn_now();
		}
		report("verifying", ftconn_now(), false);
		if (give_up || ftconn_now() - last > (uint64_t)(opt.patience * 1e9)) {
			note("%s", "no answer during the verification");
			return false;
		}
	}
	if (opt.check) {
		char *line = ask("CHECK");

		snprintf(check_text, sizeof(check_text), "%s", line ? line : conn.why);
		if (!line || strncmp(line, "CHECK OK", 8)) {
			bad++;
			note("the guest's memory checker: %s", check_text);
		}
	}
	return true;
}

static void summary(bool complete)
{
	double p50, p99;

	ftstats_latency(&stats, 0, &p50, &p99);
	printf("{\"acked\":%zu,\"lost\":%" PRIu64 ",\"reconnects\":%" PRIu64 ",\"stall_ms\":%.1f,"
	       "\"stall_from_ns\":%" PRIu64 ",\"stall_to_ns\":%" PRIu64
	       ",\"p50_ms\":%.2f,\"p99_ms\":%.2f,"
	       "\"bad\":%" PRIu64 ",\"complete\":%s,\"check\":\"%s\",\"error\":\"%s\"}\n",
		stats.acked, lost, reconnects, (double)(stats.stall_to - stats.stall_from) / 1e6,
		stats.stall_from, stats.stall_to, p50, p99, bad, complete ? "true" : "false",
		check_text, error_text);
	fflush(stdout);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: ftclient --host ADDRESS [--port N] [--seconds S] [--window N] [--think MS]\n"
		"                [--payload BYTES] [--patience S] [--report MS] [--log FILE] [--live] [--no-check]\n");
	exit(2);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {{"host", 1, 0, 'h'}, {"port", 1, 0, 'p'},
		{"seconds", 1, 0, 's'}, {"window", 1, 0, 'w'}, {"think", 1, 0, 't'},
		{"payload", 1, 0, 'b'}, {"patience", 1, 0, 'P'}, {"report", 1, 0, 'r'},
		{"log", 1, 0, 'l'}, {"live", 0, 0, 'L'}, {"no-check", 0, 0, 'C'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (c) {
		case 'h':
			opt.host = optarg;
			break;
		case 'p':
			opt.port = (uint16_t)atoi(optarg);
			break;
		case 's':
			opt.seconds = atof(optarg);
			break;
		case 'w':
			opt.window = (unsigned)atoi(optarg);
			break;
		case 't':
			opt.think = (uint64_t)(atof(optarg) * 1e6);
			break;
		case 'b':
			opt.payload = (unsigned)atoi(optarg);
			break;
		case 'P':
			opt.patience = atof(optarg);
			break;
		case 'r':
			opt.report = (uint64_t)(atof(optarg) * 1e6);
			break;
		case 'l':
			opt.log = optarg;
			break;
		case 'L':
			opt.live = true;
			break;
		case 'C':
			opt.check = false;
			break;
		default:
			usage();
		}
	}
	if (!opt.host || optind != argc || !opt.window || opt.window > 64 || !opt.payload ||
		opt.payload > 512 || !ftconn_address(&conn, opt.host, opt.port))
		usage();
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: poll is to return */
	bool complete = false;

	parse(argc, argv);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (opt.log && !(log_file = fopen(opt.log, "we"))) {
		fprintf(stderr, "ftclient: cannot write %s: %s\n", opt.log, strerror(errno));
		return 2;
	}
	if (!ftconn_open(&conn, ftconn_now() + (uint64_t)(opt.patience * 1e9), &give_up))
		note("cannot connect: %s", conn.why);
	else if (start_from_stat())
		complete = run();
	ftstats_end(&stats, ftconn_now());
	if (!complete && stats.acked && !give_up) {
		/* Answers that are still under way must not be taken for those of the
		 * verification. */
		ftconn_close(&conn);
		stats.sent = stats.acked;
		ftconn_open(&conn, ftconn_now() + 2 * SEC, &give_up);
	}
	if (conn.fd >= 0 && stats.acked)
		complete = verify() && complete;
	report("done", ftconn_now(), true);
	if (opt.live)
		fputc('\n', stderr);
	summary(complete);
	ftconn_close(&conn);
	if (log_file)
		fclose(log_file);
	free(stats.reqs);
	return complete && stats.acked && !lost && !bad && !reconnects ? 0 : 1;
}
