// Containers side by side: children in PID and mount namespaces of their own, as unshare(1) makes them, with the same pids in each.
#include "subject.h"
#include <pthread.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif
#define CONTAINERS 2

static volatile pid_t thread_id;
static int thread_go[2];

static void *thread(void *unused)
{
	(void)unused;
	thread_id = (pid_t)syscall(SYS_gettid);
	wait_for_go(thread_go[0]);
	return (void *)(uintptr_t)syscall(SYS_gettid);
}

// A process with a second thread, a timer that tells that thread, and signals that wait.
static void worker(int go, const char *said)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	MUST(pipe2(thread_go, O_CLOEXEC));
	pthread_t second;
	CHECK(pthread_create(&second, NULL, thread, NULL) == 0);
	while (!thread_id)
		tick();
	pid_t own = getpid(), parent = getppid(), tid = thread_id, group = getpgrp(), session = getsid(0);
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL | SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
	event._sigev_un._tid = tid;
	timer_t timer;
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	int ends[2], peer[2];
	MUST(pipe2(ends, O_CLOEXEC));
	MUST(fcntl(ends[0], F_SETOWN, own));
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, peer));
	MUST(sigqueue(own, SIGUSR1, (union sigval){.sival_int = 4711}));
	MUST(syscall(SYS_tgkill, own, tid, SIGUSR2));
	write_file(said, "");
	wait_for_go(go);

	CHECK(getpid() == own && getppid() == parent && getpgrp() == group && getsid(0) == session);
	CHECK(fcntl(ends[0], F_GETOWN) == own);
	struct ucred creds;
	socklen_t length = sizeof creds;
	MUST(getsockopt(peer[0], SOL_SOCKET, SO_PEERCRED, &creds, &length));
	CHECK(creds.pid == own, "%d", creds.pid);
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == own && info.si_value.sival_int == 4711);
	CHECK(kill(own, 0) == 0 && kill(parent, 0) == 0 && syscall(SYS_tgkill, own, tid, 0) == 0);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/status", own, tid);
	CHECK(access(path, F_OK) == 0);
	// The timer finds its thread.
	struct itimerspec soon = {.it_value.tv_nsec = 1000000};
	MUST(timer_settime(timer, 0, &soon, NULL));
	for (uint64_t pending = 0; !(pending >> (SIGALRM - 1) & 1);) {
		snprintf(path, sizeof path, "/proc/%d/task/%d/status", own, tid);
		char text[4096] = "";
		int fd = (int)MUST(open(path, O_RDONLY));
		MUST(read(fd, text, sizeof text - 1));
		close(fd);
		pending = strtoull(strstr(text, "SigPnd:") + 7, NULL, 16);
		CHECK(pending >> (SIGUSR2 - 1) & 1);
		tick();
	}
	close(thread_go[1]);
	void *answer;
	CHECK(pthread_join(second, &answer) == 0 && (pid_t)(uintptr_t)answer == tid);
	_exit(0);
}

static void *rest(void *unused)
{
	(void)unused;
	for (;;)
		pause();
}

// The first process of a container; any of its threads may be the last to end when it is killed.
static void first(int go, int number)
{
	char name[32], text[64];
	CHECK(getpid() == 1 && getppid() == 0);
	MUST(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	MUST(readlink("/proc/self", text, sizeof text));
	CHECK(text[0] == '1');
	pid_t session = getsid(0), group = getpgrp();
	int status = (int)MUST(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
	pid_t zombie = (pid_t)MUST(fork());
	if (zombie == 0)
		_exit(7);
	siginfo_t ended;
	MUST(waitid(P_PID, (id_t)zombie, &ended, WEXITED | WNOWAIT));
	snprintf(name, sizeof name, "worker-%d", number);
	pid_t same = (pid_t)MUST(fork());
	if (same == 0)
		worker(go, name);
	snprintf(name, sizeof name, "leader-%d", number);
	pid_t leader = (pid_t)MUST(fork());
	if (leader == 0) {
		MUST(setsid());
		worker(go, name);
	}
	// One whose parent has ended.
	pid_t middle = (pid_t)MUST(fork());
	if (middle == 0) {
		if (MUST(fork()) == 0) {
			while (getppid() != 1)
				tick();
			snprintf(name, sizeof name, "orphan-%d", number);
			worker(go, name);
		}
		_exit(0);
	}
	CHECK(waitpid(middle, NULL, 0) == middle);
	for (int i = 0; i < 4; i++) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, rest, NULL) == 0);
	}
	snprintf(name, sizeof name, "first-%d", number);
	write_file(name, "");
	wait_for_go(go);

	CHECK(getpid() == 1 && getppid() == 0 && getsid(0) == session && getpgrp() == group);
	memset(text, 0, sizeof text);
	MUST(readlink("/proc/self", text, sizeof text - 1));
	CHECK(strcmp(text, "1") == 0, "%s", text);
	char line[256] = "";
	CHECK(pread(status, line, sizeof line - 1, 0) > 0 && strstr(line, "Pid:\t1\n") != NULL, "%s", line);
	CHECK(kill(zombie, 0) == 0 && kill(same, 0) == 0 && getsid(leader) == leader && getpgid(same) == group);
	CHECK(waitid(P_PID, (id_t)zombie, &ended, WEXITED) == 0 && ended.si_status == 7 && ended.si_pid == zombie);
	int wait_status;
	pid_t found;
	int count = 0;
	while ((found = waitpid(-1, &wait_status, 0)) > 0) {
		CHECK(found == same || found == leader || found > leader);
		if (wait_status != 0)
			_exit(1);
		count++;
	}
	CHECK(count == 3, "%d", count);
	// New ones are born here, and end with this one.
	if (MUST(fork()) == 0) {
		CHECK(getpid() > 1 && getppid() == 1);
		for (;;)
			pause();
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int go[2];
	MUST(pipe2(go, O_CLOEXEC));
	pid_t makers[CONTAINERS];
	for (int number = 0; number < CONTAINERS; number++) {
		makers[number] = (pid_t)MUST(fork());
		if (makers[number] != 0)
			continue;
		close(go[1]);
		// One of them is in a process group that those in its container cannot name.
		if (number == 1)
			MUST(setpgid(0, 0));
		MUST(unshare(CLONE_NEWPID | CLONE_NEWNS));
		MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		pid_t child = (pid_t)MUST(fork());
		if (child == 0)
			first(go[0], number);
		// It sees the /proc of its child.
		CHECK(getpid() != 1);
		child_must_be_well(child);
		// Nobody can be born where the first process has ended.
		CHECK(fork() == -1 && errno == ENOMEM);
		_exit(0);
	}
	close(go[0]);
	for (int number = 0; number < CONTAINERS; number++) {
		const char *all[] = {"first", "worker", "leader", "orphan"};
		for (int at = 0; at < 4; at++) {
			char name[32];
			snprintf(name, sizeof name, "%s-%d", all[at], number);
			while (!told(name))
				tick();
		}
	}

	ready_and_wait();

	close(go[1]);
	for (int number = 0; number < CONTAINERS; number++)
		child_must_be_well(makers[number]);
	return well();
}
