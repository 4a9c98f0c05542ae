// Threads that block without a time-out when the checkpoint comes: each goes on waiting, and gets what it waits for.
#include "subject.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>

static int pipes[2], pair[2], full[2], epoll, event, word;
static sem_t semaphore;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int signalled;
static pthread_barrier_t begun;

static long by_read(void)
{
	char byte = 0;
	return read(pipes[0], &byte, 1) == 1 && byte == 'p';
}

static long by_write(void)
{
	return write(full[1], "w", 1) == 1;
}

static long by_recvmsg(void)
{
	char bytes[8];
	return recv(pair[0], bytes, sizeof bytes, 0) == 3;
}

static long by_futex(void)
{
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) == 0;
}

static long by_semaphore(void)
{
	return sem_wait(&semaphore) == 0;
}

static long by_condition(void)
{
	pthread_mutex_lock(&mutex);
	while (!signalled)
		pthread_cond_wait(&condition, &mutex);
	return pthread_mutex_unlock(&mutex) == 0;
}

static long by_epoll(void)
{
	struct epoll_event got;
	return epoll_wait(epoll, &got, 1, -1) == 1 && got.data.u64 == 42;
}

static long by_sigwait(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	return sigwaitinfo(&set, NULL) == SIGUSR2;
}

static struct waiter {
	const char *name;
	long (*wait)(void);
	pthread_t thread;
	long result;
	int error;
} waiters[] = {
	{ "read", by_read },
	{ "write", by_write },
	{ "recv", by_recvmsg },
	{ "futex", by_futex },
	{ "sem_wait", by_semaphore },
	{ "pthread_cond_wait", by_condition },
	{ "epoll_wait", by_epoll },
	{ "sigwaitinfo", by_sigwait },
};
#define WAITERS (sizeof waiters / sizeof *waiters)

static void *run(void *arg)
{
	struct waiter *self = arg;
	pthread_barrier_wait(&begun);
	self->result = self->wait();
	self->error = errno;
	return NULL;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	char bytes[4096] = { 0 };
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	MUST(pipe(pipes));
	MUST(pipe(full));
	MUST(fcntl(full[1], F_SETPIPE_SZ, 4096));
	MUST(write(full[1], bytes, sizeof bytes));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	event = MUST(eventfd(0, 0));
	epoll = MUST(epoll_create1(0));
	struct epoll_event watch = { .events = EPOLLIN, .data.u64 = 42 };
	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &watch));
	sem_init(&semaphore, 0, 0);
	pthread_barrier_init(&begun, NULL, WAITERS + 1);
	for (unsigned i = 0; i < WAITERS; i++)
		CHECK(pthread_create(&waiters[i].thread, NULL, run, &waiters[i]) == 0);
	pthread_barrier_wait(&begun);
	ready_and_wait();
	MUST(write(pipes[1], "p", 1));
	MUST(read(full[0], bytes, sizeof bytes));
	MUST(send(pair[1], "abc", 3, 0));
	word = 1;
	CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0) == 1, "nobody waits on the futex");
	sem_post(&semaphore);
	pthread_mutex_lock(&mutex);
	signalled = 1;
	pthread_cond_signal(&condition);
	pthread_mutex_unlock(&mutex);
	MUST(write(event, &(uint64_t){ 1 }, 8));
	MUST(kill(getpid(), SIGUSR2));
	for (unsigned i = 0; i < WAITERS; i++) {
		CHECK(pthread_join(waiters[i].thread, NULL) == 0);
		CHECK(waiters[i].result, "%s: %s", waiters[i].name, strerror(waiters[i].error));
	}
	return well();
}
