/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fakes/faults.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool armed;
static unsigned first, after, calls;
static int fault;

void faults_arm(unsigned n, unsigned times, int code)
{
	pthread_mutex_lock(&lock);
	first = n;
	after = n + times;
	fault = code;
	calls = 0;
	armed = true;
	pthread_mutex_unlock(&lock);
}

unsigned faults_end(void)
{
	pthread_mutex_lock(&lock);
	armed = false;
	unsigned n = calls;
	pthread_mutex_unlock(&lock);
	return n;
}

int faults_next(void)
{
	int code = 0;
	pthread_mutex_lock(&lock);
	if (armed) {
		code = calls >= first && calls < after ? fault : 0;
		calls++;
	}
	pthread_mutex_unlock(&lock);
	return code;
}
