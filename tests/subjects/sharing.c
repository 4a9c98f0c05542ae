// What clone(2) lets processes share: address space, descriptors, directories; and POSIX locks, which each process has for itself.
#include "subject.h"
#include <sys/file.h>

static int go_on, value, opened = -1;
static char stack[64 << 10] __attribute__((aligned(16)));

static int partner(void *unused)
{
	(void)unused;
	while (!__atomic_load_n(&go_on, __ATOMIC_ACQUIRE))
		tick();
	value = 17;
	opened = open("/dev/null", O_RDWR);
	return chdir("/") || opened < 0;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	pid_t shares = (pid_t)MUST(clone(partner, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD, NULL));
	int file = (int)MUST(open(in_dir("locked"), O_CREAT | O_RDWR, 0600));
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	MUST(fcntl(file, F_SETLK, &lock));
	pid_t locker = (pid_t)MUST(fork());
	if (locker == 0) {
		struct flock own = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
		if (fcntl(file, F_SETLK, &own))
			_exit(2);
		write_file("locked_too", "");
		while (!told("go"))
			tick();
		// The parent's lock is the parent's, and ours is ours.
		struct flock theirs = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 20 };
		if (fcntl(file, F_GETLK, &theirs) || theirs.l_type != F_WRLCK || theirs.l_pid != getppid())
			_exit(3);
		_exit(0);
	}
	while (!told("locked_too"))
		tick();

	ready_and_wait();

	struct flock theirs = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5 };
	int status;
	MUST(fcntl(file, F_GETLK, &theirs));
	CHECK(theirs.l_type == F_UNLCK || theirs.l_pid == locker, "%d", theirs.l_pid);
	CHECK(MUST(waitpid(locker, &status, 0)) == locker && status == 0, "%x", status);
	char before[4096], after[4096];
	CHECK(getcwd(before, sizeof before) && strcmp(before, "/"));
	__atomic_store_n(&go_on, 1, __ATOMIC_RELEASE);
	CHECK(MUST(waitpid(shares, &status, 0)) == shares && status == 0, "%x", status);
	CHECK(value == 17 && fcntl(opened, F_GETFD) == 0);
	CHECK(getcwd(after, sizeof after) && !strcmp(after, "/"));
	return well();
}
