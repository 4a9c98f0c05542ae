// Sessions and process groups of every origin, orphans among them, under a subreaper.
#include "subject.h"
#include <sys/prctl.h>

static volatile struct place {
	pid_t pid, ppid, pgid, sid;
} *places;
static int count;

static void tell(int slot)
{
	places[slot] = (struct place){ getpid(), getppid(), getpgrp(), getsid(0) };
}

static void stay(int slot)
{
	tell(slot);
	struct place was = places[slot];
	while (!told("go"))
		tick();
	struct place is = { getpid(), getppid(), getpgrp(), getsid(0) };
	int wrong_below = 0, status;
	while (wait(&status) > 0)
		wrong_below |= status != 0;
	_exit(memcmp(&was, &is, sizeof is) ? 1 : wrong_below ? 2 : 0);
}

static void wait_for(int slot)
{
	while (places[slot].pid == 0)
		tick();
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	places = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int status;

	// A member of our own session, in a group of its own.
	if (MUST(fork()) == 0) {
		MUST(setpgid(0, 0));
		stay(0);
	}
	// A leader of a session whose child stayed in the old one, and another in the new one.
	if (MUST(fork()) == 0) {
		if (MUST(fork()) == 0)
			stay(1);
		wait_for(1);
		MUST(setsid());
		if (MUST(fork()) == 0) {
			MUST(setpgid(0, 0));
			stay(2);
		}
		stay(3);
	}
	wait_for(3);
	// A daemon: its session's leader has ended.
	pid_t leader = (pid_t)MUST(fork());
	if (leader == 0) {
		pid_t self = (pid_t)MUST(setsid());
		if (MUST(fork()) == 0) {
			while (getppid() == self)
				tick();
			stay(4);
		}
		_exit(0);
	}
	MUST(waitpid(leader, &status, 0));
	wait_for(4);
	// A pipeline whose first process has ended.
	pid_t first = (pid_t)MUST(fork());
	if (first == 0)
		for (;;)
			pause();
	MUST(setpgid(first, first));
	for (int slot = 5; slot < 7; slot++) {
		pid_t next = (pid_t)MUST(fork());
		if (next == 0) {
			while (getpgrp() != first)
				tick();
			stay(slot);
		}
		MUST(setpgid(next, first));
	}
	wait_for(5);
	wait_for(6);
	MUST(kill(first, SIGKILL));
	MUST(waitpid(first, &status, 0));
	// An orphan in the session of a leader that lives on.
	pid_t second = (pid_t)MUST(fork());
	if (second == 0) {
		MUST(setsid());
		pid_t middle = (pid_t)MUST(fork());
		if (middle == 0) {
			pid_t self = getpid();
			if (MUST(fork()) == 0) {
				while (getppid() == self)
					tick();
				stay(7);
			}
			_exit(0);
		}
		MUST(waitpid(middle, &status, 0));
		stay(8);
	}
	wait_for(7);
	wait_for(8);
	CHECK(places[7].ppid == getpid() && places[7].sid == second);
	count = 7;

	ready_and_wait();

	int ended = 0;
	pid_t pid;
	while ((pid = waitpid(-1, &status, 0)) > 0) {
		CHECK(status == 0, "process %d: %x", pid, status);
		ended++;
	}
	// Two are waited for by their own parent.
	CHECK(ended == count, "%d", ended);
	return well();
}
