/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ftguest: what runs in the demo's guest.  A TCP service (ftproto.h) over an in-memory log, in one
 * poll loop with a writer that dirties memory at a chosen rate (ftregion.h).
 *
 * It is the guest's init, and so its REBOOT, POWEROFF and PANIC are the whole machine's.
 *
 * With ft.disk=DEVICE, which /init has mounted on /log, every request is in a file there, and
 * that on stable storage, before it is answered.
 *
 *   ftguest [ft.port=7000] [ft.dirty=BYTES] [ft.period=MS] [ft.region=MB]
 *
 * The arguments stand on the kernel's command line too, which is read when there are none.
 */
#include "ftbench.h"
#include "ftclock.h"
#include "ftdisk.h"
#include "ftlog.h"
#include "ftproto.h"
#include "ftregion.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNS     64
#define OUT_BYTES 65536u
#define SLICE     64 /* pages written between two looks at the sockets: a fraction of a ms */
#define TICK_MS   4

struct conn {
	int fd; /* -1: free */
	size_t in_len, out_len;
	char in[FT_LINE_MAX], out[OUT_BYTES];
};

static struct conn conns[CONNS];
static struct ftlog requests;
static struct ftdisk disk = {.fd = -1};
static enum { STAY, REBOOT, POWEROFF, PANIC } leaving; /* once the answers are with the kernel */
static struct ftregion region;
static struct ftclock monotonic;

static uint64_t now_ns(void)
{
	return ftclock_now(&monotonic);
}

static uint64_t option(const char *line, const char *key, uint64_t fallback)
{
	const char *p = strstr(line, key);

	return p ? strtoull(p + strlen(key), NULL, 10) : fallback;
}

static void answer(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void answer(struct conn *c, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(c->out + c->out_len, OUT_BYTES - c->out_len, fmt, ap);
	va_end(ap);
	c->out_len += (size_t)n; /* room was made sure of by room_for_answer() */
}

static bool room_for_answer(const struct conn *c)
{
	return OUT_BYTES - c->out_len >= 512;
}

static void do_put(struct conn *c, char *args)
{
	const struct ftlog_entry *e;
	char *payload;
	uint64_t n = strtoull(args, &payload, 10), hash;

	if (payload == args || *payload != ' ') {
		answer(c, "ERR usage: PUT n payload\n");
		return;
	}
	payload++;
	hash = ft_hash(FT_FNV_BASIS, payload, strlen(payload));
	e = ftlog_get(&requests, n);
	if (e && e->payload != hash) {
		answer(c, "ERR request %" PRIu64 " was applied with another payload\n", n);
		return;
	}
	if (!e && n != requests.last + 1) {
		answer(c, "ERR request %" PRIu64 " does not follow %" PRIu64 "\n", n,
			requests.last);
		return;
	}
	if (!e) {
		if (!(e = ftlog_append(&requests, hash))) {
			answer(c, "ERR the log is full\n");
			return;
		}
		ftdisk_add(&disk, &requests, n);
	}
	answer(c, "OK %" PRIu64 " %016" PRIx64 "\n", n, e->chain);
}

static void do_get(struct conn *c, const char *args)
{
	uint64_t n = strtoull(args, NULL, 10);
	const struct ftlog_entry *e = ftlog_get(&requests, n);

	if (e)
		answer(c, "OK %" PRIu64 " %016" PRIx64 "\n", n, e->chain);
	else
		answer(c, "NONE %" PRIu64 "\n", n);
}

static void do_check(struct conn *c)
{
	uint64_t wrong = ftlog_check(&requests);
	char text[256];

	if (wrong) {
		answer(c, "CHECK BAD log=%" PRIu64 "\n", wrong);
		return;
	}
	if (monotonic.back) {
		answer(c, "CHECK BAD clock=%" PRIu64 "\n", monotonic.back);
		return;
	}
	ftregion_check(&region, text, sizeof(text));
	answer(c, "CHECK %s log=%" PRIu64 "\n", text, requests.last);
}

static void do_time(struct conn *c)
{
	char text[256];

	ftclock_describe(&monotonic, text, sizeof(text));
	answer(c, "TIME %s\n", text);
}

static void do_rate(struct conn *c, const char *args)
{
	uint64_t bytes = strtoull(args, NULL, 10);

	ftregion_set_rate(&region, bytes, now_ns());
	answer(c, "OK %" PRIu64 "\n", bytes);
}

static void conn_close(struct conn *c)
{
	close(c->fd);
	c->fd = -1;
}

/* The answer, and the connection with it, is the child's. */
static void do_bench(struct conn *c, const char *args)
{
	char kind[16] = "";
	unsigned ms = 0;

	if (disk.fd < 0 || sscanf(args, "%15s %u", kind, &ms) != 2) {
		answer(c, "ERR usage: DISKBENCH fsync|write ms, of a guest with a disk\n");
		return;
	}
	ftbench_start(c->fd, "/log/bench", kind, ms);
	conn_close(c);
}

static void do_line(struct conn *c, char *line)
{
	const struct ftlog_entry *e = ftlog_get(&requests, requests.last);

	if (!strncmp(line, "PUT ", 4))
		do_put(c, line + 4);
	else if (!strncmp(line, "GET ", 4))
		do_get(c, line + 4);
	else if (!strcmp(line, "CHECK"))
		do_check(c);
	else if (!strcmp(line, "TIME"))
		do_time(c);
	else if (!strncmp(line, "RATE ", 5))
		do_rate(c, line + 5);
	else if (!strncmp(line, "DISKBENCH ", 10))
		do_bench(c, line + 10);
	else if (!strcmp(line, "STAT"))
		answer(c,
			"STAT %" PRIu64 " %016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64
			" %" PRIu64 " %" PRIu64 "\n",
			requests.last, e ? e->chain : 0, now_ns(), region.written, region.lap,
			region.cursor, region.bad);
	else if (!strcmp(line, "REBOOT") || !strcmp(line, "POWEROFF") || !strcmp(line, "PANIC")) {
		leaving = *line == 'R' ? REBOOT : line[1] == 'O' ? POWEROFF : PANIC;
		answer(c, "BYE %" PRIu64 "\n", requests.last);
	} else
		answer(c, "ERR unknown request\n");
}

/* The machine's end as the guest's own wish.  A virtio NIC is told of a frame within send(), but
 * QEMU takes it a moment later, and a reset throws away what it has not taken. */
static void leave(void)
{
	int fd;

	usleep(10000);
	if (leaving == REBOOT)
		reboot(RB_AUTOBOOT);
	else if (leaving == POWEROFF)
		reboot(RB_POWER_OFF);
	else if ((fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC)) >= 0 &&
		 write(fd, "c", 1) < 0)
		perror("ftguest: /proc/sysrq-trigger");
	leaving = STAY;
	/* cppcheck-suppress resourceLeak ; with the machine */
}

