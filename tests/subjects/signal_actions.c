// Handlers with their flags and masks, ignored signals, and an alternate stack per thread on which a handler runs.
#include "subject.h"
#include <pthread.h>

#define SA_RESTORER 0x04000000 // set by the C library
#define STACK (64 * 1024)
static char stacks[2][STACK];
static volatile int handled, go;
static volatile char *handler_frame;

static void handler(int signal, siginfo_t *info, void *context)
{
	char here;
	handler_frame = &here;
	handled = signal * 1000 + info->si_value.sival_int;
	(void)context;
}

static void alternate(int n)
{
	stack_t stack = { .ss_sp = stacks[n], .ss_size = STACK };
	MUST(sigaltstack(&stack, NULL));
}

static void check_alternate(int n)
{
	stack_t stack;
	MUST(sigaltstack(NULL, &stack));
	CHECK(stack.ss_sp == stacks[n] && stack.ss_size == STACK && stack.ss_flags == 0, "thread %d", n);
	MUST(pthread_sigqueue(pthread_self(), SIGUSR1, (union sigval){ .sival_int = n + 1 }));
	CHECK(handled == SIGUSR1 * 1000 + n + 1, "handled %d", handled);
	CHECK((char *)handler_frame > stacks[n] && (char *)handler_frame < stacks[n] + STACK, "the handler ran elsewhere");
}

static void *run(void *unused)
{
	alternate(1);
	while (!go)
		tick();
	check_alternate(1);
	return unused;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART }, now;
	sigaddset(&action.sa_mask, SIGALRM);
	sigaddset(&action.sa_mask, SIGRTMAX);
	MUST(sigaction(SIGUSR1, &action, NULL));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGRTMIN + 3, SIG_IGN);
	alternate(0);
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
	ready_and_wait();
	MUST(sigaction(SIGUSR1, NULL, &now));
	CHECK(now.sa_sigaction == handler && (now.sa_flags & ~SA_RESTORER) == action.sa_flags, "flags %x", now.sa_flags);
	CHECK(sigismember(&now.sa_mask, SIGALRM) && sigismember(&now.sa_mask, SIGRTMAX) && !sigismember(&now.sa_mask, SIGINT));
	for (int signal = 1; signal < 32; signal++) {
		MUST(sigaction(signal, NULL, &now));
		if (signal != SIGUSR1)
			CHECK(now.sa_handler == (signal == SIGPIPE ? SIG_IGN : SIG_DFL), "signal %d", signal);
	}
	MUST(sigaction(SIGRTMIN + 3, NULL, &now));
	CHECK(now.sa_handler == SIG_IGN);
	check_alternate(0);
	go = 1;
	CHECK(pthread_join(thread, NULL) == 0);
	return well();
}
