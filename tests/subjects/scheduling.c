// Name, nice, policy, affinity, timer slack and I/O priority, different ones on each thread.
#include "subject.h"
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static volatile int go, set;

#define IOPRIO_CLASS(data) ((data) >> 13)
static void *run(void *unused)
{
	cpu_set_t cpus, now;
	CPU_ZERO(&cpus);
	CPU_SET(1, &cpus);
	pthread_setname_np(pthread_self(), "a worker (x) y");
	MUST(setpriority(PRIO_PROCESS, gettid(), 7));
	MUST(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }));
	int two = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	if (two)
		MUST(sched_setaffinity(0, sizeof cpus, &cpus));
	MUST(prctl(PR_SET_TIMERSLACK, 123456));
	MUST(syscall(SYS_ioprio_set, 1, 0, 3 << 13));
	set = 1;
	while (!go)
		tick();
	char name[16];
	pthread_getname_np(pthread_self(), name, sizeof name);
	CHECK(!strcmp(name, "a worker (x) y"), "name %s", name);
	CHECK(getpriority(PRIO_PROCESS, gettid()) == 7);
	CHECK(sched_getscheduler(0) == SCHED_BATCH);
	MUST(sched_getaffinity(0, sizeof now, &now));
	CHECK(!two || CPU_EQUAL(&now, &cpus));
	CHECK(prctl(PR_GET_TIMERSLACK) == 123456);
	CHECK(syscall(SYS_ioprio_get, 1, 0) == 3 << 13);
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_t thread;
	MUST(setpriority(PRIO_PROCESS, 0, 3));
	MUST(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 5));
	CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
	while (!set)
		tick();
	ready_and_wait();
	CHECK(getpriority(PRIO_PROCESS, 0) == 3);
	CHECK(sched_getscheduler(0) == SCHED_OTHER);
	CHECK(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 5));
	CHECK(prctl(PR_GET_TIMERSLACK) == 50000);
	go = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	return well();
}