static void conn_write(struct conn *c)
{
	ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_close(c);
		return;
	}
	memmove(c->out, c->out + n, c->out_len - (size_t)n);
	c->out_len -= (size_t)n;
}

/* Serves the whole lines that have arrived, as far as there is room for the answers. */
static void conn_serve(struct conn *c)
{
	size_t at = 0;

	while (c->fd >= 0 && room_for_answer(c)) {
		char *end = memchr(c->in + at, '\n', c->in_len - at);

		if (!end)
			break;
		*end = '\0';
		do_line(c, c->in + at);
		at = (size_t)(end - c->in) + 1;
	}
	if (c->fd < 0)
		return;
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	if (c->in_len == sizeof(c->in) && !memchr(c->in, '\n', c->in_len)) {
		conn_close(c); /* a line too long for us */
		return;
	}
	if (!ftdisk_sync(&disk)) { /* not on the disk, so not answered */
		printf("ftguest: the log cannot be written: %m\n");
		c->out_len = 0;
		conn_close(c);
		return;
	}
	if (c->out_len)
		conn_write(c);
}

static void conn_read(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	c->in_len += (size_t)n;
}

static void accept_one(int listener)
{
	int one = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (size_t i = 0; i < CONNS; i++) {
		if (conns[i].fd >= 0)
			continue;
		conns[i].fd = fd;
		conns[i].in_len = conns[i].out_len = 0;
		return;
	}
	close(fd);
}

static void serve(int listener)
{
	struct pollfd p[CONNS + 1];
	uint64_t left = 0;

	for (;;) {
		p[CONNS] = (struct pollfd){.fd = listener, .events = POLLIN};
		for (size_t i = 0; i < CONNS; i++) {
			struct conn *c = &conns[i];

			p[i] = (struct pollfd){.fd = c->fd};
			if (c->in_len < sizeof(c->in) && room_for_answer(c))
				p[i].events |= POLLIN;
			if (c->out_len)
				p[i].events |= POLLOUT;
		}
		if (poll(p, CONNS + 1,
			    left                ? 0
			    : region.per_period ? TICK_MS
						: -1) < 0 &&
			errno != EINTR)
			return;
		if (p[CONNS].revents)
			accept_one(listener);
		for (size_t i = 0; i < CONNS; i++) {
			if (conns[i].fd < 0 || conns[i].fd != p[i].fd || !p[i].revents)
				continue;
			if (p[i].revents & POLLOUT)
				conn_write(&conns[i]);
			if (conns[i].fd >= 0 && p[i].revents & (POLLIN | POLLHUP | POLLERR))
				conn_read(&conns[i]);
			if (conns[i].fd >= 0)
				conn_serve(&conns[i]);
		}
		if (leaving)
			leave();
		left = ftregion_write_due(&region, now_ns(), SLICE);
	}
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in6 sin = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int one = 1, zero = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0) { /* a kernel without IPv6 */
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		return fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 16)
			       ? -1
			       : fd;
	}
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(fd, (struct sockaddr *)&sin, sizeof(sin)) || listen(fd, 16) ? -1 : fd;
}

int main(int argc, char **argv)
{
	char line[4096] = "";
	size_t len = 0;
	int listener;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i < argc && len < sizeof(line); i++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "%s ", argv[i]);
	if (argc < 2) {
		FILE *f = fopen("/proc/cmdline", "re");

		if (!f || !fgets(line, sizeof(line), f))
			fprintf(stderr, "ftguest: no /proc/cmdline, going on with defaults\n");
		if (f)
			fclose(f);
	}
	for (size_t i = 0; i < CONNS; i++)
		conns[i].fd = -1;
	if (!ftregion_init(&region, option(line, "ft.region=", 64) << 20,
		    option(line, "ft.dirty=", 0),
		    (option(line, "ft.period=", 100) + !option(line, "ft.period=", 100)) * 1000000u,
		    now_ns())) {
		printf("NOMEM: give the guest more memory than ft.region\n");
		return 1;
	}
	if (strstr(line, "ft.disk=") && !ftdisk_open(&disk, "/log/requests", &requests))
		return 1;
	listener = listen_on((uint16_t)option(line, "ft.port=", FT_PORT));
	if (listener < 0) {
		printf("ftguest: cannot listen: %s\n", strerror(errno));
		return 1;
	}
	printf("READY port=%u pages=%" PRIu64 "\n", (unsigned)option(line, "ft.port=", FT_PORT),
		region.pages);
	serve(listener);
	return 1;
}
