// write(2) into a memfd between two checkpoints, which no page fault tells of.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	int fd = MUST(memfd_create("written", 0));
	MUST(ftruncate(fd, 64 * PAGE));
	volatile char *mapped = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (int i = 0; i < 64; i++)
		mapped[i * PAGE] = 1;
	write_file("ready", "");
	while (!told("change"))
		tick();
	for (int i = 0; i < 64; i += 2)
		MUST(pwrite(fd, "\2", 1, i * PAGE));
	MUST(ftruncate(fd, 63 * PAGE));
	MUST(ftruncate(fd, 65 * PAGE));
	write_file("changed", "");
	while (!told("go"))
		tick();
	for (int i = 0; i < 63; i++)
		CHECK(mapped[i * PAGE] == (i % 2 ? 1 : 2), "page %d is %d", i, mapped[i * PAGE]);
	CHECK(mapped[63 * PAGE] == 0, "the page that was cut off is back");
	struct stat stat;
	MUST(fstat(fd, &stat));
	CHECK(stat.st_size == 65 * PAGE);
	return well();
}
