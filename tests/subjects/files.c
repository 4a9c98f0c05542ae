// Open files: position, flags, shared descriptions, owner, O_PATH, directories, devices, high numbers.
#include "subject.h"
#include <dirent.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	char text[64] = { 0 };
	int fd = MUST(open(in_dir("file"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
	MUST(write(fd, "0123456789abcdef", 16));
	MUST(lseek(fd, 5, SEEK_SET));
	int dup_of = MUST(dup3(fd, 77, 0));
	int other = MUST(open(in_dir("file"), O_RDONLY | O_NONBLOCK | O_NOATIME));
	MUST(lseek(other, 9, SEEK_SET));
	int append = MUST(open(in_dir("log file"), O_WRONLY | O_APPEND | O_CREAT | O_DSYNC, 0600));
	MUST(write(append, "one\n", 4));
	int secret = MUST(open(in_dir("secret"), O_RDWR | O_CREAT, 0600));
	MUST(fchmod(secret, 0));
	int path = MUST(open(in_dir("file"), O_PATH));
	int path_to_link = (symlink("nowhere", in_dir("link")), MUST(open(in_dir("link"), O_PATH | O_NOFOLLOW)));
	int directory = MUST(open(subject_dir, O_RDONLY | O_DIRECTORY));
	MUST(mkdir(in_dir("many"), 0755));
	for (int i = 0; i < 50; i++) {
		char name[16];
		snprintf(name, sizeof name, "many/%02d", i);
		close(MUST(open(in_dir(name), O_CREAT | O_WRONLY, 0600)));
	}
	DIR *listing = opendir(in_dir("many"));
	for (int i = 0; i < 7; i++)
		CHECK(readdir(listing) != NULL);
	int null = MUST(open("/dev/null", O_RDWR)), zero = MUST(open("/dev/zero", O_RDONLY)), random = MUST(open("/dev/urandom", O_RDONLY)),
	    all_full = MUST(open("/dev/full", O_WRONLY));
	int high = MUST(fcntl(null, F_DUPFD_CLOEXEC, 700));
	MUST(fcntl(fd, F_SETOWN, getpid()));
	MUST(fcntl(fd, F_SETSIG, SIGRTMIN + 7));
	ready_and_wait();

	CHECK(lseek(fd, 0, SEEK_CUR) == 5 && lseek(dup_of, 0, SEEK_CUR) == 5 && lseek(other, 0, SEEK_CUR) == 9);
	MUST(lseek(dup_of, 6, SEEK_SET));
	CHECK(read(fd, text, 4) == 4 && !strcmp(text, "6789"), "the duplicate has a position of its own: %s", text);
	CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(dup_of, F_GETFD) == 0);
	CHECK(fcntl(fd, F_GETOWN) == getpid() && fcntl(fd, F_GETSIG) == SIGRTMIN + 7);
	CHECK((fcntl(other, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_NOATIME)) == (O_RDONLY | O_NONBLOCK | O_NOATIME));
	CHECK((fcntl(append, F_GETFL) & (O_ACCMODE | O_APPEND | O_DSYNC)) == (O_WRONLY | O_APPEND | O_DSYNC));
	off_t end = lseek(append, 0, SEEK_END);
	MUST(lseek(append, 0, SEEK_SET));
	MUST(write(append, "x", 1));
	CHECK(lseek(append, 0, SEEK_CUR) == end + 1, "not appended");
	CHECK(write(secret, "s", 1) == 1);
	struct stat by_path, by_fd;
	MUST(fstat(path, &by_path));
	MUST(fstat(fd, &by_fd));
	CHECK(by_path.st_ino == by_fd.st_ino && (fcntl(path, F_GETFL) & O_PATH));
	MUST(fstat(path_to_link, &by_path));
	CHECK(S_ISLNK(by_path.st_mode));
	CHECK(faccessat(directory, "file", F_OK, 0) == 0);
	int left = 0;
	while (readdir(listing))
		left++;
	CHECK(left == 52 - 7, "%d entries left to list", left);
	CHECK(read(null, text, 1) == 0 && write(high, text, 1) == 1);
	CHECK(read(zero, text, 4) == 4 && !memcmp(text, "\0\0\0\0", 4) && read(random, text, 8) == 8);
	CHECK(write(all_full, "x", 1) == -1 && errno == ENOSPC);
	int next = MUST(dup(0));
	CHECK(next < 77, "a descriptor is left over: the next is %d", next);
	for (int i = 3; i < next; i++)
		CHECK(fcntl(i, F_GETFD) != -1);
	return well();
}
