// Open files that have no name any more, one of them of 3 MiB with a hole, one shared by two opens, one never named.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	static char big[3 << 20], got[3 << 20];
	for (unsigned i = 0; i < sizeof big; i++)
		big[i] = i >> 20 == 1 ? 0 : (char)(i * 2654435761u >> 24);
	int fd = MUST(open(in_dir("gone"), O_RDWR | O_CREAT, 0640)), reader = MUST(open(in_dir("gone"), O_RDONLY));
	CHECK(pwrite(fd, big, 1 << 20, 0) == 1 << 20 && pwrite(fd, big + (2 << 20), 1 << 20, 2 << 20) == 1 << 20);
	MUST(fchown(fd, 7, 8));
	MUST(lseek(fd, 100, SEEK_SET));
	MUST(unlink(in_dir("gone")));
	int unnamed = MUST(open(subject_dir, O_TMPFILE | O_RDWR, 0600));
	MUST(write(unnamed, "never named", 11));
	// Replaced by rename: the name is there, but of another file.
	int replaced = MUST(open(in_dir("replaced"), O_RDWR | O_CREAT, 0644));
	MUST(write(replaced, "old", 3));
	write_file("replaced", "new");
	ready_and_wait();
	struct stat stat;
	MUST(fstat(fd, &stat));
	CHECK(stat.st_nlink == 0 && stat.st_size == sizeof big && stat.st_uid == 7 && stat.st_gid == 8 && (stat.st_mode & 07777) == 0640);
	CHECK(lseek(fd, 0, SEEK_CUR) == 100);
	CHECK(pread(reader, got, sizeof got, 0) == sizeof got && !memcmp(big, got, sizeof big));
	MUST(pwrite(fd, "later", 5, 7));
	MUST(pread(reader, got, 5, 7));
	CHECK(!memcmp(got, "later", 5), "two opens of one deleted file have become two files");
	CHECK(pread(unnamed, got, 20, 0) == 11 && !memcmp(got, "never named", 11));
	CHECK(pread(replaced, got, 20, 0) == 3 && !memcmp(got, "old", 3));
	CHECK(access(in_dir("gone"), F_OK) != 0);
	return well();
}
