/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * test-commit BACKEND - no output of an epoch that is not acknowledged is seen on the network, of
 * no ethertype, whenever the process that holds it is killed; none changes its order, and none that
 * should come out is lost.
 *
 * The guest is a thread that sends numbered frames into two taps and stops when told, as QEMU does.
 * The holder is a process that drives a netbuf through epochs, writes down what it permits before
 * it does, and is killed.  The network is a bridge with a veth pair behind it, where a thread
 * writes down each frame with the kernel's time of arrival.  Afterwards both are compared.
 */
#include "testnet.h"

#include "common/cleanup.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NICS       2
#define EPOCHS_MAX 512
#define OPENS_MAX  64
#define FRAMES_MAX 400000
#define FRAME_LEN  64
#define NUMBER_AT  56
#define LIMIT      (64 << 20)

enum step {
	NOWHERE,
	OPENED,
	PASSED,
	HELD,
	BEFORE_BARRIER,
	AFTER_BARRIER,
	BEFORE_ACK,
	BEFORE_RELEASE,
	AFTER_RELEASE,
	ADOPTED,
	ADOPTED_PASSED,
	ADOPTED_HELD,
	N_STEPS
};

static const char *const step_names[N_STEPS] = {"nowhere", "opened", "passed", "held",
	"before the barrier", "after the barrier", "before the acknowledgement",
	"before the release", "after the release", "adopted", "passed after the adoption",
	"held after the adoption"};

/* Shared by all processes. */
static struct world {
	atomic_bool stop, stopped, quit, ready;
	atomic_uint sent;      /* number of the newest frame: 1, 2, ... */
	atomic_int taps[NICS]; /* in the holder */
	atomic_uint n_epochs;
	struct {
		atomic_uint end;     /* newest frame of it; 0: not ended */
		_Atomic int64_t ack; /* when it was permitted to go; 0: not yet */
	} epochs[EPOCHS_MAX];
	atomic_uint n_opens;
	struct {
		_Atomic int64_t from, to; /* 0: no end yet */
		atomic_uint last;         /* newest frame when it had ended */
	} opens[OPENS_MAX];
} * w;

static struct seen {
	int64_t when;
	uint32_t number;
	uint8_t nic, kind;
} * seen;
static size_t n_seen;
static atomic_bool watch_quit;
static int guest_taps[NICS] = {-1, -1};

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* ---- the guest ---- */

static const uint16_t kinds[] = {ETH_P_IP, ETH_P_IPV6, ETH_P_ARP, TN_LOCAL, 0x88cc, 0x8847};
#define N_KINDS (sizeof kinds / sizeof *kinds)

static void send_one(uint32_t number)
{
	uint8_t f[10 + FRAME_LEN] = {0}, *e = f + 10;
	size_t nic = number % NICS, kind = number / NICS % N_KINDS;
	memcpy(e, kind == 2 ? tn_broadcast : tn_peer, 6);
	memcpy(e + 6, tn_mac, 6);
	e[11] = (uint8_t)(1 + nic);
	e[12] = (uint8_t)(kinds[kind] >> 8);
	e[13] = (uint8_t)kinds[kind];
	if (kinds[kind] == ETH_P_IP)
		memcpy(e + 14, "\x45\0\0\x32\0\0\0\0\x40\x11\x66\xa7\x0a\x09\0\1\x0a\x09\0\2", 20);
	if (kinds[kind] == ETH_P_IPV6)
		memcpy(e + 14, "\x60\0\0\0\0\x0a\x3b\x40\xfe\x80", 10);
	if (kinds[kind] == ETH_P_ARP)
		memcpy(e + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(e + NUMBER_AT, &number, 4);
	e[NUMBER_AT + 4] = (uint8_t)nic;
	e[NUMBER_AT + 5] = (uint8_t)kind;
	/* A tap that is down takes nothing: the guest's frame is lost, as without a cable. */
	if (write(guest_taps[nic], f, sizeof f) < 0 && errno != EIO)
		fprintf(stderr, "the guest cannot send: %m\n");
}

static void *guest_main(void *unused)
{
	while (!w->quit) {
		if (w->stop) {
			w->stopped = true;
			usleep(50);
			continue;
		}
		w->stopped = false;
		for (int i = 0; i < 8 && !w->stop; i++) {
			w->sent++;
			send_one(w->sent);
		}
		usleep(150);
	}
	return NULL;
}

static void guest_stop(void)
{
	w->stopped = false;
	w->stop = true;
	while (!w->stopped)
		usleep(20);
}

/* ---- the network ---- */

static void *watch_main(void *arg)
{
	int fd = *(int *)arg;
	for (;;) {
		struct pollfd p = {fd, POLLIN, 0};
		if (poll(&p, 1, 20) != 1) {
			if (watch_quit)
				return NULL;
			continue;
		}
		uint8_t f[10 + 2048];
		union {
			struct cmsghdr align;
			char buf[256];
		} control;
		struct iovec iov = {f, sizeof f};
		struct msghdr m = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof control};
		struct sockaddr_ll sll = {0};
		m.msg_name = &sll;
		m.msg_namelen = sizeof sll;
		ssize_t n = recvmsg(fd, &m, 0);
		struct timespec t = {0};
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
			if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS)
				memcpy(&t, CMSG_DATA(c), sizeof t);
		/* Ours are from 52:54:00:00:00:0x; RARP is an announcement. */
		if (sll.sll_pkttype != PACKET_OUTGOING || n != 10 + FRAME_LEN ||
			memcmp(f + 16, tn_mac, 5) || n_seen == FRAMES_MAX)
			continue;
		struct seen *s = &seen[n_seen++];
		s->when = t.tv_sec * 1000000000ll + t.tv_nsec;
		memcpy(&s->number, f + 10 + NUMBER_AT, 4);
		s->nic = f[10 + NUMBER_AT + 4];
		s->kind = f[10 + NUMBER_AT + 5];
	}
}

