// Shared memory without a name: one object behind two mappings stays one, with what is in it.
#include "subject.h"

#define SIZE (32 * PAGE)

int main(int argc, char **argv)
{
	begin(argc, argv);
	char *one = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(one != MAP_FAILED);
	char *two = mremap(one, 0, SIZE, MREMAP_MAYMOVE); // the same pages once more
	CHECK(two != MAP_FAILED && two != one);
	char *alone = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(one + 5 * PAGE, "through one");
	strcpy(two + 6 * PAGE, "through two");
	strcpy(alone, "alone");
	// Mapped nowhere any more, but still in the object: the middle of it.
	MUST(munmap(two + 10 * PAGE, 2 * PAGE));
	// A part that only a mapping with another protection shows.
	MUST(mprotect(two, PAGE, PROT_READ));
	ready_and_wait();
	CHECK(!strcmp(one + 6 * PAGE, "through two") && !strcmp(two + 5 * PAGE, "through one"));
	strcpy(one, "later");
	CHECK(!strcmp(two, "later"), "the two mappings no longer share");
	CHECK(!strcmp(alone, "alone") && alone[20 * PAGE] == 0);
	for (unsigned i = 20 * PAGE; i < SIZE; i++)
		CHECK(one[i] == 0);
	strcpy(one, "");
	return well();
}
