// Blocked and pending signals: those of the process and those of a thread, in order, with their values; and the mask.
#include "subject.h"
#include <pthread.h>

static volatile int go;
static pthread_barrier_t queued;
static pid_t thread_tid;

static void queue_to_thread(pid_t tid, int signal, int value)
{
	siginfo_t info = { .si_signo = signal, .si_code = SI_QUEUE };
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, signal, &info));
}

static void expect(sigset_t *set, int signal, int value)
{
	siginfo_t info;
	struct timespec none = { 0 };
	int got = sigtimedwait(set, &info, &none);
	CHECK(got == signal, "got signal %d, want %d", got, signal);
	CHECK(info.si_value.sival_int == value, "signal %d has value %d, want %d", signal, info.si_value.sival_int, value);
	CHECK(info.si_code == SI_QUEUE && info.si_pid == getpid());
}

static void *run(void *unused)
{
	sigset_t set, now;
	sigfillset(&set);
	sigdelset(&set, SIGRTMIN + 6);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	thread_tid = gettid();
	queue_to_thread(thread_tid, SIGRTMIN + 5, 50);
	queue_to_thread(thread_tid, SIGRTMIN + 5, 51);
	queue_to_thread(thread_tid, SIGUSR2, 12);
	pthread_barrier_wait(&queued);
	while (!go)
		tick();
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	CHECK(sigismember(&now, SIGUSR2) && sigismember(&now, SIGRTMIN + 5) && !sigismember(&now, SIGRTMIN + 6));
	sigset_t only;
	sigemptyset(&only);
	sigaddset(&only, SIGUSR2);
	expect(&only, SIGUSR2, 12);
	sigaddset(&only, SIGRTMIN + 5);
	expect(&only, SIGRTMIN + 5, 50);
	expect(&only, SIGRTMIN + 5, 51);
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t set;
	sigfillset(&set);
	sigdelset(&set, SIGTERM);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	pthread_barrier_init(&queued, NULL, 2);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
	pthread_barrier_wait(&queued);
	for (int i = 0; i < 3; i++)
		MUST(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 100 + i }));
	MUST(sigqueue(getpid(), SIGHUP, (union sigval){ .sival_int = 7 }));
	ready_and_wait();
	go = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	CHECK(!sigismember(&now, SIGTERM) && sigismember(&now, SIGHUP) && sigismember(&now, SIGRTMAX));
	sigset_t only;
	sigemptyset(&only);
	sigaddset(&only, SIGHUP);
	expect(&only, SIGHUP, 7);
	sigaddset(&only, SIGRTMIN + 1);
	for (int i = 0; i < 3; i++)
		expect(&only, SIGRTMIN + 1, 100 + i);
	sigset_t left;
	sigpending(&left);
	for (int signal = 1; signal < 65; signal++)
		CHECK(sigismember(&left, signal) != 1, "signal %d is pending too", signal);
	return well();
}
