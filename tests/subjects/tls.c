// FS and GS base, and thread-local variables, of several threads.
#include "subject.h"
#include <asm/prctl.h>
#include <pthread.h>

#define THREADS 4
static __thread int number = -1;
static volatile int go;
static uint64_t gs_memory[THREADS + 1];
static pthread_barrier_t started;

static void set_gs(int n)
{
	gs_memory[n] = 0xabc0ull + n;
	MUST(syscall(SYS_arch_prctl, ARCH_SET_GS, &gs_memory[n]));
	number = n;
}

static void check_gs(int n)
{
	uint64_t word, base;
	asm volatile("movq %%gs:0, %0" : "=r"(word));
	CHECK(word == 0xabc0ull + n, "gs:0 of thread %d is %lx", n, word);
	MUST(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
	CHECK(base == (uint64_t)&gs_memory[n]);
	CHECK(number == n, "thread-local variable of thread %d is %d", n, number);
	MUST(syscall(SYS_arch_prctl, ARCH_GET_FS, &base));
	CHECK(base == (uint64_t)pthread_self());
}

static void *run(void *n)
{
	set_gs((int)(long)n);
	pthread_barrier_wait(&started);
	while (!go)
		tick();
	check_gs((int)(long)n);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t threads[THREADS];
	pthread_barrier_init(&started, NULL, THREADS + 1);
	set_gs(THREADS);
	for (long n = 0; n < THREADS; n++)
		CHECK(pthread_create(&threads[n], NULL, run, (void *)n) == 0);
	pthread_barrier_wait(&started);
	ready_and_wait();
	check_gs(THREADS);
	go = 1;
	for (int n = 0; n < THREADS; n++)
		CHECK(pthread_join(threads[n], NULL) == 0);
	return well();
}
