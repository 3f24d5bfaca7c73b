/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "mcd/vm/make.h"

#include "common/cleanup.h"
#include "common/thread.h"
#include "mcd/vm/calls.h"
#include "mcd/vm/guest-clock.h"
#include "mcd/vm/private.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static struct vm *allocate(const struct vm_env *env, const char *name)
{
	struct vm *vm = calloc(1, sizeof *vm);
	struct vm_shared *shared = calloc(1, sizeof *shared);
	if (!vm || !shared) {
		free(vm);
		free(shared);
		return NULL;
	}
	vm->env = env;
	vm->shared = shared;
	snprintf(vm->name, sizeof vm->name, "%s", name);
	pthread_mutex_init(&shared->lock, NULL);
	shared->offer.fd = shared->disk_offer.fd = -1;
	for (size_t i = 0; i < RAMBLOCKS_MAX; i++)
		vm->ram_fds[i] = -1;
	shared->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->wake = epoll_create1(EPOLL_CLOEXEC);
	return vm;
}

int vm_new(const struct vm_env *env, const char *name, void *(*body)(void *vm), struct vm **ret,
	struct mc_error *err)
{
	struct vm *vm = allocate(env, name);
	if (!vm)
		return mc_error_set(err, -ENOMEM, MC_ECLASS_MEMORY, "out of memory");
	struct epoll_event ev = {.events = EPOLLIN};
	int r = vm->shared->bell < 0 || vm->wake < 0 ||
				epoll_ctl(vm->wake, EPOLL_CTL_ADD, vm->shared->bell, &ev) < 0
			? mc_error_set(err, -errno, MC_ECLASS_FAILED,
				  "VM %s: cannot make its wake-up descriptors: %s", name,
				  strerror(errno))
			: 0;
	if (r == 0)
		r = vm_clock_new(vm, &vm->clock, err);
	if (r == 0) {
		env->ops->known(env->ctx, name, &vm->shared->learned);
		vm->rec = vm->shared->learned;
		char thread[MC_THREAD_NAME + 1];
		snprintf(thread, sizeof thread, "vm %.12s", name);
		r = mc_thread_start(&vm->shared->thread, thread, body, vm);
		if (r < 0) {
			vm->shared->thread = 0;
			mc_error_set(err, r, MC_ECLASS_FAILED, "VM %s: cannot start its thread: %s",
				name, strerror(-r));
		}
	}
	if (r < 0) {
		vm_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	struct vm_shared *shared = vm->shared;
	if (shared->thread) {
		vm_ring(vm, WAKE_QUIT);
		pthread_join(shared->thread, NULL);
	}
	vm_clock_free(vm->clock);
	struct mc_error quit = MC_ERROR_INIT;
	mc_error_set(&quit, -ESHUTDOWN, MC_ECLASS_STATE, "mcd is shutting down");
	for (struct vm_call *c; (c = vm_next_call(vm));)
		vm_call_fail(c, &quit);
	if (shared->offer.fd >= 0)
		close(shared->offer.fd);
	if (shared->disk_offer.fd >= 0)
		close(shared->disk_offer.fd);
	if (shared->bell >= 0)
		close(shared->bell);
	if (vm->wake >= 0)
		close(vm->wake);
	pthread_mutex_destroy(&shared->lock);
	free(shared);
	free(vm);
}
