// eventfds: counter, semaphore mode, flags.
#include "subject.h"
#include <sys/eventfd.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	int counter = MUST(eventfd(41, EFD_NONBLOCK)), semaphore = MUST(eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC)),
	    nearly_full = MUST(eventfd(0, EFD_NONBLOCK)), empty = MUST(eventfd(0, EFD_NONBLOCK));
	uint64_t value = UINT64_MAX - 1;
	MUST(write(nearly_full, &value, 8));
	ready_and_wait();
	CHECK(read(counter, &value, 8) == 8 && value == 41, "%lu", value);
	for (int i = 0; i < 3; i++)
		CHECK(read(semaphore, &value, 8) == 8 && value == 1);
	CHECK(read(semaphore, &value, 8) == -1 && errno == EAGAIN);
	CHECK(fcntl(semaphore, F_GETFD) == FD_CLOEXEC);
	value = 1;
	CHECK(write(nearly_full, &value, 8) == -1 && errno == EAGAIN);
	CHECK(read(nearly_full, &value, 8) == 8 && value == UINT64_MAX - 1);
	CHECK(read(empty, &value, 8) == -1 && errno == EAGAIN);
	return well();
}
