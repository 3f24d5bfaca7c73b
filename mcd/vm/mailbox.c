/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/mailbox.h"

#include "common/cleanup.h"
#include "common/clock.h"
#include "mcd/vm/private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

void vm_ring(struct vm *vm, unsigned bit)
{
	/* The bit first: whoever hears the bell must find it. */
	atomic_fetch_or(&vm->shared->pending, bit);
	uint64_t one = 1;
	ssize_t n = write(vm->shared->bell, &one, sizeof one);
	(void)n; /* EAGAIN: it is ringing anyway */
}

unsigned vm_take_pending(struct vm *vm)
{
	uint64_t n;
	ssize_t r = read(vm->shared->bell, &n, sizeof n);
	(void)r;
	unsigned pending = atomic_exchange(&vm->shared->pending, 0);
	vm->quit |= (pending & WAKE_QUIT) != 0;
	return pending;
}

void vm_wait(struct vm *vm, uint64_t deadline)
{
	struct pollfd p = {.fd = vm->wake, .events = POLLIN};
	while (poll(&p, 1, mc_ms_left(deadline)) < 0 && errno == EINTR)
		;
}

/* --- calls ------------------------------------------------------------------------------------ */

void vm_call(struct vm *vm, struct vm_call *c)
{
	c->next = NULL;
	vm_lock(vm);
	struct vm_call **p = &vm->shared->calls;
	while (*p)
		p = &(*p)->next;
	*p = c;
	vm_unlock(vm);
	vm_ring(vm, WAKE_CALL);
}

struct vm_call *vm_next_call(struct vm *vm)
{
	vm_lock(vm);
	struct vm_call *c = vm->shared->calls;
	if (c)
		vm->shared->calls = c->next;
	vm_unlock(vm);
	return c;
}

void vm_keep_call(struct vm *vm, struct vm_call *c)
{
	vm_lock(vm);
	c->next = vm->shared->calls;
	vm->shared->calls = c;
	vm_unlock(vm);
	vm_ring(vm, WAKE_CALL);
}

/* --- offers ----------------------------------------------------------------------------------- */

void vm_offer_peer(struct vm *vm, int fd, const struct link_peer *peer)
{
	vm_lock(vm);
	_cleanup_close_ int old = vm->shared->offer.fd;
	vm->shared->offer.fd = fd;
	vm->shared->offer.peer = *peer;
	vm_unlock(vm);
	vm_ring(vm, WAKE_PEER);
}

void vm_offer_disk(struct vm *vm, int fd, const struct link_peer *peer)
{
	vm_lock(vm);
	_cleanup_close_ int old = vm->shared->disk_offer.fd;
	vm->shared->disk_offer.fd = fd;
	vm->shared->disk_offer.peer = *peer;
	vm_unlock(vm);
	vm_ring(vm, WAKE_DISK);
}

int vm_take_offer(struct vm *vm, struct link_peer *ret_peer)
{
	vm_lock(vm);
	int fd = mc_steal_fd(&vm->shared->offer.fd);
	if (fd >= 0)
		*ret_peer = vm->shared->offer.peer;
	vm_unlock(vm);
	return fd;
}

int vm_take_disk_offer(struct vm *vm, struct link_peer *ret_peer)
{
	vm_lock(vm);
	int fd = mc_steal_fd(&vm->shared->disk_offer.fd);
	if (fd >= 0)
		*ret_peer = vm->shared->disk_offer.peer;
	vm_unlock(vm);
	return fd;
}

bool vm_offered_by(struct vm *vm, const char *host)
{
	vm_lock(vm);
	bool yes = vm->shared->offer.fd >= 0 && !strcmp(vm->shared->offer.peer.name, host);
	vm_unlock(vm);
	return yes;
}
