// signalfds: their masks, and the signals that wait in them.
#include "subject.h"
#include <sys/signalfd.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = MUST(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	sigdelset(&set, SIGUSR1);
	int only_rt = MUST(signalfd(-1, &set, SFD_NONBLOCK));
	MUST(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ .sival_int = 5 }));
	MUST(kill(getpid(), SIGUSR1));
	ready_and_wait();
	struct signalfd_siginfo info;
	CHECK(read(only_rt, &info, sizeof info) == sizeof info && info.ssi_signo == (unsigned)SIGRTMIN + 2 && info.ssi_int == 5);
	CHECK(read(only_rt, &info, sizeof info) == -1 && errno == EAGAIN);
	CHECK(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR1);
	CHECK(read(fd, &info, sizeof info) == -1 && errno == EAGAIN);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & O_NONBLOCK));
	return well();
}