/* ---- the holder ---- */

#define DO(call)                                                                                   \
	do {                                                                                       \
		struct mc_error err = MC_ERROR_INIT;                                               \
		if ((call) < 0) {                                                                  \
			fprintf(stderr, "%s: %s\n", #call, err.msg);                               \
			_exit(3);                                                                  \
		}                                                                                  \
	} while (0)

struct plan {
	enum step die_at;
	unsigned die_in; /* epoch, counted from 1 */
	unsigned epochs; /* after them: the end, in order */
	bool adopt, lose;
};

static void at(const struct plan *plan, enum step here, unsigned epoch)
{
	if (plan->die_at == here && (!epoch || epoch == plan->die_in)) {
		kill(getpid(), SIGKILL);
		pause();
	}
}

static void permit_all(void)
{
	w->opens[w->n_opens].from = now();
	w->n_opens++;
}

static void forbid_all(void)
{
	if (!w->n_opens || w->opens[w->n_opens - 1].to)
		return;
	w->opens[w->n_opens - 1].last = w->sent;
	w->opens[w->n_opens - 1].to = now();
}

static void hold(struct netbuf *nb)
{
	guest_stop();
	DO(netbuf_hold(nb, 1, &err));
	forbid_all();
}

static void run_epoch(struct netbuf *nb, const struct plan *plan, unsigned n)
{
	w->stop = false;
	usleep(1500);
	guest_stop();
	at(plan, BEFORE_BARRIER, n);
	DO(netbuf_barrier(nb, n, &err));
	unsigned i = w->n_epochs;
	w->epochs[i].end = w->sent;
	w->n_epochs++;
	at(plan, AFTER_BARRIER, n);
	w->stop = false;
	usleep(1000);
	at(plan, BEFORE_ACK, n);
	w->epochs[i].ack = now();
	at(plan, BEFORE_RELEASE, n);
	DO(netbuf_release(nb, n, &err));
	at(plan, AFTER_RELEASE, n);
}

static void holder_main(const struct plan *plan)
{
	struct netbuf_nic nics[NICS] = {0};
	for (size_t i = 0; i < NICS; i++) {
		snprintf(nics[i].id, sizeof nics[i].id, "net%zu", i);
		strcpy(nics[i].bridge, "br0");
		memcpy(nics[i].mac, tn_mac, 6);
		nics[i].mac[5] = (uint8_t)(1 + i);
	}
	struct netbuf_config cfg = {
		.vm = "vm1", .backend = tn_backend, .nics = nics, .n_nics = NICS, .limit = LIMIT};
	struct netbuf *nb = NULL;
	if (plan->adopt) {
		DO(netbuf_adopt(&cfg, guest_taps, &nb, &err));
		forbid_all();
		at(plan, ADOPTED, 0);
		usleep(3000);
		if (plan->lose) {
			DO(netbuf_shut(nb, &err));
			w->stop = false;
			usleep(10000);
			guest_stop();
			netbuf_close(nb);
			_exit(0);
		}
	} else {
		DO(netbuf_open(&cfg, &nb, &err));
		for (size_t i = 0; i < NICS; i++)
			w->taps[i] = netbuf_guest_fd(nb, i);
		while (!w->ready) /* until the guest has them */
			usleep(100);
		at(plan, OPENED, 0);
	}
	permit_all();
	DO(netbuf_pass(nb, &err));
	w->stop = false;
	usleep(2000);
	at(plan, plan->adopt ? ADOPTED_PASSED : PASSED, 0);
	hold(nb);
	at(plan, plan->adopt ? ADOPTED_HELD : HELD, 0);
	for (unsigned n = 1; n <= plan->epochs; n++)
		run_epoch(nb, plan, n);
	guest_stop();
	/* Two more: the last frames, and an epoch without any. */
	for (unsigned n = plan->epochs + 1; n <= plan->epochs + 2; n++) {
		DO(netbuf_barrier(nb, n, &err));
		unsigned i = w->n_epochs++;
		w->epochs[i].end = w->sent;
		w->epochs[i].ack = now();
		DO(netbuf_release(nb, n, &err));
	}
	usleep(20000);
	struct netbuf_stats st;
	netbuf_get_stats(nb, &st);
	if (st.lost_frames || st.held_frames)
		fprintf(stderr, "%llu lost, %llu held at the end\n",
			(unsigned long long)st.lost_frames, (unsigned long long)st.held_frames);
	_exit(st.lost_frames || st.held_frames ? 4 : 0);
}

static pid_t holder(const struct plan *plan)
{
	pid_t pid = fork();
	assert_return_code(pid, errno);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		holder_main(plan);
	}
	if (plan->adopt)
		return pid;
	/* As a later mcd takes them from QEMU, which here is us. */
	while (w->taps[NICS - 1] < 0)
		if (waitpid(pid, NULL, WNOHANG) == pid)
			fail_msg("the holder ended");
		else
			usleep(200);
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	for (size_t i = 0; i < NICS; i++) {
		guest_taps[i] = (int)syscall(SYS_pidfd_getfd, pidfd, w->taps[i], 0);
		assert_return_code(guest_taps[i], errno);
	}
	w->ready = true;
	return pid;
}

