// Threads that sleep in every system call with a time-out when the checkpoint comes: each sleeps on for what was left, and
// none learns of it.
#include "subject.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

#define SECONDS 3.0
static const struct timespec relative = { .tv_sec = 3 };
static int words[8];

static struct timespec deadline(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	now.tv_sec += 3;
	return now;
}

static long by_nanosleep(void)
{
	return nanosleep(&relative, NULL);
}

static long by_clock_nanosleep(void)
{
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &relative, NULL);
}

static long by_clock_nanosleep_absolute(void)
{
	struct timespec until = deadline(CLOCK_MONOTONIC);
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static long by_poll(void)
{
	return poll(NULL, 0, 3000);
}

static long by_ppoll(void)
{
	sigset_t mask;
	sigemptyset(&mask);
	sigaddset(&mask, SIGURG);
	return ppoll(NULL, 0, &relative, &mask);
}

static long by_select(void)
{
	struct timeval timeout = { .tv_sec = 3 };
	return select(0, NULL, NULL, NULL, &timeout);
}

static long by_pselect(void)
{
	sigset_t mask;
	sigemptyset(&mask);
	return pselect(0, NULL, NULL, NULL, &relative, &mask);
}

static long by_futex(void)
{
	long result = syscall(SYS_futex, &words[0], FUTEX_WAIT_PRIVATE, 0, &relative, NULL, 0);
	return result == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static long by_futex_absolute(void)
{
	struct timespec until = deadline(CLOCK_MONOTONIC);
	long result = syscall(SYS_futex, &words[1], FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
	return result == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static struct sleeper {
	const char *name;
	long (*sleep)(void);
	pthread_t thread;
	double slept;
	long result;
	int error;
} sleepers[] = {
	{ "nanosleep", by_nanosleep },
	{ "clock_nanosleep", by_clock_nanosleep },
	{ "clock_nanosleep with TIMER_ABSTIME", by_clock_nanosleep_absolute },
	{ "poll", by_poll },
	{ "ppoll", by_ppoll },
	{ "select", by_select },
	{ "pselect", by_pselect },
	{ "futex", by_futex },
	{ "futex with a deadline", by_futex_absolute },
};
#define SLEEPERS (sizeof sleepers / sizeof *sleepers)
static pthread_barrier_t begun;

static void *run(void *arg)
{
	struct sleeper *self = arg;
	sigset_t before, after;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	pthread_barrier_wait(&begun);
	double start = seconds(CLOCK_MONOTONIC);
	self->result = self->sleep();
	self->error = errno;
	self->slept = seconds(CLOCK_MONOTONIC) - start;
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	CHECK(!memcmp(&before, &after, 8), "%s changed the signal mask", self->name);
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pthread_barrier_init(&begun, NULL, SLEEPERS + 1);
	for (unsigned i = 0; i < SLEEPERS; i++)
		CHECK(pthread_create(&sleepers[i].thread, NULL, run, &sleepers[i]) == 0);
	pthread_barrier_wait(&begun);
	ready_and_wait();
	for (unsigned i = 0; i < SLEEPERS; i++) {
		struct sleeper *s = &sleepers[i];
		CHECK(pthread_join(s->thread, NULL) == 0);
		CHECK(s->result == 0, "%s gave %ld, %s", s->name, s->result, strerror(s->error));
		CHECK(s->slept >= SECONDS, "%s slept for %f s only", s->name, s->slept);
	}
	return well();
}
