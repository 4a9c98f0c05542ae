// Children with clocks of their own: of a namespace that their parent asked for (unshare --time), and of one that a process has gone to itself; and a process that
// has asked for clocks and has no children yet.
#include "subject.h"
#include <pthread.h>
#include <sys/timerfd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
// No test takes as long, s.
#define LONG 100000

static int go[2];

// New clocks for the children of this process.
static void ask(long monotonic, long boottime)
{
	char text[128];
	MUST(unshare(CLONE_NEWTIME));
	snprintf(text, sizeof text, "monotonic %ld 250000000\nboottime %ld 0\n", monotonic, boottime);
	int fd = (int)MUST(open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	MUST(close(fd));
}

static void goes_on(clockid_t clock, double before)
{
	double now = seconds(clock);
	CHECK(now >= before && now < before + LONG, "clock %d: %f, then %f", clock, before, now);
	// What the kernel says and what the page of the vDSO says.
	struct timespec told;
	MUST(syscall(SYS_clock_gettime, clock, &told));
	CHECK((double)told.tv_sec - now < LONG && now - (double)told.tv_sec < LONG, "clock %d: %f, %ld", clock, now, told.tv_sec);
}

static struct timespec until;

static void *sleeper(void *unused)
{
	(void)unused;
	int error;
	while ((error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) == EINTR)
		;
	CHECK(error == 0);
	CHECK(seconds(CLOCK_MONOTONIC) >= (double)until.tv_sec + (double)until.tv_nsec / 1e9);
	return NULL;
}

// Its clocks show about these times; it waits for its child, if it has one.
static void work(const char *name, double monotonic, double boottime, pid_t child)
{
	goes_on(CLOCK_MONOTONIC, monotonic);
	goes_on(CLOCK_BOOTTIME, boottime);
	struct itimerspec at;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 2;
	at = (struct itimerspec){.it_value = until};
	int timer = (int)MUST(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	MUST(timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL));
	clock_gettime(CLOCK_BOOTTIME, &at.it_value);
	at.it_value.tv_sec += 2;
	double ends = (double)at.it_value.tv_sec + (double)at.it_value.tv_nsec / 1e9;
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
	timer_t posix;
	MUST(timer_create(CLOCK_BOOTTIME, &event, &posix));
	MUST(timer_settime(posix, TIMER_ABSTIME, &at, NULL));
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
	double now[] = {seconds(CLOCK_MONOTONIC), seconds(CLOCK_BOOTTIME)};
	say_pid(name);
	wait_for_go(go[0]);

	goes_on(CLOCK_MONOTONIC, now[0]);
	goes_on(CLOCK_BOOTTIME, now[1]);
	uint64_t times;
	CHECK(read(timer, &times, sizeof times) == sizeof times && times == 1);
	CHECK(seconds(CLOCK_MONOTONIC) >= (double)until.tv_sec + (double)until.tv_nsec / 1e9);
	int signal;
	CHECK(sigwait(&set, &signal) == 0 && seconds(CLOCK_BOOTTIME) >= ends);
	CHECK(pthread_join(thread, NULL) == 0);
	if (child)
		child_must_be_well(child);
	_exit(0);
}

static void *rest(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(pipe2(go, O_CLOEXEC));
	double monotonic = seconds(CLOCK_MONOTONIC), boottime = seconds(CLOCK_BOOTTIME);
	pid_t maker = (pid_t)MUST(fork());
	if (maker == 0) {
		close(go[1]);
		ask(1000000, 2000000);
		pthread_t thread;
		goes_on(CLOCK_MONOTONIC, monotonic);
		pid_t child = (pid_t)MUST(fork());
		if (child == 0) {
			pid_t other = (pid_t)MUST(fork());
			if (other == 0)
				work("grandchild", monotonic + 1000000, boottime + 2000000, 0);
			work("child", monotonic + 1000000, boottime + 2000000, other);
		}
		CHECK(pthread_create(&thread, NULL, rest, NULL) == 0);
		say_pid("maker");
		wait_for_go(go[0]);
		goes_on(CLOCK_MONOTONIC, monotonic);
		child_must_be_well(child);
		// The next one is born there, too.
		if ((child = (pid_t)MUST(fork())) == 0) {
			goes_on(CLOCK_MONOTONIC, monotonic + 1000000);
			_exit(0);
		}
		child_must_be_well(child);
		_exit(0);
	}
	pid_t mover = (pid_t)MUST(fork());
	if (mover == 0) {
		close(go[1]);
		ask(3000000, -1000);
		int there = (int)MUST(open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC));
		MUST(setns(there, CLONE_NEWTIME));
		close(there);
		// One that is in a further one and has asked for another.
		pid_t nested = (pid_t)MUST(fork());
		if (nested == 0) {
			ask(5000000, 5000000);
			pid_t innermost = (pid_t)MUST(fork());
			if (innermost == 0)
				work("innermost", monotonic + 5000000, boottime + 5000000, 0);
			work("nested", monotonic + 3000000, boottime - 1000, innermost);
		}
		pid_t child = (pid_t)MUST(fork());
		if (child == 0)
			work("moved", monotonic + 3000000, boottime - 1000, 0);
		wait_for_go(go[0]);
		child_must_be_well(child);
		child_must_be_well(nested);
		_exit(0);
	}
	pid_t early = (pid_t)MUST(fork());
	if (early == 0) {
		close(go[1]);
		ask(4000000, 4000000);
		say_pid("early");
		wait_for_go(go[0]);
		goes_on(CLOCK_MONOTONIC, monotonic);
		pid_t child = (pid_t)MUST(fork());
		if (child == 0) {
			goes_on(CLOCK_MONOTONIC, monotonic + 4000000);
			goes_on(CLOCK_BOOTTIME, boottime + 4000000);
			_exit(0);
		}
		child_must_be_well(child);
		_exit(0);
	}
	close(go[0]);
	const char *names[] = {"child", "grandchild", "maker", "moved", "nested", "innermost", "early"};
	for (int at = 0; at < 7; at++)
		while (!told(names[at]))
			tick();

	ready_and_wait();

	close(go[1]);
	child_must_be_well(maker);
	child_must_be_well(mover);
	child_must_be_well(early);
	goes_on(CLOCK_MONOTONIC, monotonic);
	return well();
}