/* ---- the judge ---- */

static bool permitted(const struct seen *s)
{
	for (unsigned i = 0; i < w->n_opens; i++)
		if (s->when >= w->opens[i].from && (!w->opens[i].to || s->when <= w->opens[i].to ||
							   s->number <= w->opens[i].last))
			return true;
	for (unsigned i = 0; i < w->n_epochs; i++)
		if (s->number <= w->epochs[i].end)
			return w->epochs[i].ack && s->when >= w->epochs[i].ack;
	return false;
}

/* complete: every frame ever sent must have come out. */
static void judge(const char *what, bool complete)
{
	uint32_t last[NICS] = {0};
	size_t by_kind[N_KINDS] = {0}, leaked = 0, disordered = 0;
	for (size_t i = 0; i < n_seen; i++) {
		const struct seen *s = &seen[i];
		assert_true(s->nic < NICS && s->kind < N_KINDS);
		leaked += !permitted(s);
		disordered += s->number <= last[s->nic];
		last[s->nic] = s->number;
		by_kind[s->kind]++;
	}
	if (leaked || disordered)
		fail_msg("killed %s: %zu of %zu frames came out before they were permitted, %zu "
			 "out of order",
			what, leaked, n_seen, disordered);
	if (complete && n_seen != w->sent)
		fail_msg("killed %s: %zu of %u frames came out", what, n_seen, w->sent);
	for (size_t k = 0; k < N_KINDS && complete; k++)
		if (!by_kind[k])
			fail_msg("killed %s: no frame of ethertype %04x came out", what, kinds[k]);
}

static struct run {
	pthread_t guest, watch;
	int fd;
} run;

static void begin(void)
{
	memset(w, 0, sizeof *w);
	w->stop = true;
	for (size_t i = 0; i < NICS; i++)
		w->taps[i] = -1;
	n_seen = 0;
	watch_quit = false;
	/* What leaves the bridge at a port.  Behind a veth pair a frame waits once more, on the CPU
	 * that sent it, and two that left in order may arrive in another. */
	run.fd = tn_watch("v0");
	int on = 1, off = 0;
	assert_return_code(
		setsockopt(run.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &off, sizeof off), errno);
	assert_return_code(setsockopt(run.fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), errno);
	pthread_create(&run.watch, NULL, watch_main, &run.fd);
}

