// Descriptors of the namespaces that the program and its child are in.
#include "subject.h"

static const char *const names[] = { "user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time", "pid_for_children", "time_for_children" };
#define NAMES (sizeof names / sizeof *names)

static int open_one(pid_t pid, const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fds[NAMES];
	for (size_t i = 0; i < NAMES; i++)
		fds[i] = open_one(getpid(), names[i]);
	CHECK(fds[0] >= 0 && fds[3] >= 0);
	pid_t child = (pid_t)MUST(fork());
	if (child == 0)
		for (;;)
			pause();
	int of_child = open_one(child, "uts");

	ready_and_wait();

	for (size_t i = 0; i < NAMES; i++) {
		struct stat had, has;
		int now = open_one(getpid(), names[i]);
		CHECK((now < 0) == (fds[i] < 0), "%s", names[i]);
		if (now < 0) {
			not_exercised(names[i]);
			continue;
		}
		MUST(fstat(fds[i], &had));
		MUST(fstat(now, &has));
		CHECK(had.st_ino == has.st_ino && had.st_dev == has.st_dev, "%s", names[i]);
		CHECK(fcntl(fds[i], F_GETFD) == FD_CLOEXEC);
	}
	MUST(setns(fds[3], CLONE_NEWNET));
	MUST(setns(of_child, CLONE_NEWUTS));
	int status;
	MUST(kill(child, SIGKILL));
	MUST(waitpid(child, &status, 0));
	return well();
}
