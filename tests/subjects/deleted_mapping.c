// Files that are mapped, and have no name any more.
#include "subject.h"

#define SIZE (40 * PAGE)

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = MUST(open(in_dir("gone"), O_RDWR | O_CREAT, 0640));
	for (int i = 0; i < 40; i++)
		MUST(pwrite(fd, "page", 4, i * PAGE));
	char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	MUST(unlink(in_dir("gone")));
	strcpy(shared + 3 * PAGE, "shared");
	strcpy(private + 4 * PAGE, "private");
	ready_and_wait();
	CHECK(!strcmp(shared, "page") && !strcmp(shared + 3 * PAGE, "shared") && !strcmp(shared + 4 * PAGE, "page"));
	CHECK(!strcmp(private + 3 * PAGE, "shared") && !strcmp(private + 4 * PAGE, "private"));
	strcpy(shared + 9 * PAGE, "later");
	CHECK(!strcmp(private + 9 * PAGE, "later"), "two mappings of one deleted file have become two files");
	CHECK(access(in_dir("gone"), F_OK) != 0, "the file has a name again");
	return well();
}
