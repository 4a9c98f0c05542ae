// What a program knows of pids: its own and its thread's, its children's, of groups, sessions, timers, file owners, locks, System V objects.
#include "subject.h"
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/sem.h>

static pid_t tids[2];

static void *thread(void *unused)
{
	tids[1] = gettid();
	for (;;)
		pause();
	return unused;
}

static void status(int signal)
{
	if (signal == SIGUSR1)
		_exit(7);
	kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *how = argc > 2 ? argv[2] : "";
	pthread_t other;
	tids[0] = gettid();
	pthread_create(&other, NULL, thread, NULL);
	while (!*(volatile pid_t *)&tids[1])
		tick();
	if (!strcmp(how, "status")) {
		signal(SIGUSR1, status);
		signal(SIGUSR2, status);
	}
	pid_t self = getpid(), child = (pid_t)MUST(fork());
	if (child == 0) {
		MUST(setpgid(0, 0));
		write_file("grouped", "");
		while (!told("go") && (strcmp(how, "status") || getppid() == self))
			tick();
		if (!strcmp(how, "orphan")) {
			while (getppid() == self)
				tick();
			write_file("orphaned", "");
			while (!told("end"))
				tick();
		}
		_exit(3);
	}
	while (!told("grouped"))
		tick();
	int file = (int)MUST(open("lock", O_RDWR | O_CREAT, 0600)), pipes[2];
	// A copy beside the original cannot have these.
	int unique = strcmp(how, "beside"), set = -1;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10 };
	if (unique) {
		MUST(fcntl(file, F_SETLK, &lock));
		set = (int)MUST(semget(IPC_PRIVATE, 1, 0600));
		MUST(semctl(set, 0, SETVAL, 5));
	}
	MUST(pipe(pipes));
	MUST(fcntl(pipes[0], F_SETOWN, child));
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGCONT, ._sigev_un = { ._tid = tids[1] } };
	timer_t timer;
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));

	write_file("ready", "");
	while (!told("go")) {
		tick();
		if (told("tell") && !told("told"))
			write_file("told", "");
	}

	CHECK(getpid() == self && gettid() == tids[0], "%d", getpid());
	CHECK(syscall(SYS_tgkill, self, tids[1], 0) == 0);
	CHECK(kill(child, 0) == 0 && getpgid(child) == child, "%d", getpgid(child));
	int ended;
	if (unique) {
		pid_t looker = (pid_t)MUST(fork());
		if (looker == 0) {
			MUST(fcntl(file, F_GETLK, &lock));
			_exit(lock.l_type == F_WRLCK && lock.l_pid == self ? 0 : 1);
		}
		CHECK(waitpid(looker, &ended, 0) == looker && ended == 0, "%x", ended);
		CHECK(semctl(set, 0, GETVAL) == 5 && semctl(set, 0, GETPID) == self, "%d", semctl(set, 0, GETPID));
		MUST(semctl(set, 0, IPC_RMID));
	}
	CHECK(fcntl(pipes[0], F_GETOWN) == child, "%d", fcntl(pipes[0], F_GETOWN));
	if (!strcmp(how, "orphan"))
		return well();
	CHECK(waitpid(child, &ended, 0) == child && ended == 0x300, "%x", ended);
	return well();
}
