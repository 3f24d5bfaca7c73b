/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dirtychild.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE   4096ull
#define RACERS 2
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct command {
	uint64_t op, seed, n;
};

static _Atomic bool racing;

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	return *s ^= *s << 17;
}

static uint64_t all_pages(const struct dirtychild *c)
{
	return (c->region[0].len + c->region[1].len) / PAGE;
}

static volatile uint8_t *page_at(const struct dirtychild *c, uint64_t i)
{
	uint64_t first = c->region[0].len / PAGE;
	return (volatile uint8_t *)(uintptr_t)(i < first ? c->region[0].addr + i * PAGE
							 : c->region[1].addr + (i - first) * PAGE);
}

void dirtychild_pages(const struct dirtychild *c, uint64_t seed, uint64_t n, uint8_t *bit)
{
	uint64_t s = seed * 2 + 1, pages = all_pages(c);
	memset(bit, 0, pages);
	if (n == pages / 2 && !seed) { /* every other page: as many ranges as there can be */
		for (uint64_t i = 0; i < pages; i += 2)
			bit[i] = 1;
		return;
	}
	for (uint64_t i = 0; i < 8; i++)
		next(&s);
	for (uint64_t i = 0; i < n; i++)
		bit[next(&s) % pages] = 1;
}

static void *race(void *arg)
{
	const struct dirtychild *c = arg;
	uint64_t s = (uint64_t)(uintptr_t)&s | 1, pages = all_pages(c);
	while (racing) {
		uint64_t r = next(&s);
		/* Half of the writes fall on few pages, which are hit while they are collected. */
		uint64_t i = r & 1 ? (r >> 8) % pages : (r >> 8) % 64;
		*(volatile uint64_t *)(page_at(c, i) + (r >> 50) % (PAGE / 8) * 8) = r;
		++*c->writes;
	}
	return NULL;
}

static int obey(struct dirtychild *c, const struct command *cmd, pthread_t *thread)
{
	uint64_t pages = all_pages(c);
	int pipefd[2], r = 0;
	uint8_t *bit = calloc(1, pages);
	switch ((enum dirtychild_op)cmd->op) {
	case DC_WRITE:
		dirtychild_pages(c, cmd->seed, cmd->n, bit);
		for (uint64_t i = 0; i < pages; i++)
			if (bit[i])
				++*page_at(c, i);
		break;
	case DC_READ_INTO:
		if (pipe(pipefd))
			return errno;
		dirtychild_pages(c, cmd->seed, cmd->n, bit);
		for (uint64_t i = 0; i < pages && !r; i++)
			if (bit[i] && (write(pipefd[1], "x", 1) != 1 ||
					      read(pipefd[0], (void *)page_at(c, i), 1) != 1))
				r = errno;
		close(pipefd[0]);
		close(pipefd[1]);
		break;
	case DC_TOUCH:
		for (uint64_t i = 0; i < pages; i++)
			(void)*page_at(c, i);
		break;
	case DC_UNMAP:
	case DC_COLLAPSE:
		for (int i = 0; i < DIRTYCHILD_REGIONS; i++)
			if (madvise((void *)(uintptr_t)c->region[i].addr, c->region[i].len,
				    cmd->op == DC_UNMAP ? MADV_DONTNEED : MADV_COLLAPSE))
				r = errno;
		break;
	case DC_RACE:
		racing = true;
		for (int i = 0; i < RACERS; i++)
			pthread_create(&thread[i], NULL, race, c);
		break;
	case DC_RACE_STOP:
		racing = false;
		for (int i = 0; i < RACERS; i++)
			pthread_join(thread[i], NULL);
		break;
	}
	free(bit);
	return r;
}

static void serve(struct dirtychild *c, int in, int out)
{
	pthread_t thread[RACERS];
	struct command cmd;
	ssize_t n;
	while ((n = read(in, &cmd, sizeof cmd)) == sizeof cmd) {
		int r = obey(c, &cmd, thread);
		if (write(out, &r, sizeof r) != sizeof r)
			break;
	}
	_exit(n < 0);
}

int dirtychild_start(struct dirtychild *c, uint64_t len0, uint64_t len1, unsigned int uid)
{
	int in[2], out[2];
	*c = (struct dirtychild){.region = {{0, len0}, {0, len1}}};
	if (pipe(in) || pipe(out))
		return -errno;
	c->writes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < DIRTYCHILD_REGIONS; i++) {
		uint64_t len = c->region[i].len;
		c->fd[i] = memfd_create("dirtychild", MFD_CLOEXEC);
		if (c->fd[i] < 0 || ftruncate(c->fd[i], (off_t)len))
			return -errno;
		c->map[i] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd[i], 0);
		/* Room for an aligned mapping in the child, at an address that is free there too.
		 */
		uint8_t *p =
			mmap(NULL, len + (2 << 20), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (c->map[i] == MAP_FAILED || p == MAP_FAILED)
			return -errno;
		c->region[i].addr = ((uintptr_t)p + (2 << 20) - 1) & ~((2ull << 20) - 1);
	}
	c->pid = fork();
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(in[1]);
		close(out[0]);
		for (int i = 0; i < DIRTYCHILD_REGIONS; i++) {
			munmap(c->map[i], c->region[i].len);
			/* cppcheck-suppress leakReturnValNotUsed ; until the child's end */
			if (mmap((void *)(uintptr_t)c->region[i].addr, c->region[i].len,
				    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, c->fd[i],
				    0) == MAP_FAILED)
				_exit(1);
		}
		if (uid && (setgid(uid) || setuid(uid)))
			_exit(1);
		int zero = 0;
		if (write(out[1], &zero, sizeof zero) == sizeof zero)
			serve(c, in[0], out[1]);
		_exit(1);
	}
	close(in[0]);
	close(out[1]);
	c->cmd = in[1];
	c->ack = out[0];
	int r;
	return read(c->ack, &r, sizeof r) == sizeof r ? 0 : -ECHILD;
}

int dirtychild_do(struct dirtychild *c, enum dirtychild_op op, uint64_t seed, uint64_t n)
{
	struct command cmd = {op, seed, n};
	int r;
	if (write(c->cmd, &cmd, sizeof cmd) != sizeof cmd || read(c->ack, &r, sizeof r) != sizeof r)
		return -EPIPE;
	return r;
}

void dirtychild_stop(struct dirtychild *c)
{
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	close(c->cmd);
	close(c->ack);
	for (int i = 0; i < DIRTYCHILD_REGIONS; i++) {
		munmap(c->map[i], c->region[i].len);
		close(c->fd[i]);
	}
	munmap((void *)c->writes, PAGE);
	c->pid = 0;
}
