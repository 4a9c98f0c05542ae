// 64 threads that change nothing: some spin on one instruction, the others sleep in the kernel; each with registers and
// stack pages of its own. Nothing here checks itself: the test compares every byte from outside.
#include "subject.h"
#include <linux/futex.h>
#include <pthread.h>

#define THREADS 63 // and main
#define SPINNING 8
static int never;
static volatile int arrived;
static unsigned char patterns[THREADS][16 * 32];

static void spin(long n)
{
	unsigned char *pattern = patterns[n];
	asm volatile(
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu \\n*32(%[pattern]), %%xmm\\n\n .endr\n"
		"movq %[n], %%r8\n leaq 8(%%r8), %%r9\n leaq 9(%%r8), %%r10\n leaq 10(%%r8), %%r11\n"
		"leaq 11(%%r8), %%r12\n leaq 12(%%r8), %%r13\n leaq 13(%%r8), %%r14\n leaq 14(%%r8), %%r15\n"
		"lock incl %[arrived]\n"
		"1: jmp 1b\n"
		: [arrived] "+m"(arrived) : [pattern] "r"(pattern), [n] "r"(n)
		: "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
}

static void sleep_for_ever(long n)
{
	unsigned char *pattern = patterns[n];
	// A system call keeps all registers but rax, rcx and r11: each has a value of this thread.
	asm volatile(
		".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu \\n*32(%[pattern]), %%xmm\\n\n .endr\n"
		"leaq 11(%[n]), %%r12\n leaq 12(%[n]), %%r13\n leaq 13(%[n]), %%r14\n leaq 14(%[n]), %%r15\n"
		"lock incl %[arrived]\n"
		"movl $202, %%eax\n leaq %[never], %%rdi\n movl $128, %%esi\n xorl %%edx, %%edx\n xorl %%r10d, %%r10d\n"
		"xorl %%r8d, %%r8d\n xorl %%r9d, %%r9d\n"
		"syscall\n ud2\n"
		: [arrived] "+m"(arrived) : [pattern] "r"(pattern), [n] "r"(n), [never] "m"(never)
		: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
}

static void *run(void *arg)
{
	long n = (long)arg;
	char name[16], stack[3 * PAGE];
	snprintf(name, sizeof name, "thread %ld", n);
	pthread_setname_np(pthread_self(), name);
	memset(stack, (int)n, sizeof stack);
	asm volatile("" : : "r"(stack) : "memory");
	for (unsigned i = 0; i < sizeof patterns[n]; i++)
		patterns[n][i] = (unsigned char)(n * 17 + i * 5 + 3);
	if (n < SPINNING)
		spin(n);
	else
		sleep_for_ever(n);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	unsigned char *memory = mmap(NULL, 2000 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *shared = mmap(NULL, 100 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < 2000 * PAGE; i += 1 + i % 977)
		memory[i] = (unsigned char)(i * 2654435761u >> 24);
	for (unsigned i = 0; i < 100 * PAGE; i += 501)
		shared[i] = (unsigned char)(i >> 8);
	for (long n = 0; n < THREADS; n++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, run, (void *)n) == 0);
	}
	while (arrived < THREADS)
		tick();
	write_file("ready", "");
	for (;;)
		syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}
