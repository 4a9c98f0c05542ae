// Processes that a signal has stopped: their parent is told which, also that of a group whose parent is elsewhere.
#include "subject.h"

static pid_t stopped_by(int signal, int in_own_group)
{
	pid_t pid = (pid_t)MUST(fork());
	if (pid == 0)
		for (;;)
			pause();
	if (in_own_group)
		MUST(setpgid(pid, pid));
	MUST(kill(pid, signal));
	return pid;
}

static void must_be_stopped_by(pid_t pid, int signal)
{
	siginfo_t info = { 0 };
	MUST(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT));
	CHECK(info.si_code == CLD_STOPPED && info.si_status == signal, "%d: %d", signal, info.si_status);
}

static void end(pid_t pid)
{
	int status;
	MUST(kill(pid, SIGKILL));
	MUST(waitpid(pid, &status, 0));
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	static const int signals[] = { SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU };
	pid_t children[4];
	for (int i = 0; i < 4; i++)
		must_be_stopped_by(children[i] = stopped_by(signals[i], 1), signals[i]);
	// A pipeline's shell: its members' parent is in the group, the group's leader has one outside of it.
	volatile int *is_up = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t leader = (pid_t)MUST(fork());
	if (leader == 0) {
		MUST(setpgid(0, 0));
		pid_t child = stopped_by(SIGTSTP, 0);
		must_be_stopped_by(child, SIGTSTP);
		*is_up = 1;
		while (!told("go"))
			tick();
		must_be_stopped_by(child, SIGTSTP);
		end(child);
		_exit(0);
	}
	while (!*is_up)
		tick();

	ready_and_wait();

	int status;
	MUST(waitpid(leader, &status, 0));
	CHECK(status == 0, "%x", status);
	for (int i = 0; i < 4; i++) {
		must_be_stopped_by(children[i], signals[i]);
		MUST(kill(children[i], SIGCONT));
		MUST(waitpid(children[i], &status, WCONTINUED));
		CHECK(WIFCONTINUED(status), "%x", status);
		end(children[i]);
	}
	return well();
}
