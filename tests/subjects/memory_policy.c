// NUMA memory policies of threads and mappings, by system calls: the machine need not have libnuma, and has a node 0.
#include "subject.h"
#include <pthread.h>

#define PREFERRED 1
#define BIND 2
#define INTERLEAVE 3
#define LOCAL 4
#define STATIC (1 << 15)
#define RELATIVE (1 << 14)
#define OF_ADDRESS 2
#define NODES 1024

#define PARTS 6
static const int modes[PARTS] = {BIND, INTERLEAVE, PREFERRED, LOCAL, BIND | STATIC, INTERLEAVE | RELATIVE};
static char *area, *shared, *reserved;
static int go[2];
static _Atomic int threads_ready;

static void set(void *at, size_t length, int mode)
{
	unsigned long mask[NODES / 64] = {1};
	int has_nodes = mode != LOCAL && mode != 0;
	MUST(syscall(SYS_mbind, at, length, mode, has_nodes ? mask : NULL, NODES, 0));
}

static void is(void *at, int wanted)
{
	unsigned long mask[NODES / 64] = {0};
	int mode = -1;
	MUST(syscall(SYS_get_mempolicy, &mode, mask, NODES, at, at ? OF_ADDRESS : 0));
	CHECK(mode == wanted, "at %p: %#x", at, (unsigned)mode);
	CHECK(mask[0] == (wanted != LOCAL && wanted != 0), "at %p: %#lx", at, mask[0]);
}

static void policy(int mode)
{
	unsigned long mask[NODES / 64] = {1};
	MUST(syscall(SYS_set_mempolicy, mode, mask, NODES));
}

static void *plain(void *unused)
{
	is(NULL, 0);
	threads_ready++;
	wait_for_go(go[0]);
	is(NULL, 0);
	return unused;
}

static void *bound(void *unused)
{
	policy(BIND | STATIC);
	threads_ready++;
	wait_for_go(go[0]);
	is(NULL, BIND | STATIC);
	return unused;
}

static void all(void)
{
	for (int part = 0; part < PARTS; part++) {
		is(area + 2 * PAGE * part, modes[part]);
		CHECK(area[2 * PAGE * part] == 'a' + part);
	}
	is(shared, PREFERRED);
	is(reserved, BIND);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	unsigned long mask[NODES / 64] = {1};
	if (syscall(SYS_set_mempolicy, BIND, mask, NODES) == -1) {
		not_exercised("a kernel without NUMA");
		ready_and_wait();
		return well();
	}
	MUST(syscall(SYS_set_mempolicy, 0, NULL, 0));
	MUST(pipe2(go, O_CLOEXEC));
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	area = mmap(NULL, 2 * PARTS * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	reserved = mmap(NULL, 4 * PAGE, PROT_NONE, flags, -1, 0);
	CHECK(area != MAP_FAILED && shared != MAP_FAILED && reserved != MAP_FAILED);
	for (int part = 0; part < PARTS; part++) {
		set(area + 2 * PAGE * part, 2 * PAGE, modes[part]);
		area[2 * PAGE * part] = (char)('a' + part);
	}
	set(shared, 4 * PAGE, PREFERRED);
	set(reserved, 4 * PAGE, BIND);
	pthread_t threads[2];
	CHECK(pthread_create(&threads[0], NULL, plain, NULL) == 0);
	CHECK(pthread_create(&threads[1], NULL, bound, NULL) == 0);
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		close(go[1]);
		// What it has from its parent and what not.
		set(area, 2 * PAGE, 0);
		set(area + 2 * PAGE, 2 * PAGE, BIND);
		policy(PREFERRED);
		say_pid("child");
		wait_for_go(go[0]);
		is(area, 0);
		is(area + 2 * PAGE, BIND);
		is(area + 4 * PAGE, PREFERRED);
		is(NULL, PREFERRED);
		_exit(0);
	}
	policy(INTERLEAVE);
	while (threads_ready < 2 || !told("child"))
		tick();
	all();

	ready_and_wait();

	all();
	is(NULL, INTERLEAVE);
	close(go[1]);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	child_must_be_well(child);
	return well();
}
