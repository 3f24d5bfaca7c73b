/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * framewatch: where is a VM visible?  Runs beside the lab's switch, looks at every frame that comes
 * in by the given ports, and keeps account of those whose source is one of the given MACs.
 *
 *   framewatch --port hostA=vm-hostA --port hostB=vm-hostB --mac 52:54:00:00:00:01 [--log FILE]
 *
 * On SIGTERM or SIGINT it prints one JSON object:
 *   {"macs":[{"mac","ports":[{"port","frames","bytes","first_ns","last_ns"}],
 *             "moves":[{"from","to","ns"}],"returns":N}],
 *    "announcements":[{"ns","mac","port","kind"}],"missed":N,"visible_twice":bool}
 * A move: the MAC's next frame came from another port.  A return: a move to a port that it had left
 * before; with no more than one failover in a run that means it was visible at two hosts.  One
 * socket receives from all ports, so the frames are seen in the order the kernel took them.
 * "missed" frames were lost by the capture: then the account says nothing.
 * --log writes "ns port mac ethertype bytes" for each frame.  Times are CLOCK_MONOTONIC.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORTS          16
#define MACS           16
#define MOVES          64
#define ANNOUNCEMENTS  256
#define ETHERTYPE_RARP 0x8035

struct port {
	char name[64];
	int ifindex;
};

struct presence {
	uint64_t frames, bytes, first, last;
};

struct move {
	unsigned from, to;
	uint64_t ns;
};

struct vm {
	uint8_t mac[ETH_ALEN];
	struct presence at[PORTS];
	bool left[PORTS]; /* it was there, and later elsewhere */
	int where;        /* -1: never seen */
	struct move moves[MOVES];
	unsigned n_moves;
	uint64_t returns;
};

struct announcement {
	uint64_t ns;
	unsigned vm, port;
	const char *kind;
};

static struct port ports[PORTS];
static struct vm vms[MACS];
static unsigned n_ports, n_vms;
static struct announcement ring[ANNOUNCEMENTS];
static uint64_t n_announcements;
static FILE *log_file;
static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = sig;
}

static void die(const char *what)
{
	fprintf(stderr, "framewatch: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The kernel stamps frames by the wall clock; we report the monotonic one. */
static uint64_t monotonic(const struct timespec *stamp)
{
	uint64_t real = (uint64_t)stamp->tv_sec * 1000000000u + (uint64_t)stamp->tv_nsec;

	return real - (now_ns(CLOCK_REALTIME) - now_ns(CLOCK_MONOTONIC));
}

static void moved(struct vm *v, unsigned to, uint64_t ns)
{
	v->left[v->where] = true;
	if (v->left[to])
		v->returns++;
	if (v->n_moves < MOVES)
		v->moves[v->n_moves++] = (struct move){(unsigned)v->where, to, ns};
}

static void announcement(unsigned vm, unsigned port, const uint8_t *frame, size_t len, uint64_t ns)
{
	uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);
	const char *kind = NULL;

	if (type == ETHERTYPE_RARP)
		kind = "rarp";
	else if (type == ETH_P_ARP && len >= 42 && !memcmp(frame + 28, frame + 38, 4))
		kind = "gratuitous-arp";
	if (kind)
		ring[n_announcements++ % ANNOUNCEMENTS] = (struct announcement){ns, vm, port, kind};
}

static void frame_seen(unsigned port, const uint8_t *frame, size_t len, size_t wire, uint64_t ns)
{
	for (unsigned i = 0; i < n_vms; i++) {
		struct vm *v = &vms[i];
		struct presence *p = &v->at[port];

		if (memcmp(frame + ETH_ALEN, v->mac, ETH_ALEN))
			continue;
		if (!p->frames++)
			p->first = ns;
		p->bytes += wire;
		p->last = ns;
		if (v->where >= 0 && v->where != (int)port)
			moved(v, port, ns);
		v->where = (int)port;
		announcement(i, port, frame, len, ns);
		if (log_file)
			fprintf(log_file,
				"%" PRIu64 " %s %02x:%02x:%02x:%02x:%02x:%02x %02x%02x %zu\n", ns,
				ports[port].name, v->mac[0], v->mac[1], v->mac[2], v->mac[3],
				v->mac[4], v->mac[5], frame[12], frame[13], wire);
		return;
	}
}

static void receive(int fd)
{
	uint8_t frame[128];
	char control[256];
	struct sockaddr_ll from;
	struct iovec iov = {frame, sizeof(frame)};
	struct msghdr m = {.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &m, MSG_TRUNC);
	uint64_t ns = 0;

	if (n < ETH_HLEN || from.sll_pkttype == PACKET_OUTGOING)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct timespec stamp;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
		ns = monotonic(&stamp);
	}
	for (unsigned i = 0; i < n_ports; i++)
		if (ports[i].ifindex == from.sll_ifindex)
			frame_seen(i, frame, (size_t)n < sizeof(frame) ? (size_t)n : sizeof(frame),
				(size_t)n, ns);
}