static void end(void)
{
	w->quit = true;
	pthread_join(run.guest, NULL);
	usleep(20000);
	watch_quit = true;
	pthread_join(run.watch, NULL);
	close(run.fd);
	for (size_t i = 0; i < NICS; i++)
		mc_closep(&guest_taps[i]);
}

static int ended(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool keeps_frames(void)
{
	return !strcmp(tn_backend, "plug");
}

/* A holder that dies as planned (or when `after` is over), then one that adopts what is there. */
static void live_through(const struct plan *first, const struct plan *second, useconds_t after)
{
	begin();
	pid_t pid = holder(first);
	pthread_create(&run.guest, NULL, guest_main, NULL);
	if (after) {
		usleep(after);
		kill(pid, SIGKILL);
	}
	assert_int_equal(ended(pid), first->die_at || after ? -SIGKILL : 0);
	usleep(2000); /* the guest lives and sends */
	if (second && second->die_at) {
		assert_int_equal(ended(holder(second)), -SIGKILL);
		usleep(1000);
	}
	static const struct plan owner = {.adopt = true, .epochs = 3};
	static const struct plan loser = {.adopt = true, .lose = true};
	if (first->die_at || after)
		assert_int_equal(ended(holder(second && second->lose ? &loser : &owner)), 0);
	end();
}

/* Of the relay nothing is left to go wrong when its process is dead. */
static unsigned rounds(unsigned n)
{
	return keeps_frames() ? n : 1;
}

static void test_nobody_dies(void **state)
{
	struct plan calm = {.epochs = 30};
	live_through(&calm, NULL, 0);
	judge("nowhere", true);
}

static void test_killed_at_each_step(void **state)
{
	for (enum step s = OPENED; s <= AFTER_RELEASE; s++) {
		struct plan first = {.die_at = s, .die_in = 2, .epochs = 3};
		live_through(&first, NULL, 0);
		/* Nothing was permitted before the adoption, so nothing was lost, either. */
		judge(step_names[s], keeps_frames() && s != OPENED);
	}
}

static void test_killed_after_adopting(void **state)
{
	static const enum step deaths[] = {AFTER_BARRIER, PASSED};
	for (enum step s = ADOPTED; s <= ADOPTED_HELD; s++)
		for (size_t i = 0; i < rounds(2); i++) {
			struct plan first = {.die_at = deaths[i], .die_in = 2, .epochs = 5};
			struct plan second = {.die_at = s, .adopt = true, .epochs = 2};
			live_through(&first, &second, 0);
			judge(step_names[s], keeps_frames());
		}
}

static void test_killed_at_any_moment(void **state)
{
	srandom(5);
	for (unsigned i = 0; i < rounds(6); i++) {
		struct plan first = {.epochs = 1000};
		char what[60];
		useconds_t after = 3000 + (useconds_t)(random() % 20000);
		snprintf(what, sizeof what, "after %u us", after);
		live_through(&first, NULL, after);
		/* It may have been before it was opened for the first time. */
		judge(what, keeps_frames() && w->n_opens > 1);
	}
}

static void test_a_loser_stays_silent(void **state)
{
	static const enum step deaths[] = {HELD, AFTER_BARRIER, BEFORE_RELEASE, AFTER_RELEASE};
	for (size_t i = 0; i < 4; i++) {
		struct plan first = {.die_at = deaths[i], .die_in = 2, .epochs = 5};
		struct plan second = {.adopt = true, .lose = true};
		live_through(&first, &second, 0);
		judge(step_names[deaths[i]], false);
	}
}

static int enter(void **state)
{
	tn_enter_bridge(state);
	w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	seen = calloc(FRAMES_MAX, sizeof *seen);
	assert_true(w != MAP_FAILED && seen);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_dies),
		cmocka_unit_test(test_killed_at_each_step),
		cmocka_unit_test(test_killed_after_adopting),
		cmocka_unit_test(test_killed_at_any_moment),
		cmocka_unit_test(test_a_loser_stays_silent),
	};
	if (argc > 1)
		tn_backend = argv[1];
	return cmocka_run_group_tests_name("netbuf: output commit", tests, enter, NULL);
}
