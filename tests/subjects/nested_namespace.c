// A process whose child is in a namespace of its own.
#include "subject.h"

int main(int argc, char **argv)
{
	begin(argc, argv);
	pid_t child = (pid_t)MUST(fork());
	if (child == 0) {
		MUST(unshare(CLONE_NEWCGROUP));
		write_file("unshared", "");
		for (;;)
			pause();
	}
	while (!told("unshared"))
		tick();
	char number[16];
	snprintf(number, sizeof number, "%d", child);
	write_file("child", number);

	ready_and_wait();

	CHECK(kill(child, SIGKILL) == 0);
	return well();
}