static bool print_vm(const struct vm *v)
{
	const char *comma = "";

	printf("{\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"ports\":[", v->mac[0], v->mac[1],
		v->mac[2], v->mac[3], v->mac[4], v->mac[5]);
	for (unsigned i = 0; i < n_ports; i++) {
		const struct presence *p = &v->at[i];

		if (!p->frames)
			continue;
		printf("%s{\"port\":\"%s\",\"frames\":%" PRIu64 ",\"bytes\":%" PRIu64
		       ",\"first_ns\":%" PRIu64 ",\"last_ns\":%" PRIu64 "}",
			comma, ports[i].name, p->frames, p->bytes, p->first, p->last);
		comma = ",";
	}
	printf("],\"moves\":[");
	for (unsigned i = 0; i < v->n_moves; i++)
		printf("%s{\"from\":\"%s\",\"to\":\"%s\",\"ns\":%" PRIu64 "}", i ? "," : "",
			ports[v->moves[i].from].name, ports[v->moves[i].to].name, v->moves[i].ns);
	printf("],\"returns\":%" PRIu64 "}", v->returns);
	return v->returns != 0;
}

static void print_summary(int fd)
{
	struct tpacket_stats st = {0};
	socklen_t len = sizeof(st);
	uint64_t first = n_announcements > ANNOUNCEMENTS ? n_announcements - ANNOUNCEMENTS : 0;
	bool twice = false;

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &st, &len);
	printf("{\"macs\":[");
	for (unsigned i = 0; i < n_vms; i++) {
		if (i)
			putchar(',');
		twice |= print_vm(&vms[i]);
	}
	printf("],\"announcements\":[");
	for (uint64_t i = first; i < n_announcements; i++) {
		const struct announcement *a = &ring[i % ANNOUNCEMENTS];
		const uint8_t *m = vms[a->vm].mac;

		printf("%s{\"ns\":%" PRIu64
		       ",\"mac\":\"%02x:%02x:%02x:%02x:%02x:%02x\",\"port\":\"%s\",\"kind\":\"%s\"}",
			i > first ? "," : "", a->ns, m[0], m[1], m[2], m[3], m[4], m[5],
			ports[a->port].name, a->kind);
	}
	printf("],\"missed\":%u,\"visible_twice\":%s}\n", st.tp_drops, twice ? "true" : "false");
	fflush(stdout);
}

static void add_port(const char *arg)
{
	const char *eq = strchr(arg, '=');

	if (!eq || n_ports == PORTS || (size_t)(eq - arg) >= sizeof(ports[0].name)) {
		errno = EINVAL;
		die(arg);
	}
	memcpy(ports[n_ports].name, arg, (size_t)(eq - arg));
	ports[n_ports].ifindex = (int)if_nametoindex(eq + 1);
	if (!ports[n_ports].ifindex)
		die(eq + 1);
	n_ports++;
}

static void add_mac(const char *arg)
{
	struct vm *v = &vms[n_vms];
	unsigned m[ETH_ALEN];

	if (n_vms == MACS || sscanf(arg, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4],
				     &m[5]) != ETH_ALEN) {
		errno = EINVAL;
		die(arg);
	}
	for (int i = 0; i < ETH_ALEN; i++)
		v->mac[i] = (uint8_t)m[i];
	v->where = -1;
	n_vms++;
}

/* The checkpoints cross the same switch: were they queued here too, a burst of them would push out
 * the frames that are to be seen. */
static void only_our_ports(int fd)
{
	struct sock_filter code[PORTS + 3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)(SKF_AD_OFF + SKF_AD_IFINDEX))};
	struct sock_fprog filter = {.len = n_ports + 3, .filter = code};

	for (unsigned i = 0; i < n_ports; i++)
		code[1 + i] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned)ports[i].ifindex, n_ports - i, 0);
	code[1 + n_ports] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	code[2 + n_ports] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffff);
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)))
		die("SO_ATTACH_FILTER");
}

static int capture_socket(void)
{
	/* a signal just before recvmsg would be slept over */
	struct timeval patience = {.tv_usec = 200000};
	int one = 1, bytes = 16 << 20,
	    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	if (fd < 0)
		die("cannot capture (needs root)");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one)))
		die("SO_TIMESTAMPNS");
	only_our_ports(fd);
	for (unsigned i = 0; i < n_ports; i++) {
		struct packet_mreq mr = {
			.mr_ifindex = ports[i].ifindex, .mr_type = PACKET_MR_PROMISC};

		if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof(mr)))
			die("promiscuous mode");
	}
	return fd;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", 1, 0, 'p'}, {"mac", 1, 0, 'm'}, {"log", 1, 0, 'l'}, {0}};
	struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: recvmsg is to return */
	int c, fd;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'p')
			add_port(optarg);
		else if (c == 'm')
			add_mac(optarg);
		else if (c == 'l' && !(log_file = fopen(optarg, "we")))
			die(optarg);
		else if (c == '?')
			return 2;
	}
	if (!n_ports || !n_vms || optind != argc) {
		fprintf(stderr,
			"usage: framewatch --port NAME=IFNAME... --mac MAC... [--log FILE]\n");
		return 2;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	fd = capture_socket();
	fprintf(stderr, "framewatch: ready\n");
	while (!stop)
		receive(fd);
	print_summary(fd);
	if (log_file)
		fclose(log_file);
	close(fd);
	return 0;
}
