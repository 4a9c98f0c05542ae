// A process whose child has its memory, and holds it until it executes a program (vfork): the root, or with "thread" a thread of it, or with
// "child" a child.
#include "subject.h"
#include <pthread.h>

static volatile int over, status_seen;

static void *wait_in_vfork(void *nothing)
{
	pid_t child = vfork();
	if (child == 0) {
		write_file("in-vfork", "");
		while (!told("execute"))
			tick();
		execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
		_exit(1);
	}
	int status;
	MUST(child);
	MUST(waitpid(child, &status, 0));
	status_seen = WEXITSTATUS(status);
	over = 1;
	return nothing;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	const char *mode = argc > 2 ? argv[2] : "";
	pthread_t thread;
	if (strcmp(mode, "thread") == 0) {
		CHECK(pthread_create(&thread, NULL, wait_in_vfork, NULL) == 0);
		ready_and_wait();
		CHECK(pthread_join(thread, NULL) == 0);
	} else if (strcmp(mode, "child") == 0) {
		pid_t child = (pid_t)MUST(fork());
		if (child == 0) {
			wait_in_vfork(NULL);
			_exit(status_seen);
		}
		ready_and_wait();
		int status;
		MUST(waitpid(child, &status, 0));
		status_seen = WEXITSTATUS(status);
		over = 1;
	} else {
		write_file("ready", "");
		wait_in_vfork(NULL);
		ready_and_wait();
	}
	CHECK(over && status_seen == 7, "%d", status_seen);
	return well();
}
