// memfds: name, size, contents, seals, position; mapped shared and private; and one that is mapped but no longer open.
#include "subject.h"

#define SIZE (8 * PAGE)

int main(int argc, char **argv)
{
	begin(argc, argv);
	int sealed = MUST(memfd_create("sealed one", MFD_ALLOW_SEALING | MFD_CLOEXEC));
	MUST(ftruncate(sealed, SIZE));
	MUST(pwrite(sealed, "sealed", 6, 3 * PAGE));
	MUST(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	int open_one = MUST(memfd_create("open", 0));
	MUST(ftruncate(open_one, SIZE + 100));
	char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, open_one, 0);
	char *private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, open_one, 0);
	strcpy(shared + PAGE, "shared");
	strcpy(private + 2 * PAGE, "private");
	MUST(pwrite(open_one, "by write", 8, 5 * PAGE));
	MUST(lseek(open_one, 1234, SEEK_SET));
	int closed = MUST(memfd_create("closed", 0));
	MUST(ftruncate(closed, SIZE));
	char *kept = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, closed, 0);
	close(closed);
	strcpy(kept + 4 * PAGE, "kept");
	ready_and_wait();
	char text[16] = { 0 };
	struct stat stat;
	MUST(pread(sealed, text, 6, 3 * PAGE));
	CHECK(!strcmp(text, "sealed"), "%s", text);
	CHECK(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	CHECK(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM);
	MUST(fstat(open_one, &stat));
	CHECK(stat.st_size == SIZE + 100, "size %ld", stat.st_size);
	CHECK(lseek(open_one, 0, SEEK_CUR) == 1234);
	CHECK(!strcmp(shared + PAGE, "shared") && !strcmp(private + PAGE, "shared"));
	CHECK(!strcmp(private + 2 * PAGE, "private") && shared[2 * PAGE] == 0);
	CHECK(!strcmp(shared + 5 * PAGE, "by write"));
	strcpy(shared, "later");
	MUST(pread(open_one, text, 6, 0));
	CHECK(!strcmp(text, "later"), "the descriptor and the mapping no longer share");
	CHECK(!strcmp(kept + 4 * PAGE, "kept"));
	return well();
}
