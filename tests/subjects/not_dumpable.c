// PR_SET_DUMPABLE 0: /proc/PID belongs to root, and a debugger of the same user may not attach.
#include "subject.h"
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	begin(argc, argv);
	MUST(prctl(PR_SET_DUMPABLE, 0));
	ready_and_wait();
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	return well();
}
