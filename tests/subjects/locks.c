// Locks on files: POSIX on byte ranges, flock, and those of an open file description.
#include "subject.h"
#include <sys/file.h>

static struct flock range(int type, off_t start, off_t length)
{
	return (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
}

// Whether another process finds the range locked: a child tries.
static int locked(const char *name, int type, off_t start, off_t length)
{
	pid_t child = MUST(fork());
	if (child == 0) {
		int fd = open(in_dir(name), O_RDWR);
		struct flock lock = range(type, start, length);
		_exit(fd >= 0 && fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 1 : 2);
	}
	int status;
	MUST(waitpid(child, &status, 0));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) > 0);
	return WEXITSTATUS(status) == 2;
}

static int flocked(const char *name, int operation)
{
	int fd = MUST(open(in_dir(name), O_RDWR));
	int result = flock(fd, operation | LOCK_NB);
	close(fd);
	return result == -1;
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	int posix = MUST(open(in_dir("posix"), O_RDWR | O_CREAT, 0600)), ofd = MUST(open(in_dir("ofd"), O_RDWR | O_CREAT, 0600)),
	    whole = MUST(open(in_dir("flock"), O_RDWR | O_CREAT, 0600)), shared = MUST(open(in_dir("shared"), O_RDWR | O_CREAT, 0600));
	struct flock lock = range(F_WRLCK, 10, 20);
	MUST(fcntl(posix, F_SETLK, &lock));
	lock = range(F_RDLCK, 100, 0);
	MUST(fcntl(posix, F_SETLK, &lock));
	lock = range(F_WRLCK, 7, 7);
	MUST(fcntl(ofd, F_OFD_SETLK, &lock));
	MUST(flock(whole, LOCK_EX));
	MUST(flock(shared, LOCK_SH));
	ready_and_wait();
	CHECK(locked("posix", F_RDLCK, 10, 1) && locked("posix", F_RDLCK, 29, 1) && !locked("posix", F_WRLCK, 30, 70));
	CHECK(locked("posix", F_WRLCK, 1000000, 1) && !locked("posix", F_RDLCK, 1000000, 1));
	CHECK(locked("ofd", F_RDLCK, 7, 7) && !locked("ofd", F_WRLCK, 0, 7) && !locked("ofd", F_WRLCK, 14, 0));
	CHECK(flocked("flock", LOCK_SH) && flocked("shared", LOCK_EX) && !flocked("shared", LOCK_SH));
	// They belong to this process: it may take them again and give them back.
	lock = range(F_UNLCK, 0, 0);
	MUST(fcntl(posix, F_SETLK, &lock));
	CHECK(!locked("posix", F_WRLCK, 0, 0));
	MUST(flock(whole, LOCK_UN));
	CHECK(!flocked("flock", LOCK_EX));
	return well();
}
