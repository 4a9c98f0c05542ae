// Robust futex lists, restartable sequences and clear_child_tid of every thread still work.
#include "subject.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sys/rseq.h>

static pthread_mutex_t robust;
static volatile int go, locked;

static struct rseq *rseq_area(void)
{
	return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void check_rseq(void)
{
	if (__rseq_size == 0)
		return;
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	MUST(sched_setaffinity(0, sizeof one, &one));
	CHECK((int)rseq_area()->cpu_id >= 0, "cpu_id %d: not registered", (int)rseq_area()->cpu_id);
	CHECK((int)rseq_area()->cpu_id == sched_getcpu());
	// A second registration of the same area says EBUSY: it is registered, with this length and signature.
	long again = syscall(SYS_rseq, rseq_area(), 32, 0, RSEQ_SIG);
	CHECK(again == -1 && errno == EBUSY, "rseq gave %ld, errno %d", again, errno);
}

static void *run(void *unused)
{
	pthread_mutex_lock(&robust);
	locked = 1;
	while (!go)
		tick();
	struct robust_list_head *head;
	size_t size;
	MUST(syscall(SYS_get_robust_list, 0, &head, &size));
	CHECK(size == sizeof *head && (void *)head->list.next != (void *)head, "an empty robust list");
	check_rseq();
	return unused; // and dies with the mutex locked
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_mutexattr_t attr;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
	while (!locked)
		tick();
	ready_and_wait();
	check_rseq();
	go = 1;
	// The join sleeps on the word that the kernel clears at the thread's exit.
	CHECK(pthread_join(thread, NULL) == 0);
	int lock = pthread_mutex_lock(&robust);
	CHECK(lock == EOWNERDEAD, "the lock of a dead owner gave %d", lock);
	return well();
}
