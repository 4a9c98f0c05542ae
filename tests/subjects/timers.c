// Interval timers, and POSIX timers with their ids, what is left of them, their signals and overruns.
#include "subject.h"
#include <sys/time.h>

struct made {
	int id;
	int notify, clock;
	long seconds, interval;
};

static int create(int clock, int notify, int signal, int value)
{
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = signal, .sigev_value.sival_int = value };
	int id;
	if (notify == SIGEV_THREAD_ID)
		event._sigev_un._tid = gettid();
	MUST(syscall(SYS_timer_create, clock, &event, &id));
	return id;
}

static void arm(int id, long s, long ns, long interval_s, long interval_ns)
{
	struct itimerspec spec = { .it_value = { s, ns }, .it_interval = { interval_s, interval_ns } };
	MUST(syscall(SYS_timer_settime, id, 0, &spec, NULL));
}

static void check_left(int id, long s, long interval_s)
{
	struct itimerspec spec;
	MUST(syscall(SYS_timer_gettime, id, &spec));
	CHECK(spec.it_value.tv_sec < s && spec.it_value.tv_sec > s / 2, "timer %d has %ld s left of %ld", id, spec.it_value.tv_sec, s);
	CHECK(spec.it_interval.tv_sec == interval_s, "timer %d has interval %ld", id, spec.it_interval.tv_sec);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t set, only;
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	struct itimerval real = { .it_value = { 5000, 1 }, .it_interval = { 70, 0 } }, virtual = { .it_value = { 6000, 1 } },
			 profile = { .it_value = { 7000, 1 }, .it_interval = { 80, 0 } }, left;
	MUST(setitimer(ITIMER_REAL, &real, NULL));
	MUST(setitimer(ITIMER_VIRTUAL, &virtual, NULL));
	MUST(setitimer(ITIMER_PROF, &profile, NULL));

	int first = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 1, 11);
	int dropped = create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
	int second = create(CLOCK_REALTIME, SIGEV_NONE, 0, 0);
	int third = create(CLOCK_BOOTTIME, SIGEV_THREAD_ID, SIGRTMIN + 2, 12);
	int overrun = create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 3, 13);
	int disarmed = create(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGRTMIN + 4, 14);
	MUST(syscall(SYS_timer_delete, dropped));
	arm(first, 4000, 1, 90, 0);
	arm(second, 3000, 1, 0, 0);
	arm(third, 2000, 1, 60, 0);
	arm(overrun, 0, 1000000, 0, 1000000);
	struct timespec ms20 = { .tv_nsec = 20000000 };
	nanosleep(&ms20, NULL);
	ready_and_wait();

	MUST(getitimer(ITIMER_REAL, &left));
	CHECK(left.it_value.tv_sec < 5000 && left.it_value.tv_sec > 4000 && left.it_interval.tv_sec == 70);
	MUST(getitimer(ITIMER_VIRTUAL, &left));
	CHECK(left.it_value.tv_sec > 5000 && left.it_value.tv_sec <= 6000 && left.it_interval.tv_sec == 0);
	MUST(getitimer(ITIMER_PROF, &left));
	CHECK(left.it_value.tv_sec > 6000 && left.it_value.tv_sec <= 7000 && left.it_interval.tv_sec == 80);
	check_left(first, 4000, 90);
	check_left(second, 3000, 0);
	check_left(third, 2000, 60);
	struct itimerspec none;
	MUST(syscall(SYS_timer_gettime, disarmed, &none));
	CHECK(none.it_value.tv_sec == 0 && none.it_value.tv_nsec == 0);
	errno = 0;
	CHECK(syscall(SYS_timer_gettime, dropped, &none) == -1 && errno == EINVAL, "timer %d is back", dropped);

	sigemptyset(&only);
	sigaddset(&only, SIGRTMIN + 3);
	siginfo_t info;
	struct timespec patience = { .tv_sec = 120 };
	for (int i = 0; i < 3; i++) {
		int got = sigtimedwait(&only, &info, &patience);
		CHECK(got == SIGRTMIN + 3 && info.si_code == SI_TIMER && info.si_value.sival_int == 13, "signal %d", got);
		CHECK(info.si_timerid == overrun, "timer id %d", info.si_timerid);
	}
	// One that fires only now, to the thread that it names.
	arm(third, 0, 1000000, 0, 0);
	sigemptyset(&only);
	sigaddset(&only, SIGRTMIN + 2);
	CHECK(sigtimedwait(&only, &info, &patience) == SIGRTMIN + 2 && info.si_value.sival_int == 12);
	return well();
}
