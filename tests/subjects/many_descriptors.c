// So many descriptors, or as many as the hard limit allows but for a few: `many_descriptors DIRECTORY [COUNT]`.
#include "subject.h"
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { SPARE = 200, MOST = 20000 };

int main(int argc, char **argv)
{
	begin(argc, argv);
	struct rlimit limit;
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur = limit.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	int count = limit.rlim_max > MOST ? MOST : (int)limit.rlim_max - SPARE;
	if (argc > 2)
		count = atoi(argv[2]);
	int first = (int)MUST(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	for (int i = 1; i < count; i++)
		MUST(i % 3 ? eventfd((unsigned)i, EFD_CLOEXEC | EFD_NONBLOCK) : open("/dev/null", O_RDWR | O_CLOEXEC));
	ready_and_wait();
	for (int i = 1; i < count; i++) {
		eventfd_t value = 0;
		if (i % 3)
			CHECK(eventfd_read(first + i, &value) == 0 && value == (eventfd_t)i, "%d: %lu", i, value);
		else
			CHECK(write(first + i, "", 1) == 1, "%d", i);
	}
	return well();
}
